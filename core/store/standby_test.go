package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/store"
)

// follow returns a standby of the disk that another store writes to.
func (d disk) follow(t *testing.T) *store.Standby {
	t.Helper()
	s, err := store.Follow(t.Context(), d.config(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func catchUp(t *testing.T, s *store.Standby) {
	t.Helper()
	if err := s.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestStandby: a standby that followed a leader takes over with all that it
// acknowledged, and the leader can write no more.
func TestStandby(t *testing.T) {
	d := newDisk()
	first, stop := d.open(t)
	standby := d.follow(t)
	from := first.Snapshot().Revision()
	a := put(t, first, configMap("ns", "a", "1"), 0)
	put(t, first, configMap("ns", "b", "1"), 0)
	catchUp(t, standby)
	if standby.Sequence() != first.Stats().Sequence {
		t.Errorf("the standby has applied %d records, the log has %d", standby.Sequence(), first.Stats().Sequence)
	}
	put(t, first, configMap("ns", "a", "2"), core.Revision(a))
	put(t, first, configMap("ns", "c", "1"), 0)

	second, err := standby.Lead(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	run(t, second)
	if second.Term() != first.Term()+1 {
		t.Errorf("term %d follows term %d", second.Term(), first.Term())
	}
	for name, value := range map[string]string{"a": "2", "b": "1", "c": "1"} {
		wantValue(t, second.Snapshot(), "ns", name, value)
	}
	if err := create(t.Context(), first, "late"); err == nil {
		t.Error("the leader before acknowledged a write")
	}
	if err := stop(); !errors.Is(err, store.ErrLost) {
		t.Errorf("Run: %v, want %v", err, store.ErrLost)
	}
	put(t, second, configMap("ns", "d", "1"), 0)
	// A watch resumes across the take-over.
	w, err := second.Watch(core.ConfigMaps, "ns", from)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	changes, err := w.Next(t.Context())
	if err != nil || len(changes) != 5 {
		t.Errorf("the watch has %d changes, want 5: %v", len(changes), err)
	}
}

// TestStandbyFallsBehind: what was trimmed before the standby read it, it takes
// from the snapshot.
func TestStandbyFallsBehind(t *testing.T) {
	d := newDisk()
	first, _ := d.open(t)
	standby := d.follow(t)
	for i := range 60 {
		put(t, first, configMap("ns", fmt.Sprint("m", i), "1"), 0)
		if i%20 == 19 {
			if err := first.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if begin, _, _ := d.wal.Bounds(t.Context()); begin <= standby.Sequence()+1 {
		t.Fatalf("the log begins at %d, so nothing was trimmed that the standby lacks", begin)
	}
	catchUp(t, standby)
	second, err := standby.Lead(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := second.Snapshot().Count(core.ConfigMaps); n != 60 {
		t.Errorf("%d config maps, want 60", n)
	}
}

// brokenLog ends each read after some records.
type brokenLog struct {
	bus.Log
	after int
}

func (l *brokenLog) Read(ctx context.Context, from uint64) iter.Seq2[bus.Record, error] {
	return func(yield func(bus.Record, error) bool) {
		n := 0
		for r, err := range l.Log.Read(ctx, from) {
			if n++; n > l.after {
				yield(bus.Record{}, errLostAnswer)
				return
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// TestStandbyInterrupted: a read that breaks off is continued, not repeated.
func TestStandbyInterrupted(t *testing.T) {
	d := newDisk()
	first, _ := d.open(t)
	config := d.config(t)
	config.Log = &brokenLog{d.wal, 7}
	standby, err := store.Follow(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		put(t, first, configMap("ns", fmt.Sprint("m", i), "1"), 0)
	}
	tries := 1
	for ; ; tries++ {
		before := standby.Sequence()
		err := standby.CatchUp(t.Context())
		if err == nil {
			break
		}
		if !errors.Is(err, bus.ErrUnavailable) || tries > 5 {
			t.Fatal(err)
		}
		if standby.Sequence() == before {
			t.Fatalf("no record was applied after %d", before)
		}
	}
	if tries != 3 {
		t.Errorf("20 records, 7 at a time, took %d tries", tries)
	}
	second, err := standby.Lead(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := second.Snapshot().Count(core.ConfigMaps); n != 20 {
		t.Errorf("%d config maps, want 20", n)
	}
}

// TestStandbyOfAnotherLog: a log that has lost records, or was replaced, is not
// taken over.
func TestStandbyOfAnotherLog(t *testing.T) {
	d := newDisk()
	first, stop := d.open(t)
	for i := range 5 {
		put(t, first, configMap("ns", fmt.Sprint("m", i), "1"), 0)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	standby := d.follow(t)
	d.wal.records = d.wal.records[:3]
	_, err := standby.Lead(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "it ends with record 3, and record 6 was read before") {
		t.Errorf("error %v", err)
	}
	if len(d.wal.records) != 3 {
		t.Error("a record was appended")
	}
}

// hookedLog calls before with each record that is appended.
type hookedLog struct {
	bus.Log
	before func(record []byte)
}

func (l *hookedLog) Append(ctx context.Context, last uint64, record []byte) (uint64, error) {
	l.before(record)
	return l.Log.Append(ctx, last, record)
}

// TestRestoreUnderStandby restores a backup while a core stands by: it leads
// with the backup's state, whatever it has seen of the restore.
func TestRestoreUnderStandby(t *testing.T) {
	backup := backupOf(t, 30)
	restore := func(t *testing.T, d disk, written func(snapshot []byte)) {
		config := d.config(t)
		config.Snapshots = &hookedLog{d.snapshots, written}
		if _, err := store.Restore(t.Context(), config, bytes.NewReader(backup), backupKey); err != nil {
			t.Fatal(err)
		}
	}
	for name, follow := range map[string]func(t *testing.T, d disk, standby *store.Standby){
		"sees nothing": func(t *testing.T, d disk, _ *store.Standby) { restore(t, d, func([]byte) {}) },
		"sees its end": func(t *testing.T, d disk, standby *store.Standby) {
			restore(t, d, func([]byte) {})
			catchUp(t, standby)
		},
		"sees its middle": func(t *testing.T, d disk, standby *store.Standby) {
			restore(t, d, func([]byte) { catchUp(t, standby) })
		},
		"sees another lead": func(t *testing.T, d disk, standby *store.Standby) {
			restore(t, d, func([]byte) { catchUp(t, standby) })
			s, _ := d.open(t)
			o, _ := s.Snapshot().Get(mapKey("ns", "m0"))
			put(t, s, configMap("ns", "m0", "2"), core.Revision(o))
			catchUp(t, standby)
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDisk()
			first, _ := d.open(t)
			put(t, first, configMap("ns", "old", "1"), 0)
			standby := d.follow(t)
			follow(t, d, standby)
			wantRestored(t, d, standby)
		})
	}
}

// TestRestoreEndsAsStandbyLeads: the snapshot of the restore comes just before
// the standby's term begins.
func TestRestoreEndsAsStandbyLeads(t *testing.T) {
	backup := backupOf(t, 30)
	d := newDisk()
	first, _ := d.open(t)
	put(t, first, configMap("ns", "old", "1"), 0)
	var manifest []byte
	config := d.config(t)
	config.Log = &hookedLog{d.wal, func([]byte) {
		if manifest != nil {
			_, _ = d.snapshots.Append(t.Context(), d.snapshots.last(), manifest) // a conflict: it is there
			manifest = nil
		}
	}}
	standby, err := store.Follow(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	config = d.config(t)
	config.Snapshots = &hookedLog{d.snapshots, func(record []byte) {
		if record[6] == 4 { // the manifest
			manifest = record
			wantRestored(t, d, standby)
		}
	}}
	if _, err := store.Restore(t.Context(), config, bytes.NewReader(backup), backupKey); err != nil {
		t.Fatal(err)
	}
}

// wantRestored has the standby lead and write, and opens what it has written.
func wantRestored(t *testing.T, d disk, standby *store.Standby) {
	t.Helper()
	s, err := standby.Lead(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, s)
	if _, ok := s.Snapshot().Get(mapKey("ns", "old")); ok || s.Snapshot().Count(core.ConfigMaps) != 30 {
		t.Errorf("it leads with %d config maps, want the backup's 30", s.Snapshot().Count(core.ConfigMaps))
	}
	put(t, s, configMap("ns", "new", "1"), 0)
	if err := stop(); err != nil {
		t.Error(err)
	}
	again, err := store.Open(t.Context(), d.crash().config(t))
	if err != nil {
		t.Fatal(err)
	}
	if n := again.Snapshot().Count(core.ConfigMaps); n != 31 {
		t.Errorf("opened again: %d config maps, want 31", n)
	}
}

// BenchmarkTakeOver is what a warm standby does to lead, beside BenchmarkOpen.
func BenchmarkTakeOver(b *testing.B) {
	d := newDisk()
	config := d.config(b)
	s, err := store.Open(b.Context(), config)
	if err != nil {
		b.Fatal(err)
	}
	stop := run(b, s)
	fill(b, s, 10_000)
	if err := stop(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		b.StopTimer()
		standby, err := store.Follow(b.Context(), config)
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if _, err := standby.Lead(b.Context(), nil); err != nil {
			b.Fatal(err)
		}
	}
}
