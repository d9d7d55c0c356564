package engine_test

import (
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/engine"
	"github.com/weftrun/weft/wasm/wasmtest"
)

func BenchmarkPrepareWarm(b *testing.B) {
	e := open(b, engine.Config{})
	digest, path := wasmtest.WriteModule(b, "park")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Prepare(b.Context(), digest, path); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPrepareCached loads a Go module that the disk has compiled.
func BenchmarkPrepareCached(b *testing.B) {
	dir := b.TempDir()
	goModule(b, open(b, engine.Config{CacheDir: dir}), "hello")
	path := b.TempDir() + "/hello.wasm"
	content := wasmtest.BuildGo(b, examples+"hello")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		b.Fatal(err)
	}
	digest := wasmtest.Digest(content)
	for b.Loop() {
		e := open(b, engine.Config{CacheDir: dir})
		if _, err := e.Prepare(b.Context(), digest, path); err != nil {
			b.Fatal(err)
		}
		if err := e.Close(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStart(b *testing.B) {
	for _, tc := range []struct {
		name, module string
		args         []string
	}{
		{"park", "", []string{"park"}},
		{"go", "hello", []string{"hello", "-interval=1h"}},
	} {
		b.Run(tc.name, func(b *testing.B) {
			e := open(b, engine.Config{})
			var m wasm.Module
			if tc.module == "" {
				m = prepare(b, e, "park")
			} else {
				m = goModule(b, e, tc.module)
			}
			benchmarkStart(b, sandbox(b, e, "s"), m, tc.args)
		})
	}
}

// benchmarkStart reports the median, as a collection in between is no start.
func benchmarkStart(b *testing.B, s wasm.Sandbox, m wasm.Module, args []string) {
	var took []time.Duration
	var running []wasm.Instance
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		begin := time.Now()
		i, err := s.Start(b.Context(), m, wasm.Program{ID: fmt.Sprint(n), Args: args})
		if err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begin))
		if running = append(running, i); len(running) == 200 {
			b.StopTimer()
			end(b, running)
			running = running[:0]
			b.StartTimer()
		}
	}
	end(b, running)
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
}

func end(b *testing.B, all []wasm.Instance) {
	for _, i := range all {
		if err := i.Kill(b.Context()); err != nil {
			b.Fatal(err)
		}
		wait(b, i)
		if err := i.Release(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPi is a guest that computes, interruptible as it is.
func BenchmarkPi(b *testing.B) {
	e := open(b, engine.Config{})
	s, m := sandbox(b, e, "s"), goModule(b, e, "pi")
	for n := 0; b.Loop(); n++ {
		if exit := wait(b, start(b, s, m, wasm.Program{ID: fmt.Sprint(n), Args: []string{"pi", "20000"}})); exit.Code != 0 {
			b.Fatalf("got %+v", exit)
		}
	}
}

// BenchmarkParked reports what a guest that sleeps costs in resident memory.
func BenchmarkParked(b *testing.B) {
	for _, tc := range []struct {
		name  string
		count int
		args  []string
	}{
		{"park", 2000, []string{"park"}},
		{"go", 50, []string{"hello", "-interval=1h"}},
	} {
		b.Run(tc.name, func(b *testing.B) {
			e := open(b, engine.Config{})
			var m wasm.Module
			if tc.name == "park" {
				m = prepare(b, e, "park")
			} else {
				m = goModule(b, e, "hello")
			}
			for b.Loop() {
				before := resident(b)
				var all []wasm.Instance
				for n := range tc.count {
					all = append(all, start(b, sandbox(b, e, fmt.Sprint(n)), m, wasm.Program{Args: tc.args}))
				}
				time.Sleep(time.Second) // until all have come to rest
				b.ReportMetric(float64(resident(b)-before)/float64(tc.count), "KiB/guest")
				end(b, all)
			}
		})
	}
}

// resident returns the process's resident memory in KiB.
func resident(b *testing.B) int {
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip("no /proc here")
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	var n int
	if _, err := fmt.Sscan(rest, &n); err != nil {
		b.Fatal(err)
	}
	return n
}
