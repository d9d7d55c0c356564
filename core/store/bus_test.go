package store_test

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/embedded"
	"github.com/weftrun/weft/bus/memory"
	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/store"
)

var theCore = bus.Identity{Role: bus.RoleCore, Name: "core"}

// onMemory and onEmbedded return connections to a bus that the test owns.
func onMemory(testing.TB) bus.Logs { return memory.New().Connect(theCore) }

func onEmbedded(t testing.TB) bus.Logs {
	t.Helper()
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir(), NoListen: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	b, err := server.Connect(t.Context(), theCore)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() }) // the server is closed next
	return b
}

func openOn(t testing.TB, b bus.Logs) (*store.Store, func() error) {
	t.Helper()
	config := newDisk().config(t)
	for name, log := range map[string]*bus.Log{"WAL": &config.Log, "SNAPSHOTS": &config.Snapshots} {
		l, err := b.OpenLog(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		*log = l
	}
	s, err := store.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return s, run(t, s)
}

// TestOnBuses writes, compacts, restarts and takes over on the real carriers.
func TestOnBuses(t *testing.T) {
	for name, open := range map[string]func(testing.TB) bus.Logs{"memory": onMemory, "embedded": onEmbedded} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			for round := range 4 {
				s, stop := openOn(t, b)
				if got := s.Snapshot().Count(core.ConfigMaps); got != round*100 || s.Term() != int64(round+1) {
					t.Fatalf("opened with %d objects in term %d, want %d in term %d", got, s.Term(), round*100, round+1)
				}
				var group sync.WaitGroup
				for i := range 100 {
					group.Go(func() { put(t, s, configMap("ns", fmt.Sprint(round, "-", i), kilobyte), 0) })
				}
				group.Wait()
				if round > 0 {
					if err := s.Compact(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if round == 2 { // the successor comes while this one leads
					next, _ := openOn(t, b)
					if err := create(t.Context(), s, "late"); err == nil {
						t.Error("a deposed leader wrote")
					}
					if n := next.Snapshot().Count(core.ConfigMaps); n != 300 {
						t.Errorf("the successor has %d objects, want 300", n)
					}
					return
				}
				if err := stop(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkEmbedded commits over a NATS server in this process that syncs each
// record.
func BenchmarkEmbedded(b *testing.B) {
	for _, callers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s, _ := openOn(b, onEmbedded(b))
			var n atomic.Int64
			var group sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for range callers {
				group.Go(func() {
					for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
						put(b, s, configMap("ns", fmt.Sprintf("m%07d", i), kilobyte), 0)
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

// BenchmarkEmbeddedOpen recovers 100,000 config maps of 1 KB from a snapshot.
func BenchmarkEmbeddedOpen(b *testing.B) {
	logs := onEmbedded(b)
	s, stop := openOn(b, logs)
	fill(b, s, 100_000)
	if err := s.Compact(b.Context()); err != nil {
		b.Fatal(err)
	}
	if err := stop(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		start := time.Now()
		s, stop := openOn(b, logs)
		b.ReportMetric(time.Since(start).Seconds(), "last-s")
		if n := s.Snapshot().Count(core.ConfigMaps); n != 100_000 {
			b.Fatal(n)
		}
		if err := stop(); err != nil {
			b.Fatal(err)
		}
	}
}
