package store_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/store"
)

var kilobyte = strings.Repeat("0123456789abcdef", 56) // 1 KB with the rest

// BenchmarkCommit has callers create objects over a log without latency, and
// over one that takes as long as a synced append.
func BenchmarkCommit(b *testing.B) {
	for _, latency := range []time.Duration{0, 250 * time.Microsecond} {
		for _, callers := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("latency=%v/callers=%d", latency, callers), func(b *testing.B) {
				d := newDisk()
				d.wal.latency = latency
				s, _ := d.open(b)
				var n atomic.Int64
				var group sync.WaitGroup
				b.ReportAllocs()
				b.ResetTimer()
				for range callers {
					group.Go(func() {
						for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
							o := configMap("ns", fmt.Sprintf("m%07d", i), kilobyte)
							if _, err := s.Commit(context.Background(), s.Epoch(), []core.Op{{Key: core.KeyFor(core.ConfigMaps, o), Object: o}}); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				group.Wait()
				b.StopTimer()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
				b.ReportMetric(float64(b.N)/float64(max(1, s.Stats().Appends)), "commits/record")
			})
		}
	}
}

// fill commits n config maps of 1 KB in large commits.
func fill(tb testing.TB, s *store.Store, n int) {
	for i := 0; i < n; {
		var ops []core.Op
		for ; i < n && len(ops) < 250; i++ {
			o := configMap(fmt.Sprintf("ns%d", i%100), fmt.Sprintf("m%07d", i), kilobyte)
			ops = append(ops, core.Op{Key: core.KeyFor(core.ConfigMaps, o), Object: o})
		}
		if _, err := s.Commit(tb.Context(), s.Epoch(), ops); err != nil {
			tb.Fatal(err)
		}
	}
}

func BenchmarkSnapshotGet(b *testing.B) {
	s, _ := newDisk().open(b)
	fill(b, s, 10_000)
	key := mapKey("ns42", "m0000042")
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := s.Snapshot().Get(key); !ok {
			b.Fatal("not found")
		}
	}
}

func BenchmarkSnapshotList(b *testing.B) {
	s, _ := newDisk().open(b)
	fill(b, s, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for range s.Snapshot().List(core.ConfigMaps, "ns42") {
			n++
		}
		if n != 100 {
			b.Fatal(n)
		}
	}
}

// BenchmarkWatchFanOut commits one change for each of 1,000 namespaces, each
// with its own watcher, and waits until all have read theirs.
func BenchmarkWatchFanOut(b *testing.B) {
	const watchers = 1000
	s, _ := newDisk().open(b)
	watches := make([]core.Watch, watchers)
	for i := range watches {
		w, err := s.Watch(core.ConfigMaps, fmt.Sprintf("ns%d", i), s.Snapshot().Revision())
		if err != nil {
			b.Fatal(err)
		}
		watches[i] = w
	}
	b.ReportAllocs()
	round := 0
	for b.Loop() {
		round++
		var ops []core.Op
		for i := range watchers {
			o := configMap(fmt.Sprintf("ns%d", i), fmt.Sprintf("r%d", round), "x")
			ops = append(ops, core.Op{Key: core.KeyFor(core.ConfigMaps, o), Object: o})
		}
		if _, err := s.Commit(b.Context(), s.Epoch(), ops); err != nil {
			b.Fatal(err)
		}
		for _, w := range watches {
			changes, err := w.Next(b.Context())
			if err != nil || len(changes) != 1 {
				b.Fatal(len(changes), err)
			}
		}
	}
	b.ReportMetric(float64(b.N*watchers)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkIdleWatchers says what one busy namespace costs beside 1,000
// watchers of others.
func BenchmarkIdleWatchers(b *testing.B) {
	for _, idle := range []int{0, 1000} {
		b.Run(fmt.Sprintf("idle=%d", idle), func(b *testing.B) {
			s, _ := newDisk().open(b)
			for i := range idle {
				if _, err := s.Watch(core.ConfigMaps, fmt.Sprintf("ns%d", i), s.Snapshot().Revision()); err != nil {
					b.Fatal(err)
				}
			}
			o := put(b, s, configMap("busy", "a", "1"), 0)
			b.ReportAllocs()
			for b.Loop() {
				o = put(b, s, configMap("busy", "a", "1"), core.Revision(o))
			}
		})
	}
}

// BenchmarkOpen recovers 100,000 config maps of 1 KB from a snapshot, and from
// the log alone.
func BenchmarkOpen(b *testing.B) {
	d := newDisk()
	s, stop := d.open(b)
	fill(b, s, 100_000)
	wal := d.crash()
	if err := s.Compact(b.Context()); err != nil {
		b.Fatal(err)
	}
	if err := stop(); err != nil {
		b.Fatal(err)
	}
	for name, d := range map[string]disk{"snapshot": d.crash(), "log": wal} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				s, err := store.Open(b.Context(), d.crash().config(b))
				if err != nil {
					b.Fatal(err)
				}
				if n := s.Snapshot().Count(core.ConfigMaps); n != 100_000 {
					b.Fatal(n)
				}
			}
		})
	}
}

// BenchmarkCompact writes a snapshot of 100,000 config maps of 1 KB.
func BenchmarkCompact(b *testing.B) {
	s, _ := newDisk().open(b)
	fill(b, s, 100_000)
	for b.Loop() {
		if err := s.Compact(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// TestMemory bounds what a config map of 1 KB costs, all in.
func TestMemory(t *testing.T) {
	const n = 10_000
	var before, after runtime.MemStats
	config := newDisk().config(t)
	config.RingEvents = 1 // the state's cost, not that of recent changes
	runtime.GC()
	runtime.ReadMemStats(&before)
	s, err := store.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, s)
	fill(t, s, n)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	config.Log.(*fakeLog).records = nil
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / n
	t.Logf("%d bytes an object", each)
	if each > 4096 {
		t.Errorf("%d bytes an object, want less than 4096", each)
	}
	if o, ok := s.Snapshot().Get(mapKey("ns1", "m0000001")); !ok || o.(*corev1.ConfigMap).Data["value"] != kilobyte {
		t.Error("the object is not as it was written")
	}
}
