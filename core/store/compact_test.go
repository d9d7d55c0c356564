package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/store"
)

// generations returns a disk with two snapshots, the second after 40 of 50
// config maps.
func generations(t *testing.T) disk {
	t.Helper()
	d := newDisk()
	s, stop := d.open(t)
	for i := range 50 {
		if i == 20 || i == 40 {
			if err := s.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		put(t, s, configMap(fmt.Sprint("ns", i%2), fmt.Sprint("m", i), "1"), 0)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	return d.crash()
}

func TestCompactTrims(t *testing.T) {
	d := generations(t)
	if d.wal.first != 21 {
		t.Errorf("the log begins at record %d, want 21: the last one of the older snapshot", d.wal.first)
	}
	if n := len(d.snapshots.records); n != 4 {
		t.Errorf("%d records of snapshots, want two chunks and two manifests", n)
	}
	s, _ := d.open(t)
	if n := s.Snapshot().Count(core.ConfigMaps); n != 50 {
		t.Errorf("%d config maps, want 50", n)
	}
	st := s.Stats()
	if st.LogRecords != 11 || st.SnapshotRevision == 0 || st.Objects != 50 {
		t.Errorf("stats %+v, want 11 records since the snapshot, one of them the new term's", st)
	}
}

// TestCompactFallsBack damages snapshots: recovery uses the older one if the
// log reaches back to it, and else names what is wrong.
func TestCompactFallsBack(t *testing.T) {
	tests := map[string]struct {
		change func(d disk)
		text   string // of the error; empty for none
	}{
		"newest chunk":    {func(d disk) { d.snapshots.records[2][200] ^= 1 }, ""},
		"newest manifest": {func(d disk) { d.snapshots.records[3][100] ^= 1 }, ""},
		"no manifest":     {func(d disk) { d.snapshots.records = d.snapshots.records[:3] }, ""},
		"missing chunk":   {func(d disk) { d.snapshots.records[2] = nil }, ""},
		"foreign chunk":   {func(d disk) { d.snapshots.records[2] = d.snapshots.records[0] }, ""},
		"both": {func(d disk) {
			d.snapshots.records[0][200] ^= 1
			d.snapshots.records[2][200] ^= 1
		}, "log snapshots: record 3: damaged"},
		"newest, and log too short": {func(d disk) {
			d.snapshots.records[2][200] ^= 1
			_ = d.wal.Trim(t.Context(), 30)
		}, "log WAL: incomplete: records 22 to 29 are missing after the snapshot"},
		"log behind":     {func(d disk) { d.wal.records = d.wal.records[:5] }, "missing, the snapshot of revision"},
		"snapshots gone": {func(d disk) { d.snapshots.records = nil }, "log WAL: incomplete: records 1 to 20 are missing"},
		"newer format": {func(d disk) { d.snapshots.records[3][5] = 99 },
			"log snapshots: record 4: written by a newer version of weft"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			d := generations(t)
			for i := range d.snapshots.records {
				d.snapshots.records[i] = bytes.Clone(d.snapshots.records[i])
			}
			tc.change(d)
			s, err := store.Open(t.Context(), d.config(t))
			if tc.text != "" {
				if err == nil || !strings.Contains(err.Error(), tc.text) {
					t.Errorf("got %v, want %q", err, tc.text)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if n := s.Snapshot().Count(core.ConfigMaps); n != 50 {
				t.Errorf("%d config maps, want 50", n)
			}
		})
	}
}

// TestCompactAfterFallback: the next snapshots replace the damaged one.
func TestCompactAfterFallback(t *testing.T) {
	d := generations(t)
	d.snapshots.records[2] = bytes.Clone(d.snapshots.records[2])
	d.snapshots.records[2][200] ^= 1
	s, stop := d.open(t)
	for range 2 {
		if err := s.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if s, _ = d.crash().open(t); s.Snapshot().Count(core.ConfigMaps) != 50 {
		t.Error("objects are missing")
	}
}

// TestCompactUnsure: a snapshot whose append has an unknown outcome is
// complete; one that is refused or damaged on its way trims nothing.
func TestCompactUnsure(t *testing.T) {
	tests := map[string]struct {
		fault func([]byte) (bool, error)
		fails bool
	}{
		"answer lost": {once(lostAnswer), false},
		"refused":     {once(refusedRequest), true},
		"damaged": {func(record []byte) (bool, error) {
			record[100] ^= 1
			return true, nil
		}, true},
		"conflict": {func([]byte) (bool, error) { return true, errors.Join(bus.ErrConflict, errOther) }, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDisk()
				s, stop := d.open(t)
				put(t, s, configMap("ns", "a", "1"), 0)
				for range 2 {
					if err := s.Compact(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				put(t, s, configMap("ns", "b", "1"), 0)
				d.snapshots.fault = tc.fault
				first := d.wal.first
				if err := s.Compact(t.Context()); (err != nil) != tc.fails {
					t.Errorf("got %v", err)
				} else if err != nil && d.wal.first != first {
					t.Error("the log was trimmed although the snapshot is no good")
				}
				if err := stop(); err != nil {
					t.Fatal(err)
				}
				if s, _ := d.crash().open(t); s.Snapshot().Count(core.ConfigMaps) != 2 {
					t.Error("objects are missing")
				}
			})
		})
	}
}

// TestCompactWhileWriting takes snapshots while commits go on; each is true to
// one revision.
func TestCompactWhileWriting(t *testing.T) {
	d := newDisk()
	s, stop := d.open(t, func(c *store.Config) { c.SnapshotRecords = 20 })
	var group sync.WaitGroup
	for w := range 4 {
		group.Go(func() {
			var expect int64
			for i := range 200 {
				expect = core.Revision(put(t, s, configMap("ns", fmt.Sprint("w", w), fmt.Sprint(i)), expect))
				putEvent(t, s, fmt.Sprintf("e%d-%d", w, i))
			}
		})
	}
	group.Wait()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if s.Stats().SnapshotRevision == 0 {
		t.Error("no snapshot was written")
	}
	s, _ = d.crash().open(t)
	for w := range 4 {
		wantValue(t, s.Snapshot(), "ns", fmt.Sprint("w", w), "199")
	}
	if n := s.Snapshot().Count(core.Events); n != 800 {
		t.Errorf("%d events, want 800", n)
	}
}

// TestRevisionJump: whatever a crash takes, no revision that was seen comes
// again.
func TestRevisionJump(t *testing.T) {
	for _, volatile := range []bool{false, true} {
		t.Run(fmt.Sprint("volatile=", volatile), func(t *testing.T) {
			d := newDisk()
			var seen int64
			for range 5 {
				s, stop := d.open(t, func(c *store.Config) {
					store.SetJump(c, 50)
					c.LazyFlush = time.Hour
				})
				if got := s.Snapshot().Revision(); got <= seen {
					t.Fatalf("opened at revision %d, %d was seen before", got, seen)
				}
				for i := range 333 {
					if volatile {
						seen = putLease(t, s, fmt.Sprint(s.Term(), "-", i))
					} else {
						seen = putEvent(t, s, fmt.Sprint(s.Term(), "-", i))
					}
				}
				if appends := s.Stats().Appends; appends == 0 || appends > 30 {
					t.Errorf("%d appends for 333 revisions with a jump of 50", appends)
				}
				d = d.crash()
				_ = stop() // flushes to the disk that was left behind
			}
		})
	}
}

func putLease(t testing.TB, s *store.Store, name string) int64 {
	t.Helper()
	o := &corev1.ConfigMap{ // any type will do
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
	}
	kept, err := s.Commit(t.Context(), s.Epoch(), []core.Op{{Key: core.KeyFor(core.Leases, o), Object: o}})
	if err != nil {
		t.Fatal(err)
	}
	return core.Revision(kept[0])
}

// TestDeposedCompacts: a leader that was replaced completes no snapshot.
func TestDeposedCompacts(t *testing.T) {
	d := newDisk()
	first, _ := d.open(t)
	put(t, first, configMap("ns", "a", "1"), 0)
	second, _ := d.open(t)
	for range 3 {
		put(t, second, configMap("ns", fmt.Sprint(second.Stats().Revision), "1"), 0)
		if err := second.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.Compact(t.Context()); !errors.Is(err, store.ErrLost) {
		t.Errorf("got %v, want %v", err, store.ErrLost)
	}
	if s, _ := d.crash().open(t); s.Snapshot().Count(core.ConfigMaps) != 4 {
		t.Error("objects are missing")
	}
}

func TestVolatile(t *testing.T) {
	d := newDisk()
	s, stop := d.open(t)
	revision := putLease(t, s, "a")
	if s.Stats().Appends != 0 {
		t.Error("a lease was logged")
	}
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	s, _ = d.open(t)
	if s.Snapshot().Count(core.Leases) != 0 {
		t.Error("a lease was kept")
	}
	// What the watcher has seen is gone, and nobody told it.
	if _, err := s.Watch(core.Leases, "", revision); !apierrors.IsResourceExpired(err) {
		t.Errorf("got %v, want expired", err)
	}
	if _, err := s.Watch(core.Leases, "", s.Snapshot().Revision()); err != nil {
		t.Error(err)
	}
}

// TestLazyWatchAcrossRestart: of lazy objects some may be lost that a watcher
// has seen, so it must start over.
func TestLazyWatchAcrossRestart(t *testing.T) {
	d := newDisk()
	s, _ := d.open(t, func(c *store.Config) { c.LazyFlush = time.Hour })
	logged := putEvent(t, s, "logged")
	put(t, s, configMap("ns", "a", "1"), 0)
	lost := putEvent(t, s, "lost")
	s, _ = d.crash().open(t)
	if n := s.Snapshot().Count(core.Events); n != 1 {
		t.Fatalf("%d events, want 1", n)
	}
	for _, from := range []int64{logged, lost} {
		if _, err := s.Watch(core.Events, "ns", from); !apierrors.IsResourceExpired(err) {
			t.Errorf("from %d: %v, want expired", from, err)
		}
	}
	w, err := s.Watch(core.Events, "ns", s.Snapshot().Revision())
	if err != nil {
		t.Fatal(err)
	}
	if putEvent(t, s, "new"); len(wantChanges(t, w, "ns/new")) != 1 {
		t.Error("the new event is not told")
	}
}

// TestWatchAcrossRestart resumes watches from before a restart: the log since
// the last snapshot refills the ring; what is older is expired.
func TestWatchAcrossRestart(t *testing.T) {
	d := newDisk()
	s, stop := d.open(t)
	old := core.Revision(put(t, s, configMap("ns", "a", "1"), 0))
	elsewhere := core.Revision(put(t, s, configMap("other", "a", "1"), 0))
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	snapshot := s.Snapshot().Revision()
	b := put(t, s, configMap("ns", "b", "1"), 0)
	c := put(t, s, configMap("other", "b", "2"), 0)
	if _, err := s.Commit(t.Context(), s.Epoch(), []core.Op{{Key: mapKey("ns", "b"), Expect: core.Revision(b)}}); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	s, _ = d.crash().open(t)
	if _, err := s.Watch(core.ConfigMaps, "", old); !apierrors.IsResourceExpired(err) {
		t.Errorf("got %v, want expired", err)
	}
	w, err := s.Watch(core.ConfigMaps, "", snapshot)
	if err != nil {
		t.Fatal(err)
	}
	changes := wantChanges(t, w, "ns/b=1 other/b=2 -ns/b")
	for i, want := range []int64{old, elsewhere, core.Revision(b)} {
		if changes[i].Previous != want {
			t.Errorf("%s: previous %d, want %d", changes[i].Key, changes[i].Previous, want)
		}
	}
	if changes[2].Old == nil || changes[0].Old != nil {
		t.Error("the old objects are wrong")
	}
	if w, err = s.Watch(core.ConfigMaps, "", core.Revision(c)); err != nil {
		t.Fatal(err)
	}
	wantChanges(t, w, "-ns/b")
}

// TestWatchFallsBehind: a reader that is too slow is told so, and only it.
func TestWatchFallsBehind(t *testing.T) {
	s, _ := newDisk().open(t, func(c *store.Config) { c.RingEvents = 10 })
	from := s.Snapshot().Revision()
	watch := func(namespace string) core.Watch {
		w, err := s.Watch(core.ConfigMaps, namespace, from)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	slow, quiet, idle := watch(""), watch("quiet"), watch("idle")
	put(t, s, configMap("quiet", "a", "1"), 0)
	wantChanges(t, quiet, "quiet/a=1")
	for i := range 30 {
		put(t, s, configMap("busy", fmt.Sprint(i), "1"), 0)
	}
	if _, err := slow.Next(t.Context()); !apierrors.IsResourceExpired(err) {
		t.Errorf("slow: %v, want expired", err)
	}
	put(t, s, configMap("quiet", "b", "1"), 0)
	put(t, s, configMap("idle", "b", "1"), 0)
	wantChanges(t, quiet, "quiet/b=1")
	wantChanges(t, idle, "idle/b=1")
	if _, err := s.Watch(core.ConfigMaps, "busy", from); !apierrors.IsResourceExpired(err) {
		t.Errorf("busy from the beginning: %v, want expired", err)
	}
}

// TestRingBytes: large objects leave the ring earlier.
func TestRingBytes(t *testing.T) {
	s, _ := newDisk().open(t, func(c *store.Config) { c.RingBytes = 100 << 10 })
	from := s.Snapshot().Revision()
	for i := range 10 {
		put(t, s, configMap("ns", fmt.Sprint(i), strings.Repeat("x", 20<<10)), 0)
	}
	if _, err := s.Watch(core.ConfigMaps, "", from+5); !apierrors.IsResourceExpired(err) {
		t.Errorf("got %v, want expired", err)
	}
	if _, err := s.Watch(core.ConfigMaps, "", from+7); err != nil {
		t.Error(err)
	}
}
