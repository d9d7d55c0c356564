package engine

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/tetratelabs/wazero"

	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/host"
	"github.com/weftrun/weft/wasm/module"
)

// compiled is a prepared module.
type compiled struct {
	digest string
	path   string
	info   *module.Info
	code   wazero.CompiledModule
	rt     wazero.Runtime // that compiled it
	world  *host.World    // of that

	metered bool
	stops   bool // a reactor with a function to be called when it is to stop

	// Guarded by the Engine's mu.
	running int    // instances
	used    uint64 // when it was last used, in uses
	dropped bool   // its code is gone
}

func (c *compiled) Digest() string   { return c.digest }
func (c *compiled) MinMemory() int64 { return c.info.MinMemory }

// Prepare implements wasm.Runtime. A Module stays good for as long as the
// Engine does, if its file stays: code that was not used for long is dropped
// and loaded anew from there.
func (e *Engine) Prepare(ctx context.Context, digest, path string) (wasm.Module, error) {
	return e.prepare(ctx, digest, path, false)
}

// PrepareCompiled is Prepare, but for a module that is not compiled yet, and
// whose compilation would take more than milliseconds from the guests here, it
// returns wasm.ErrNotCompiled: have another process Compile it into the same
// CacheDir, or call Prepare. Without a CacheDir that works it is Prepare.
func (e *Engine) PrepareCompiled(ctx context.Context, digest, path string) (wasm.Module, error) {
	return e.prepare(ctx, digest, path, true)
}

func (e *Engine) prepare(ctx context.Context, digest, path string, apart bool) (wasm.Module, error) {
	c, err := e.held(ctx, digest, path, apart)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (e *Engine) held(ctx context.Context, digest, path string, apart bool) (*compiled, error) {
	e.mu.Lock()
	c, closed := e.modules[digest], e.closed
	if c != nil {
		e.uses++
		c.used = e.uses
	}
	e.mu.Unlock()
	if closed {
		return nil, fmt.Errorf("prepare module: %w", wasm.ErrGone)
	}
	if c != nil {
		return c, nil
	}
	// One compiles for all who ask; none who gives up ends it for the others.
	detached := context.WithoutCancel(ctx)
	flight := digest
	if apart {
		flight += " apart" // its answer does not do for who wants it compiled
	}
	result := e.flight.DoChan(flight, func() (any, error) { return e.add(detached, digest, path, apart) })
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-result:
		if r.Err != nil {
			return nil, fmt.Errorf("prepare %s: %w", filepath.Base(path), r.Err)
		}
		return r.Val.(*compiled), nil
	}
}

// add loads a module and holds it.
func (e *Engine) add(ctx context.Context, digest, path string, apart bool) (*compiled, error) {
	e.mu.Lock()
	if c := e.modules[digest]; c != nil || e.closed {
		closed := e.closed
		e.mu.Unlock()
		if closed {
			return nil, wasm.ErrGone
		}
		return c, nil // a flight before this one was faster
	}
	e.guests.Add(1) // Close waits
	e.mu.Unlock()
	defer e.guests.Done()

	c, err := e.load(ctx, digest, path, apart)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	if other := e.modules[digest]; other != nil { // of a flight of the other kind
		e.mu.Unlock()
		return other, c.code.Close(ctx)
	}
	e.modules[digest] = c
	e.uses++
	c.used = e.uses
	drop := e.idle(c)
	e.mu.Unlock()
	for _, old := range drop {
		if err := old.code.Close(ctx); err != nil {
			e.config.Logger.Warn("code was not freed", "digest", old.digest, "err", err)
		}
	}
	return c, nil
}

// idle takes out modules that nothing runs of, the least used first, until no
// more than IdleModules are left. It spares keep. The caller holds mu and
// closes their code.
func (e *Engine) idle(keep *compiled) (drop []*compiled) {
	for {
		var oldest *compiled
		n := 0
		for _, c := range e.modules {
			if c.running > 0 || c == keep {
				continue
			}
			if n++; oldest == nil || c.used < oldest.used {
				oldest = c
			}
		}
		if n < e.config.IdleModules {
			return drop
		}
		oldest.dropped = true
		delete(e.modules, oldest.digest)
		drop = append(drop, oldest)
	}
}

// acquire returns the module with code that stays until it is let go.
func (e *Engine) acquire(ctx context.Context, c *compiled) (*compiled, error) {
	for {
		e.mu.Lock()
		if !c.dropped {
			c.running++
			e.mu.Unlock()
			return c, nil
		}
		e.mu.Unlock()
		var err error
		if c, err = e.held(ctx, c.digest, c.path, false); err != nil {
			return nil, err
		}
	}
}

func (e *Engine) letGo(c *compiled) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c.running--
}
