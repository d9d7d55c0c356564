// Package host gives a guest its world: WASI preview 1 with arguments,
// environment, clocks, randomness, log streams and mounted folders. It must
// not decide when a guest starts or ends.
package host

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"

	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/module"
)

// World is what a runtime provides to its guests.
type World struct {
	functions map[string]bool // of WASI preview 1
}

// Provide instantiates the host's modules in rt. It is called once a runtime.
func Provide(ctx context.Context, rt wazero.Runtime) (*World, error) {
	compiled, err := wasi_snapshot_preview1.NewBuilder(rt).Compile(ctx)
	if err != nil {
		return nil, fmt.Errorf("compile WASI: %w", err)
	}
	w := &World{functions: map[string]bool{}}
	for name := range compiled.ExportedFunctions() {
		w.functions[name] = true
	}
	config := wazero.NewModuleConfig().WithName(wasi_snapshot_preview1.ModuleName)
	if _, err := rt.InstantiateModule(ctx, compiled, config); err != nil {
		return nil, fmt.Errorf("instantiate WASI: %w", err)
	}
	return w, nil
}

// maxNamed is how many missing imports an error names.
const maxNamed = 5

// Check returns an error that wraps wasm.ErrInvalidModule, names what of the
// module's imports nobody provides, and says what to do.
func (w *World) Check(info *module.Info) error {
	var missing []string
	var origin string
	for _, i := range info.Imports {
		if i.Module == wasi_snapshot_preview1.ModuleName && i.Kind == module.Func && w.functions[i.Name] {
			continue
		}
		if origin == "" {
			origin = i.Module
		}
		missing = append(missing, fmt.Sprintf("%s %q.%q", i.Kind, i.Module, i.Name))
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	more := ""
	if n := len(missing) - maxNamed; n > 0 {
		more = fmt.Sprintf(" and %d more", n)
		missing = missing[:maxNamed]
	}
	return fmt.Errorf("%w: nobody provides its import of %s%s: %s",
		wasm.ErrInvalidModule, strings.Join(missing, ", "), more, advice(origin))
}

func advice(origin string) string {
	switch {
	case origin == "gojs" || origin == "go":
		return "it was built for a browser; build it with GOOS=wasip1 instead of GOOS=js"
	case strings.HasPrefix(origin, "wbg") || strings.HasPrefix(origin, "__wbindgen"):
		return "it was built for JavaScript by wasm-bindgen; build it with cargo build --target wasm32-wasip1"
	case origin == "wasi_unstable":
		return "it was built for a WASI older than preview 1; build it with a newer compiler"
	case origin == wasi_snapshot_preview1.ModuleName:
		return "WASI preview 1 has no such function here; build it without threads and extensions"
	case strings.HasPrefix(origin, "wasi:") || origin == "wasi":
		return "it was built for WASI 0.2 or for threads; build it for wasm32-wasip1"
	case origin == "env" || origin == "a":
		return "it was linked against functions of an outside host (Emscripten, AssemblyScript or undefined symbols); build it for wasm32-wasip1 with everything linked in"
	}
	return "Weft provides WASI preview 1 (wasi_snapshot_preview1) alone; build it without other imports"
}

// Guest is one guest's world. Set its fields, then use it for one instance.
type Guest struct {
	Args []string
	Env  []string // NAME=value
	// Hostname is shown as HOSTNAME, unless Env has that. Optional.
	Hostname string
	Stdout   io.Writer
	Stderr   io.Writer
	Mounts   []wasm.Mount
	// Done, when closed, ends what the guest waits for in the host.
	Done <-chan struct{}
	// Pause and Resume, if not nil, are called around what the guest waits for
	// in the host, in its goroutine.
	Pause, Resume func()

	slept    atomic.Int64 // nanoseconds of finished sleeps
	sleeping atomic.Int64 // when the present sleep began, 0 if it does not sleep
}

// origin is what monotonic times are relative to, so that they fit a guest.
var origin = time.Now()

// Configure returns how to instantiate the guest. It has no start functions
// and no name: whoever instantiates it calls what it exports.
func (g *Guest) Configure() (wazero.ModuleConfig, error) {
	c := wazero.NewModuleConfig().
		WithName("").
		WithStartFunctions().
		WithArgs(g.Args...).
		WithStdout(g.Stdout).
		WithStderr(g.Stderr).
		WithRandSource(rand.Reader).
		WithSysWalltime().
		WithNanotime(func() int64 { return int64(time.Since(origin)) }, 1).
		WithNanosleep(g.sleep).
		WithOsyield(runtime.Gosched)
	if g.Hostname != "" && !slices.ContainsFunc(g.Env, func(pair string) bool { return strings.HasPrefix(pair, "HOSTNAME=") }) {
		c = c.WithEnv("HOSTNAME", g.Hostname)
	}
	for i, pair := range g.Env {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("env[%d]: %q must be NAME=value", i, pair)
		}
		if strings.Contains(pair, "\x00") {
			return nil, fmt.Errorf("env[%d]: %s must not contain NUL", i, name)
		}
		c = c.WithEnv(name, value)
	}
	if len(g.Mounts) > 0 {
		fs, err := mounts(g.Mounts)
		if err != nil {
			return nil, err
		}
		c = c.WithFSConfig(fs)
	}
	return c, nil
}

// sleep ends the guest when it is done, so that a sleeping guest dies at once.
// The panic is how wazero's host functions end a guest; returning instead would
// let the guest go on, in a loop that starves whoever is to end it.
func (g *Guest) sleep(ns int64) {
	if ns <= 0 {
		return
	}
	if g.Pause != nil {
		g.Pause()
	}
	begin := time.Now()
	g.sleeping.Store(max(int64(begin.Sub(origin)), 1))
	timer := time.NewTimer(time.Duration(ns))
	select {
	case <-timer.C:
	case <-g.Done:
		timer.Stop()
		panic(sys.NewExitError(sys.ExitCodeContextCanceled))
	}
	g.sleeping.Store(0)
	g.slept.Add(int64(time.Since(begin)))
	if g.Resume != nil {
		g.Resume()
	}
}

// Slept returns how long the guest has slept in the host until now.
func (g *Guest) Slept() time.Duration {
	d := time.Duration(g.slept.Load())
	if at := g.sleeping.Load(); at != 0 {
		d += time.Since(origin) - time.Duration(at)
	}
	return d
}
