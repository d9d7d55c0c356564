// Package engine is the wasm.Runtime that runs guests in this process, on
// wazero's compiler. It must not know where modules come from, and lets no
// guest's panic, exit or hunger for memory out.
//
// # Modules
//
// A command (it exports _start) runs until it returns or exits. A reactor (it
// exports _initialize and no _start) is initialised and then stays until it is
// stopped. What exports neither is refused: nothing would call it.
//
// # Stopping
//
// A command hears that it should stop by its stop file (wasm.StopVariable), a
// reactor by its function wasm.StopFunction, which is called in the instance's
// goroutine like everything else of it. What has neither ends at once.
//
// # Memory
//
// An instance's linear memory is bounded by its limit. A guest that grows
// beyond gets -1 from memory.grow, as the standard has it; most die of that in
// their own way. So a guest that ends by a trap or a code other than 0 after
// its last growth was refused is reported as OutOfMemory. A module's own
// declared maximum is no limit of ours: to fail there is an ordinary end.
//
// # Processors
//
// Modules are metered (wasm/meter) before they are compiled: a guest that
// computes calls back every millisecond at least. There it ends if it was
// killed, rests if it is above its CPU limit, hands its slot to a guest that had
// less of its share, and lets Go's garbage collector run. Its CPU time is what
// its thread had between its calls (where the system does not tell, the time
// that passed); what the guest waits for in the host does not count. Threads of
// guests that compute let others go first, where the kernel can be told. What
// cannot be metered is refused.
package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/singleflight"

	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/host"
	"github.com/weftrun/weft/wasm/logfile"
	"github.com/weftrun/weft/wasm/module"
)

// Defaults of a Config.
const (
	DefaultMaxModuleBytes = 256 << 20
	DefaultMemoryBytes    = 512 << 20
	DefaultIdleModules    = 64
	DefaultCacheBytes     = 4 << 30
)

// Config configures an Engine. The zero value of an optional field means its
// default.
type Config struct {
	// CacheDir keeps compiled code on disk, for any number of Engines at once.
	// Optional: without it, or if it cannot be used, each compiles anew.
	CacheDir string
	// CacheBytes bounds CacheDir: what was not used for longest is removed when
	// more is added. Optional, 4 GiB.
	CacheBytes int64
	// StoreSmall keeps the code of small modules on disk as well, which is
	// slower than to compile them: for who wants to see it.
	StoreSmall bool
	// MaxModuleBytes bounds a module's file, in bytes. Optional, 256 MiB.
	MaxModuleBytes int64
	// MemoryBytes is the limit of instances that name none. Optional, 512 MiB.
	MemoryBytes int64
	// IdleModules is how many compiled modules are held that nothing runs of,
	// the last used ones; others are loaded anew. Optional, 64.
	IdleModules int
	// Rewrite, if not nil, changes a module before it is compiled. It is
	// called once a module, and its errors mean that the module is invalid.
	Rewrite func([]byte) ([]byte, error)
	// Slots is how many guests may compute at once; SetSlots changes it.
	// Optional, as many as SetSlots allows.
	Slots int
	// Workers is how many functions of a module are compiled at once. Optional, 1.
	// More are for a process that only compiles: a module that makes wazero panic
	// then ends it, which one alone would report.
	Workers int
	// Unmetered runs all modules interruptible instead of metered: slower, and
	// without CPU limits.
	Unmetered bool
	// Logger is required.
	Logger *slog.Logger
}

// Engine is a wasm.Runtime. Close it after use.
type Engine struct {
	config  Config
	turns   turns
	store   *store      // nil: none
	world   *host.World // of the first workshop; all provide the same
	flusher logfile.Flusher
	flight  singleflight.Group
	guests  sync.WaitGroup // instances and compilations
	unkept  sync.Once      // the warning that the store keeps nothing

	workshopsMu sync.Mutex
	workshops   map[kind]workshop

	mu        sync.Mutex
	modules   map[string]*compiled // by digest
	uses      uint64               // counts the uses of modules
	sandboxes map[string]*sandbox  // by ID
	closed    bool
}

var _ wasm.Runtime = (*Engine)(nil)

// New returns an Engine that runs nothing yet. Call Run for it to work, or
// Close if it is not run.
func New(ctx context.Context, c Config) (*Engine, error) {
	if c.Logger == nil {
		return nil, errors.New("engine: Logger is required")
	}
	if c.MaxModuleBytes < 0 || c.MemoryBytes < 0 || c.CacheBytes < 0 {
		return nil, errors.New("engine: MaxModuleBytes, MemoryBytes and CacheBytes must not be negative")
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = DefaultCacheBytes
	}
	if c.MaxModuleBytes == 0 {
		c.MaxModuleBytes = DefaultMaxModuleBytes
	}
	if c.MemoryBytes == 0 {
		c.MemoryBytes = DefaultMemoryBytes
	}
	if c.IdleModules <= 0 {
		c.IdleModules = DefaultIdleModules
	}
	e := &Engine{config: c, workshops: map[kind]workshop{}, modules: map[string]*compiled{}, sandboxes: map[string]*sandbox{}}
	if c.Slots <= 0 {
		c.Slots = maxSlots()
	}
	e.SetSlots(c.Slots)
	if c.CacheDir != "" {
		var err error
		if e.store, err = openStore(ctx, c.CacheDir, c.CacheBytes, c.Logger); err != nil {
			c.Logger.Warn("compiled code is not kept: modules are compiled anew by each process", "folder", c.CacheDir, "err", err)
		}
	}
	shop, err := e.workshop(ctx, kind{})
	if err != nil {
		return nil, errors.Join(err, e.Close(ctx))
	}
	e.world = shop.world
	return e, nil
}

// SpareProcessors is by how much GOMAXPROCS should exceed the processors that
// guests may take. Go's collector needs one; the other is meant for whoever has
// to be served at once while the first marks, or is held by a system call.
const SpareProcessors = 2

// SetSlots sets how many guests may compute at once: from 1 to GOMAXPROCS less
// SpareProcessors; n is brought within. More is given at once, less within the
// milliseconds that a slice takes. It may be called at any time, also by several.
func (e *Engine) SetSlots(n int) { e.turns.resize(min(max(n, 1), maxSlots())) }

func maxSlots() int { return max(runtime.GOMAXPROCS(0)-SpareProcessors, 1) }

// Run writes out the guests' logs until ctx ends; then it closes the Engine.
func (e *Engine) Run(ctx context.Context) error {
	e.flusher.Run(ctx)
	return e.Close(context.WithoutCancel(ctx))
}

// Close kills all guests, waits for their ends and frees everything. It may be
// called again.
func (e *Engine) Close(ctx context.Context) error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	sandboxes := slices.Collect(maps.Values(e.sandboxes))
	e.mu.Unlock()

	var err error
	for _, s := range sandboxes {
		err = errors.Join(err, s.Close(ctx))
	}
	e.guests.Wait()
	for _, shop := range e.workshops {
		shop.world.Close()
		err = errors.Join(err, shop.rt.Close(ctx))
	}
	if e.store != nil {
		err = errors.Join(err, e.store.close(ctx))
	}
	return err
}

// load reads, checks and compiles a module, unless it is compiled apart.
func (e *Engine) load(ctx context.Context, digest, path string, apart bool) (*compiled, error) {
	c := &compiled{digest: digest, path: path}
	binary, err := e.inspect(c)
	if err != nil {
		return nil, err
	}
	if err := e.translate(ctx, c, binary, apart); err != nil {
		return nil, err
	}
	if c.stops, err = stops(c); err != nil {
		return nil, errors.Join(err, c.code.Close(ctx))
	}
	return c, nil
}

// inspect reads and checks a module.
func (e *Engine) inspect(c *compiled) (binary []byte, err error) {
	if binary, err = e.read(c.digest, c.path); err != nil {
		return nil, err
	}
	if c.info, err = module.Inspect(bytes.NewReader(binary), int64(len(binary))); err != nil {
		return nil, err
	}
	if !c.info.Command() && !c.info.Reactor() {
		return nil, fmt.Errorf("%w: it exports neither _start nor _initialize, so there is nothing to run: build a program, not a library", wasm.ErrInvalidModule)
	}
	if err := e.world.Check(c.info); err != nil {
		return nil, err
	}
	if e.config.Rewrite != nil {
		return e.rewrite(binary)
	}
	return binary, nil
}

// stops reports whether the module is a reactor that can be told to stop.
func stops(c *compiled) (bool, error) {
	f := c.code.ExportedFunctions()[wasm.StopFunction]
	if f == nil || !c.info.Reactor() {
		return false, nil
	}
	if len(f.ParamTypes())+len(f.ResultTypes()) > 0 {
		return false, fmt.Errorf("%w: its function %s must have no parameters and no results", wasm.ErrInvalidModule, wasm.StopFunction)
	}
	return true, nil
}

// read returns the file's content if it is what the digest says.
func (e *Engine) read(digest, path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !stat.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a file", wasm.ErrInvalidModule, path)
	}
	if stat.Size() > e.config.MaxModuleBytes {
		return nil, fmt.Errorf("%w: it has %d bytes; at most %d are allowed", wasm.ErrInvalidModule, stat.Size(), e.config.MaxModuleBytes)
	}
	binary := make([]byte, stat.Size())
	if _, err := io.ReadFull(f, binary); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	sum := sha256.Sum256(binary)
	if got := "sha256:" + hex.EncodeToString(sum[:]); got != digest {
		return nil, fmt.Errorf("read %s: its content has the digest %s, not %s: it was changed meanwhile", path, got, digest)
	}
	return binary, nil
}

// rewrite calls the hook, whose panics are the module's fault.
func (e *Engine) rewrite(binary []byte) (out []byte, err error) {
	defer recovered(&err)
	if out, err = e.config.Rewrite(binary); err != nil && !errors.Is(err, wasm.ErrInvalidModule) {
		err = fmt.Errorf("%w: %w", wasm.ErrInvalidModule, err)
	}
	return out, err
}

func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: it is malformed and broke the compiler: %v", wasm.ErrInvalidModule, r)
	}
}
