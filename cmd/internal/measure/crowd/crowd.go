// Package crowd measures many guests in one process, as an executor is one:
// how they share processors, what they leave to the process they are in, and
// what each takes. It must not measure what a single guest costs.
package crowd

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/engine"
)

// Task is one experiment. It has a process to itself.
type Task struct {
	// Name is hot, idle, shares, limits or parked.
	Name string
	// Module is the file of the guests.
	Module string
	// Interruptible runs guests by wazero's own way to stop them, instead of
	// metering them.
	Interruptible bool
	Count         int // of guests
}

// timer sleeps for 10 ms and writes a line, for ever. Its source lies beside.
//
//go:embed timer.wasm
var timer []byte

// Figures are what an experiment gives, by name. Times are in milliseconds,
// sizes in KiB.
type Figures map[string]float64

// bench is a process like an executor's.
type bench struct {
	Task
	engine *engine.Engine
	folder string
	next   int
}

// Run runs an experiment in this process, which it changes as an executor does.
func Run(ctx context.Context, t Task) (f Figures, err error) {
	debug.SetGCPercent(50)
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + engine.SpareProcessors)
	folder, err := os.MkdirTemp("", "measure-crowd-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	e, err := engine.New(ctx, engine.Config{Unmetered: t.Interruptible, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return nil, err
	}
	working, cancel := context.WithCancel(ctx)
	done := make(chan error, 1) // 1: it ends though nobody waits
	go func() { done <- e.Run(working) }()
	defer func() { cancel(); err = errors.Join(err, <-done) }()
	b := &bench{Task: t, engine: e, folder: folder}
	experiment, ok := map[string]func(context.Context) (Figures, error){
		"hot": b.hot, "idle": b.idle, "shares": b.shares, "limits": b.limits, "parked": b.parked,
	}[t.Name]
	if !ok {
		return nil, fmt.Errorf("no experiment is named %q", t.Name)
	}
	return experiment(ctx)
}

func (b *bench) prepare(ctx context.Context, path string) (wasm.Module, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return b.engine.Prepare(ctx, fmt.Sprintf("sha256:%x", sha256.Sum256(content)), path)
}

// start starts a guest in a sandbox of its own, as pods are.
func (b *bench) start(ctx context.Context, m wasm.Module, p wasm.Program) (wasm.Instance, error) {
	b.next++
	s, err := b.engine.OpenSandbox(ctx, wasm.SandboxConfig{ID: fmt.Sprint(b.next), Hostname: fmt.Sprint("guest-", b.next)})
	if err != nil {
		return nil, err
	}
	p.ID = "main-0"
	return s.Start(ctx, m, p)
}

func (b *bench) crowd(ctx context.Context, l func(n int) wasm.Limits) ([]wasm.Instance, error) {
	m, err := b.prepare(ctx, b.Module)
	if err != nil {
		return nil, err
	}
	var all []wasm.Instance
	for n := range b.Count {
		i, err := b.start(ctx, m, wasm.Program{Args: []string{"guest"}, Limits: l(n)})
		if err != nil {
			return nil, err
		}
		all = append(all, i)
	}
	return all, nil
}

func unlimited(int) wasm.Limits { return wasm.Limits{} }

// hot measures what guests that compute for ever leave to others: how late a
// ticker of 1 ms is, how long the collector takes, and how soon they die.
func (b *bench) hot(ctx context.Context) (Figures, error) {
	all, err := b.crowd(ctx, unlimited)
	if err != nil {
		return nil, err
	}
	time.Sleep(200 * time.Millisecond) // until all have settled
	f := Figures{}
	f.ticker(2 * time.Second)
	f.collector(10)
	var kills []float64
	for range 4 {
		for _, i := range all {
			begin := time.Now()
			if err := i.Kill(ctx); err != nil {
				return nil, err
			}
			exit, err := i.Wait(ctx)
			if err != nil {
				return nil, err
			}
			kills = append(kills, milliseconds(time.Since(begin)))
			if exit.Reason != wasm.Killed && exit.Reason != wasm.Trapped { // deep ones overflow
				return nil, fmt.Errorf("a guest ended by itself: %+v", exit)
			}
		}
		if all, err = b.crowd(ctx, unlimited); err != nil {
			return nil, err
		}
		time.Sleep(20 * time.Millisecond)
	}
	f["kill p99"] = quantile(kills, 0.99)
	return f, nil
}

// idle measures the same of a process without guests.
func (b *bench) idle(context.Context) (Figures, error) {
	f := Figures{}
	f.ticker(2 * time.Second)
	f.collector(10)
	return f, nil
}

func (f Figures) ticker(d time.Duration) {
	var late []float64
	begin := time.Now()
	for due := begin.Add(time.Millisecond); time.Since(begin) < d; due = due.Add(time.Millisecond) {
		now := time.Now()
		if due.Before(now) {
			due = now.Add(time.Millisecond) // those that were missed are one
		}
		time.Sleep(time.Until(due))
		late = append(late, milliseconds(time.Since(due)))
	}
	f["lag p99"], f["lag p99.9"] = quantile(late, 0.99), quantile(late, 0.999)
}

func (f Figures) collector(rounds int) {
	var took []float64
	for range rounds {
		begin := time.Now()
		runtime.GC()
		took = append(took, milliseconds(time.Since(begin)))
		time.Sleep(5 * time.Millisecond)
	}
	f["GC p99"] = quantile(took, 0.99)
}

// shares measures how near guests come to their shares of all that is used, and
// how late a guest is that sleeps for 10 ms at a time beside them.
func (b *bench) shares(ctx context.Context) (Figures, error) {
	path := b.folder + "/timer.wasm"
	if err := os.WriteFile(path, timer, 0o600); err != nil {
		return nil, err
	}
	clock, err := b.prepare(ctx, path)
	if err != nil {
		return nil, err
	}
	weight := func(n int) int64 { return int64(100 * (1 + n%3)) }
	all, err := b.crowd(ctx, func(n int) wasm.Limits { return wasm.Limits{CPUShares: weight(n)} })
	if err != nil {
		return nil, err
	}
	log := b.folder + "/timer.log"
	if _, err := b.start(ctx, clock, wasm.Program{
		Args: []string{"timer"}, Limits: wasm.Limits{CPUShares: 100}, Log: wasm.Log{Path: log},
	}); err != nil {
		return nil, err
	}
	time.Sleep(time.Second) // until all have settled
	before, err := used(ctx, all)
	if err != nil {
		return nil, err
	}
	time.Sleep(10 * time.Second)
	after, err := used(ctx, all)
	if err != nil {
		return nil, err
	}
	var total, weights float64
	for n := range all {
		total += after[n] - before[n]
		weights += float64(weight(n))
	}
	var off []float64
	for n := range all {
		got := (after[n] - before[n]) / total
		off = append(off, 100*abs(got*weights/float64(weight(n))-1))
	}
	f := Figures{"farthest from its share": slices.Max(off)}
	late, err := lateness(log, 10*time.Millisecond, 80)
	f["timer of 10 ms late p99"] = quantile(late, 0.99)
	return f, err
}

// used returns the CPU time of each guest, in ms.
func used(ctx context.Context, all []wasm.Instance) ([]float64, error) {
	var out []float64
	for _, i := range all {
		u, err := i.Usage(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, milliseconds(u.CPU))
	}
	return out, nil
}

// lateness returns by how much the lines of a log are further apart than that,
// in ms, but for the first ones: the guest itself has to start.
func lateness(path string, apart time.Duration, skip int) ([]float64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out []float64
	var last time.Time
	for line := range strings.Lines(string(data)) {
		stamp, _, _ := strings.Cut(line, " ")
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		if skip--; skip < 0 {
			out = append(out, milliseconds(at.Sub(last)-apart))
		}
		last = at
	}
	if len(out) < 100 {
		return nil, fmt.Errorf("the timer woke up %d times", len(out))
	}
	return out, nil
}

// limits measures how near guests come to their CPU limits.
func (b *bench) limits(ctx context.Context) (Figures, error) {
	m, err := b.prepare(ctx, b.Module)
	if err != nil {
		return nil, err
	}
	f := Figures{}
	for _, group := range [][]int64{{10, 50, 100, 500}, {1000}} {
		b.Count = len(group)
		var all []wasm.Instance
		for _, millis := range group {
			i, err := b.start(ctx, m, wasm.Program{Limits: wasm.Limits{CPUMillis: millis}})
			if err != nil {
				return nil, err
			}
			all = append(all, i)
		}
		time.Sleep(500 * time.Millisecond) // what they may save up is used up
		begin := time.Now()
		before, err := used(ctx, all)
		if err != nil {
			return nil, err
		}
		time.Sleep(6 * time.Second)
		took := milliseconds(time.Since(begin))
		after, err := used(ctx, all)
		if err != nil {
			return nil, err
		}
		for n, millis := range group {
			f[fmt.Sprintf("off a limit of %dm", millis)] = 100 * abs((after[n]-before[n])/took*1000/float64(millis)-1)
			if err := all[n].Kill(ctx); err != nil {
				return nil, err
			}
		}
	}
	return f, nil
}

// parked measures what guests take that sleep, and how long they take to start.
func (b *bench) parked(ctx context.Context) (Figures, error) {
	m, err := b.prepare(ctx, b.Module)
	if err != nil {
		return nil, err
	}
	before, err := resident()
	if err != nil {
		return nil, err
	}
	var took []float64
	for range b.Count {
		begin := time.Now()
		if _, err := b.start(ctx, m, wasm.Program{
			Args: []string{"guest", "-interval=1h"}, Limits: wasm.Limits{CPUShares: 100, MemoryBytes: 64 << 20},
			Log: wasm.Log{Path: fmt.Sprintf("%s/%d.log", b.folder, b.next)},
		}); err != nil {
			return nil, err
		}
		took = append(took, milliseconds(time.Since(begin)))
	}
	time.Sleep(2 * time.Second) // until all have come to rest
	after, err := resident()
	if err != nil {
		return nil, err
	}
	return Figures{
		"memory each":       (after - before) / float64(b.Count),
		"a start, p50":      quantile(took, 0.5),
		"a start, p99":      quantile(took, 0.99),
		"collector's round": rounds(5),
	}, nil
}

// rounds returns the median of so many rounds of the collector, in ms.
func rounds(n int) float64 {
	var took []float64
	for range n {
		begin := time.Now()
		runtime.GC()
		took = append(took, milliseconds(time.Since(begin)))
	}
	return quantile(took, 0.5)
}

// resident returns this process's resident memory in KiB.
func resident() (float64, error) {
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	var n float64
	if _, err := fmt.Sscan(rest, &n); err != nil {
		return 0, fmt.Errorf("read resident memory: %w", err)
	}
	return n, nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func abs(x float64) float64 { return max(x, -x) }

// quantile returns the q-th quantile of values, rounded up to one of them.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
