package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
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

// once lets f decide about the first append, and stores the rest.
func once(f func([]byte) (bool, error)) func([]byte) (bool, error) {
	var done bool
	return func(record []byte) (bool, error) {
		if done {
			return true, nil
		}
		done = true
		return f(record)
	}
}

func create(ctx context.Context, s *store.Store, name string) error {
	o := configMap("ns", name, "1")
	_, err := s.Commit(ctx, s.Epoch(), []core.Op{{Key: core.KeyFor(core.ConfigMaps, o), Object: o}})
	return err
}

// TestUnknownOutcome has the log lose a request or its answer once: in every
// case the commit succeeds, and its record is stored exactly once.
func TestUnknownOutcome(t *testing.T) {
	reads := 0
	tests := map[string]struct {
		fault func([]byte) (bool, error)
		read  func() error
	}{
		"answer lost":  {fault: lostAnswer},
		"request lost": {fault: lostRequest},
		"stored, then refused as a conflict": {fault: func([]byte) (bool, error) {
			return true, fmt.Errorf("fake: %w", bus.ErrConflict)
		}},
		"answer lost, and the log away for a while": {fault: lostAnswer, read: func() error {
			if reads++; reads < 20 {
				return errLostAnswer
			}
			return nil
		}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDisk()
				s, stop := d.open(t)
				d.wal.mu.Lock()
				d.wal.fault, d.wal.readFault = once(tc.fault), tc.read
				before := len(d.wal.records)
				d.wal.mu.Unlock()
				if err := create(t.Context(), s, "a"); err != nil {
					t.Fatal(err)
				}
				if n := len(d.wal.clone().records) - before; n != 1 {
					t.Errorf("%d records, want 1", n)
				}
				if err := stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestContradiction: a log that refuses the next record, and says that its last
// is the one expected, is not asked for ever.
func TestContradiction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		s, stop := d.open(t)
		d.wal.mu.Lock()
		d.wal.fault = func([]byte) (bool, error) { return false, fmt.Errorf("fake: %w", bus.ErrConflict) }
		d.wal.mu.Unlock()
		if err := create(t.Context(), s, "a"); !apierrors.IsTimeout(err) {
			t.Errorf("got %v, want a time-out", err)
		}
		if err := stop(); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), "says that 1 is the last") {
			t.Errorf("Run returned %v", err)
		}
	})
}

// TestAnotherLeader opens a second store over the same log: the first ends at
// its next write, which is nowhere to be seen, and accepts no more.
func TestAnotherLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		first, stop := d.open(t)
		if err := create(t.Context(), first, "a"); err != nil {
			t.Fatal(err)
		}
		w, err := first.Watch(core.ConfigMaps, "", first.Snapshot().Revision())
		if err != nil {
			t.Fatal(err)
		}
		second, _ := d.open(t)
		var group sync.WaitGroup
		for i := range 5 {
			group.Go(func() {
				err := create(t.Context(), first, fmt.Sprint("late", i))
				if !apierrors.IsTimeout(err) && !apierrors.IsServiceUnavailable(err) {
					t.Errorf("got %v, want a time-out or unavailable", err)
				}
			})
		}
		group.Wait()
		if err := stop(); !errors.Is(err, store.ErrLost) {
			t.Errorf("Run returned %v, want %v", err, store.ErrLost)
		}
		if err := create(t.Context(), first, "later"); !apierrors.IsServiceUnavailable(err) {
			t.Errorf("got %v, want unavailable", err)
		}
		if _, err := first.WaitFor(t.Context(), 1); !apierrors.IsServiceUnavailable(err) {
			t.Errorf("got %v, want unavailable", err)
		}
		if _, err := w.Next(t.Context()); !apierrors.IsServiceUnavailable(err) {
			t.Errorf("got %v, want unavailable", err)
		}
		if n := first.Snapshot().Count(core.ConfigMaps); n != 1 {
			t.Errorf("%d objects, want 1: a write that was not logged is visible", n)
		}
		if err := create(t.Context(), second, "b"); err != nil {
			t.Error(err)
		}
		if n := second.Snapshot().Count(core.ConfigMaps); n != 2 {
			t.Errorf("%d objects, want 2", n)
		}
	})
}

// TestTakeOverWhileWriting: a successor wins against a leader that writes all
// the time, and has everything that one acknowledged.
func TestTakeOverWhileWriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		d.wal.latency = time.Millisecond
		first, stop := d.open(t)
		var group sync.WaitGroup
		var mu sync.Mutex
		var acked []string
		for w := range 4 {
			group.Go(func() {
				for i := 0; ; i++ {
					name := fmt.Sprint(w, "-", i)
					if err := create(t.Context(), first, name); err != nil {
						return
					}
					mu.Lock()
					acked = append(acked, name)
					mu.Unlock()
				}
			})
		}
		time.Sleep(50 * time.Millisecond)
		second, _ := d.open(t)
		group.Wait()
		if err := stop(); !errors.Is(err, store.ErrLost) {
			t.Errorf("Run: %v, want %v", err, store.ErrLost)
		}
		for _, name := range acked {
			wantValue(t, second.Snapshot(), "ns", name, "1")
		}
		if len(acked) == 0 {
			t.Error("nothing was acknowledged")
		}
	})
}

// TestLeading: a leader whose time is over acknowledges nothing.
func TestLeading(t *testing.T) {
	d := newDisk()
	leading := true
	var mu sync.Mutex
	s, stop := d.open(t, func(c *store.Config) {
		c.Leading = func() bool {
			mu.Lock()
			defer mu.Unlock()
			return leading
		}
	})
	mu.Lock()
	leading = false
	mu.Unlock()
	if _, err := s.WaitFor(t.Context(), 1); !apierrors.IsServiceUnavailable(err) {
		t.Errorf("WaitFor: %v, want unavailable", err)
	}
	if err := create(t.Context(), s, "a"); !apierrors.IsTimeout(err) {
		t.Errorf("Commit: %v, want a time-out", err)
	}
	if err := stop(); !errors.Is(err, store.ErrNotLeading) {
		t.Errorf("Run: %v, want %v", err, store.ErrNotLeading)
	}
}

// TestRefusedRecord: a full disk fails writes, and no more than that.
func TestRefusedRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		said := &strings.Builder{} // by the store's goroutine, until it has ended
		s, stop := d.open(t, func(c *store.Config) { c.Logger = slog.New(slog.NewTextHandler(said, nil)) })
		put(t, s, configMap("ns", "a", "1"), 0)
		d.wal.mu.Lock()
		d.wal.fault = refusedRequest
		d.wal.mu.Unlock()
		for range 3 {
			if err := create(t.Context(), s, "b"); !apierrors.IsServiceUnavailable(err) || !apierrors.HasStatusCause(err, core.CauseLogRefused) {
				t.Errorf("got %v, want unavailable, and that the log is why", err)
			}
		}
		if _, ok := s.Latest(mapKey("ns", "b")); ok {
			t.Error("a refused write left something behind")
		}
		d.wal.mu.Lock()
		d.wal.fault = nil
		d.wal.mu.Unlock()
		if err := create(t.Context(), s, "b"); err != nil {
			t.Error(err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if strings.Count(said.String(), "log refuses records") != 1 || !strings.Contains(said.String(), "log takes records again\" refused=3") {
			t.Errorf("it said: %s", said)
		}
	})
}

// TestRefusedAfterUnknown: a request without an answer may arrive after all, so
// that a refusal of the next attempt does not say that the record is not stored.
func TestRefusedAfterUnknown(t *testing.T) {
	for name, tt := range map[string]struct {
		then func(d disk, sent []byte) // while attempts are refused
	}{
		"it arrives late": {func(d disk, sent []byte) { d.wal.records = append(d.wal.records, sent) }},
		"there is room":   {func(d disk, _ []byte) { d.wal.fault = nil }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDisk()
				s, stop := d.open(t)
				var sent []byte
				d.wal.mu.Lock()
				d.wal.fault = func(record []byte) (bool, error) {
					if sent == nil {
						sent = bytes.Clone(record)
						return lostRequest(record)
					}
					return refusedRequest(record)
				}
				d.wal.mu.Unlock()
				var others sync.WaitGroup
				others.Go(func() {
					if err := create(t.Context(), s, "a"); err != nil {
						t.Errorf("create: %v", err)
					}
				})
				time.Sleep(time.Millisecond)
				others.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
					defer cancel()
					if err := create(ctx, s, "waits"); !apierrors.IsTimeout(err) || !strings.Contains(err.Error(), errDiskFull.Error()) {
						t.Errorf("one that waits behind it got %v, want a timeout that says why", err)
					}
				})
				time.Sleep(10 * time.Second)
				begin := time.Now()
				if err := create(t.Context(), s, "later"); !apierrors.HasStatusCause(err, core.CauseLogRefused) || time.Since(begin) > 0 {
					t.Errorf("one that comes later got %v after %v, want a refusal at once", err, time.Since(begin))
				}
				d.wal.mu.Lock()
				tt.then(d, sent)
				d.wal.mu.Unlock()
				others.Wait()
				d.wal.mu.Lock()
				d.wal.fault = nil
				d.wal.mu.Unlock()
				if err := create(t.Context(), s, "b"); err != nil {
					t.Errorf("the next: %v", err)
				}
				if err := stop(); err != nil {
					t.Errorf("Run: %v", err)
				}
				again, _ := d.crash().open(t)
				want := 2
				if _, ok := again.Latest(mapKey("ns", "waits")); ok { // or the log refused it as well
					want++
				}
				for _, name := range []string{"a", "b"} {
					if _, ok := again.Latest(mapKey("ns", name)); !ok {
						t.Errorf("%s is lost", name)
					}
				}
				if n := again.Snapshot().Count(core.ConfigMaps); n != want {
					t.Errorf("%d config maps after a restart, want %d", n, want)
				}
			})
		})
	}
}

// TestOtherError: what the log's contract does not know ends the store.
func TestOtherError(t *testing.T) {
	d := newDisk()
	s, stop := d.open(t)
	d.wal.mu.Lock()
	d.wal.fault = func([]byte) (bool, error) { return false, errOther }
	d.wal.mu.Unlock()
	err := create(t.Context(), s, "a")
	if _, again := apierrors.SuggestsClientDelay(err); !apierrors.IsTimeout(err) || again {
		t.Errorf("got %v, want a time-out that clients do not repeat by themselves (%v)", err, again)
	}
	if err := stop(); !errors.Is(err, errOther) {
		t.Errorf("Run: %v, want %v", err, errOther)
	}
}

// TestOneInFlight: while a record is on its way, commits of one object in a
// row are accepted one upon the other, and the next record takes them all.
func TestOneInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		s, _ := d.open(t)
		a := put(t, s, configMap("ns", "a", "0"), 0)
		d.wal.latency = time.Second
		start, appends := time.Now(), s.Stats().Appends
		var group sync.WaitGroup
		for i := range 10 {
			group.Go(func() { put(t, s, configMap("ns", "a", fmt.Sprint(i+1)), core.Revision(a)) })
			synctest.Wait()
			latest, _ := s.Latest(mapKey("ns", "a"))
			if latest == a {
				t.Fatal("a commit was not accepted")
			}
			a = latest
			wantValue(t, s.Snapshot(), "ns", "a", "0")
		}
		time.Sleep(1500 * time.Millisecond)
		wantValue(t, s.Snapshot(), "ns", "a", "1") // the first record is there
		if latest, _ := s.Latest(mapKey("ns", "a")); latest != a {
			t.Errorf("the latest is %v, want %v", latest, a)
		}
		group.Wait()
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("ten commits took %v, want two appends of 1s", took)
		}
		if n := s.Stats().Appends - appends; n != 2 {
			t.Errorf("%d records, want 2", n)
		}
		wantValue(t, s.Snapshot(), "ns", "a", "10")
	})
}

// TestDrain: what was accepted when Run's context ends is finished, if the log
// answers in time.
func TestDrain(t *testing.T) {
	for _, tc := range []struct {
		name    string
		latency time.Duration
		is      func(error) bool
	}{
		{"in time", time.Second, func(err error) bool { return err == nil }},
		{"too late", time.Hour, apierrors.IsTimeout},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDisk()
				s, stop := d.open(t)
				d.wal.latency = tc.latency
				var group sync.WaitGroup
				group.Go(func() {
					if err := create(t.Context(), s, "a"); !tc.is(err) {
						t.Errorf("got %v", err)
					}
				})
				synctest.Wait()
				_ = stop() // an error when it was too late
				group.Wait()
				if err := create(t.Context(), s, "b"); !apierrors.IsServiceUnavailable(err) {
					t.Errorf("got %v, want unavailable", err)
				}
			})
		})
	}
}

func TestCommitContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		s, _ := d.open(t)
		d.wal.latency = time.Minute
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := create(ctx, s, "a"); !apierrors.IsTimeout(err) {
			t.Errorf("got %v, want a time-out", err)
		}
		time.Sleep(2 * time.Minute)
		if _, ok := s.Snapshot().Get(mapKey("ns", "a")); !ok {
			t.Error("the write was dropped after it had been sent")
		}
	})
}

// TestWaitingIsBounded: callers that give up leave their commits behind, so a
// log that does not answer must not take more and more of them.
func TestWaitingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		s, stop := d.open(t)
		d.wal.mu.Lock()
		d.wal.fault = lostRequest
		d.wal.readFault = func() error { return errLostAnswer }
		d.wal.mu.Unlock()
		value := strings.Repeat("x", 1<<20)
		var err error
		n := 0
		for ; n < 200 && !apierrors.IsTooManyRequests(err); n++ {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			_, err = s.Commit(ctx, s.Epoch(), []core.Op{{Key: mapKey("ns", fmt.Sprint(n)), Object: configMap("ns", fmt.Sprint(n), value)}})
			cancel()
		}
		if n > 70 {
			t.Errorf("%d MiB wait: %v", n, err)
		}
		d.wal.mu.Lock()
		d.wal.fault, d.wal.readFault = nil, nil
		d.wal.mu.Unlock()
		time.Sleep(5 * time.Second)
		if err := create(t.Context(), s, "after"); err != nil {
			t.Error(err)
		}
		if got := s.Stats().Pending; got != 0 {
			t.Errorf("%d still wait", got)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestWaitFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		s, _ := d.open(t)
		d.wal.latency = time.Second
		next := s.Snapshot().Revision() + 1
		var group sync.WaitGroup
		group.Go(func() {
			v, err := s.WaitFor(t.Context(), next)
			if err != nil || v.Revision() != next {
				t.Errorf("got %v, %v", v, err)
			}
		})
		put(t, s, configMap("ns", "a", "1"), 0)
		group.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.WaitFor(ctx, next+1); !apierrors.IsTimeout(err) {
			t.Errorf("got %v, want a time-out", err)
		}
	})
}

func event(name string) *corev1.Event {
	return &corev1.Event{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
		Message:    strings.Repeat("m", 100),
	}
}

func putEvent(t testing.TB, s *store.Store, name string) int64 {
	t.Helper()
	e := event(name)
	kept, err := s.Commit(t.Context(), s.Epoch(), []core.Op{{Key: core.KeyFor(core.Events, e), Object: e}})
	if err != nil {
		t.Fatal(err)
	}
	return core.Revision(kept[0])
}

// TestLazy: events are shown at once, logged with the next record or within a
// second, in one record.
func TestLazy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		s, _ := d.open(t)
		d.wal.latency = 100 * time.Millisecond
		w, err := s.Watch(core.Events, "", s.Snapshot().Revision())
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for i := range 10 {
			putEvent(t, s, fmt.Sprint("e", i))
		}
		if took := time.Since(start); took != 0 || s.Stats().Appends != 0 {
			t.Errorf("events took %v and %d appends, want none", took, s.Stats().Appends)
		}
		if changes, err := w.Next(t.Context()); err != nil || len(changes) != 10 {
			t.Errorf("watched %d changes, %v; want 10", len(changes), err)
		}
		if got, _ := d.crash().open(t); got.Snapshot().Count(core.Events) != 0 {
			t.Error("events were logged at once")
		}
		time.Sleep(1200 * time.Millisecond)
		if got, _ := d.crash().open(t); got.Snapshot().Count(core.Events) != 10 || s.Stats().Appends != 1 {
			t.Errorf("after a second %d events are in %d records, want 10 in 1", got.Snapshot().Count(core.Events), s.Stats().Appends)
		}
		putEvent(t, s, "last")
		put(t, s, configMap("ns", "a", "1"), 0)
		if got, _ := d.crash().open(t); got.Snapshot().Count(core.Events) != 11 || s.Stats().Appends != 2 {
			t.Errorf("%d events in %d records, want 11 in 2", got.Snapshot().Count(core.Events), s.Stats().Appends)
		}
	})
}

// TestLazyDrain: a stop in good order loses no event.
func TestLazyDrain(t *testing.T) {
	d := newDisk()
	s, stop := d.open(t)
	putEvent(t, s, "a")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if s, _ = d.crash().open(t); s.Snapshot().Count(core.Events) != 1 {
		t.Error("the event is lost")
	}
}

// TestDamage flips each of some bytes, drops records and puts foreign ones in:
// each is refused, and its number named.
func TestDamage(t *testing.T) {
	d := newDisk()
	s, stop := d.open(t)
	for i := range 5 {
		put(t, s, configMap("ns", fmt.Sprint("m", i), "1"), 0)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	other, err := store.NewKey(bytes.Repeat([]byte{1}, store.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		change func(d disk, c *store.Config)
		is     error
		text   string
	}{
		"bit":        {func(d disk, _ *store.Config) { d.wal.records[3][90] ^= 1 }, store.ErrDamaged, "log WAL: record 4: damaged: its checksum is"},
		"header bit": {func(d disk, _ *store.Config) { d.wal.records[3][20] ^= 1 }, store.ErrDamaged, "record 4"},
		"short":      {func(d disk, _ *store.Config) { d.wal.records[3] = d.wal.records[3][:40] }, store.ErrDamaged, "record 4"},
		"newer": {func(d disk, _ *store.Config) { d.wal.records[3][4], d.wal.records[3][5] = 9, 7 }, store.ErrTooNew,
			"log WAL: record 4: written by a newer version of weft: format 9 needs a reader of version 7, this one has 1"},
		"missing": {func(d disk, _ *store.Config) { d.wal.records[3] = nil }, store.ErrDamaged, "log WAL: damaged: record 4 is missing, record 5 follows"},
		"trimmed": {func(d disk, _ *store.Config) { _ = d.wal.Trim(t.Context(), 3) }, nil, "log WAL: incomplete: records 1 to 2 are missing"},
		"key":     {func(_ disk, c *store.Config) { c.Key = other }, store.ErrWrongKey, "log WAL: record 1: encrypted with another key"},
		"order": {func(d disk, _ *store.Config) {
			d.wal.records[3], d.wal.records[4] = d.wal.records[4], d.wal.records[3]
		}, store.ErrDamaged, "record 5"},
		"term twice": {func(d disk, _ *store.Config) { d.wal.records[2] = d.wal.records[0] }, store.ErrDamaged, "record 3: damaged: term 1"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			d := d.crash()
			for i := range d.wal.records {
				d.wal.records[i] = bytes.Clone(d.wal.records[i])
			}
			config := d.config(t)
			tc.change(d, &config)
			_, err := store.Open(t.Context(), config)
			if err == nil || tc.is != nil && !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v, want %q", err, tc.text)
			}
		})
	}
}

func TestConfigValidate(t *testing.T) {
	_, err := store.Open(t.Context(), store.Config{LazyFlush: -1})
	for _, field := range []string{"Log", "Snapshots", "Key", "Logger", "LazyFlush must not be negative"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%v does not name %s", err, field)
		}
	}
}
