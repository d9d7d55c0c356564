package engine_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/engine"
	"github.com/weftrun/weft/wasm/wasmtest"
)

const hostile = "../meter/testdata/hostile/"

func prepareFile(tb testing.TB, e *engine.Engine, path string) wasm.Module {
	tb.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	m, err := e.Prepare(tb.Context(), wasmtest.Digest(content), path)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// Each of them would stop the collector, and with it the process, if it could
// not be interrupted; and each ends soon after it was killed. There are three
// attempts; those in which the machine kept this process waiting for longer than
// that are void, up to thirty.
func TestHostile(t *testing.T) {
	const bound = 50 * time.Millisecond
	paths, err := filepath.Glob(hostile + "*.wasm")
	if err != nil || len(paths) < 10 {
		t.Fatalf("found %v, %v", paths, err)
	}
	e := open(t, engine.Config{})
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".wasm")
		t.Run(name, func(t *testing.T) {
			m := prepareFile(t, e, path)
			var collect, kill time.Duration
			for n, void := 0, 0; n < 3; n++ {
				before := kept(t)
				collect, kill = torment(t, e, m, fmt.Sprint(name, n, void))
				waited := kept(t) - before
				t.Logf("collected in %v, killed in %v; threads were kept waiting for %v", collect, kill, waited)
				if collect < 2*bound && kill < bound {
					return
				}
				if waited > bound && void < 30 {
					void++
					n--
				}
			}
			t.Errorf("the collector took %v, the kill %v", collect, kill)
		})
	}
}

// kept returns how long this process's threads have been ready to run and were not.
func kept(t *testing.T) (waited time.Duration) {
	t.Helper()
	threads, err := filepath.Glob("/proc/self/task/*/schedstat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range threads {
		text, _ := os.ReadFile(path) // it may have ended
		if fields := strings.Fields(string(text)); len(fields) > 1 {
			ns, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			waited += time.Duration(ns)
		}
	}
	return waited
}

// torment runs two guests and returns how long the collector and a kill took.
func torment(t *testing.T, e *engine.Engine, m wasm.Module, id string) (collect, kill time.Duration) {
	s := sandbox(t, e, id)
	a, b := start(t, s, m, wasm.Program{ID: "a"}), start(t, s, m, wasm.Program{ID: "b"})
	time.Sleep(20 * time.Millisecond)
	begin := time.Now()
	runtime.GC()
	collect = time.Since(begin)
	for _, i := range []wasm.Instance{a, b} {
		begin = time.Now()
		if err := i.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := wait(t, i); got.Reason != wasm.Killed {
			t.Errorf("it was not killed: %+v", got)
		}
		kill = max(kill, time.Since(begin))
	}
	return collect, kill
}

// Guests share in proportion to their shares, and one that sleeps mostly is
// served soon.
func TestShares(t *testing.T) {
	e := open(t, engine.Config{Slots: 1})
	m, s := prepareFile(t, e, hostile+"loop.wasm"), sandbox(t, e, "s")
	shares := []int64{100, 100, 200, 400}
	var all []wasm.Instance
	for n, share := range shares {
		all = append(all, start(t, s, m, wasm.Program{ID: fmt.Sprint(n), Limits: wasm.Limits{CPUShares: share}}))
	}
	time.Sleep(time.Second)
	var used []time.Duration
	var total time.Duration
	for _, i := range all {
		u, err := i.Usage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		used = append(used, u.CPU)
		total += u.CPU
	}
	t.Logf("used %v", used)
	for n, u := range used {
		if want := float64(shares[n]) / 800; float64(u) < 0.8*want*float64(total) || float64(u) > 1.2*want*float64(total) {
			t.Errorf("guest %d had %.3f of the time, want %.3f", n, float64(u)/float64(total), want)
		}
	}
	if total > 1200*time.Millisecond {
		t.Errorf("one slot gave %v in a second", total)
	}
}

func TestCPULimit(t *testing.T) {
	e := open(t, engine.Config{})
	m := prepareFile(t, e, hostile+"loop.wasm")
	for _, millis := range []int64{10, 100, 500} {
		t.Run(fmt.Sprint(millis), func(t *testing.T) {
			i := start(t, sandbox(t, e, fmt.Sprint(millis)), m, wasm.Program{Limits: wasm.Limits{CPUMillis: millis}})
			usage := func() time.Duration {
				u, err := i.Usage(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return u.CPU
			}
			time.Sleep(300 * time.Millisecond) // what may be saved up is used up
			// A guest that a busy machine kept waiting may catch up: three attempts,
			// and ten that are void.
			within := false
			for n, void := 0, 0; n < 3 && !within; n++ {
				begin, before, delayed := time.Now(), usage(), kept(t)
				time.Sleep(1500 * time.Millisecond)
				got := float64(usage()-before) / float64(time.Since(begin)) * 1000
				delayed = kept(t) - delayed
				t.Logf("%.2f millicores; threads were kept waiting for %v", got, delayed)
				if delayed > 75*time.Millisecond && void < 10 {
					void++
					n--
				}
				// A slice more or less at the ends is 1 ms of 1.5 s.
				want := float64(millis)
				within = got <= 1.05*want+1.5 && got >= 0.9*want-1.5
			}
			if !within {
				t.Errorf("%d millicores are not held", millis)
			}
			begin := time.Now()
			if err := i.Kill(t.Context()); err != nil {
				t.Fatal(err)
			}
			wait(t, i)
			if d := time.Since(begin); d > 50*time.Millisecond {
				t.Errorf("a guest at rest was killed in %v", d)
			}
		})
	}
}

// A module that cannot be metered well is refused, by name.
func TestUnsuited(t *testing.T) {
	e := open(t, engine.Config{})
	data := make([]byte, 33<<20)
	module := []byte("\x00asm\x01\x00\x00\x00" +
		"\x01\x04\x01\x60\x00\x00" + // type
		"\x03\x02\x01\x00" +
		"\x05\x03\x01\x00\x01" + // memory
		"\x07\x0a\x01\x06_start\x00\x00" +
		"\x0c\x01\x01" +
		// memory.init of nothing, and a loop
		"\x0a\x13\x01\x11\x00\x41\x00\x41\x00\x41\x00\xfc\x08\x00\x00\x03\x40\x0c\x00\x0b\x0b" +
		"\x0b")
	module = binary.AppendUvarint(module, uint64(2+4+len(data)))
	module = append(module, 1, 1)
	module = append(binary.AppendUvarint(module, uint64(len(data))), data...)
	path := filepath.Join(t.TempDir(), "large.wasm")
	if err := os.WriteFile(path, module, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := e.Prepare(t.Context(), wasmtest.Digest(module), path)
	if !errors.Is(err, wasm.ErrInvalidModule) || !strings.Contains(err.Error(), "memory.init of up to 34603008 bytes") {
		t.Error(err)
	}
}
