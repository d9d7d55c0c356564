// Package host gives a guest its world: WASI preview 1 with arguments,
// environment, clocks, randomness, log streams, mounted folders and a file by
// which it hears that it should stop. It must not decide when a guest starts or
// ends.
package host

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/module"
)

// World is what a runtime provides to its guests.
type World struct {
	functions map[string]bool // of WASI preview 1

	work    chan struct{}  // as many as there are calls in the operating system
	workers sync.WaitGroup // those that make them
	open    atomic.Int64   // files and folders, of all guests
}

// Provide instantiates the host's modules in rt. It is called once a runtime.
// Close the World after all its guests.
func Provide(ctx context.Context, rt wazero.Runtime) (*World, error) {
	defined, err := wasi_snapshot_preview1.NewBuilder(rt).Compile(ctx)
	if err != nil {
		return nil, fmt.Errorf("compile WASI: %w", err)
	}
	w := &World{functions: map[string]bool{}, work: make(chan struct{}, maxWork)}
	for name := range defined.ExportedFunctions() {
		w.functions[name] = true
	}
	return w, build(ctx, rt, defined)
}

// Close waits for calls of the operating system that guests left when they were
// killed.
func (w *World) Close() { w.workers.Wait() }

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
