package engine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/host"
	"github.com/weftrun/weft/wasm/meter"
	"github.com/weftrun/weft/wasm/module"
)

// A module is compiled where it is to run, and its code not kept on disk, if
// that is done about as soon as another process could be asked: so many bytes,
// that declare so many locals, and that are harder to compile than a C library by half at
// most, as wasm/meter has it. A few hundred bytes can be made to take minutes.
const (
	smallBytes  = 64 << 10
	smallLocals = 10_000
	smallEffort = 1 << 16
)

// features are what modules may use: all that wasm/meter knows. Exceptions are
// not among them: wazero copies the whole stack where one can be caught, outside
// of the guest's limit.
const features = api.CoreFeaturesV2 | experimental.CoreFeaturesTailCall | experimental.CoreFeaturesExtendedConst

// kind is how a runtime compiles.
type kind struct {
	interruptible bool // else metered
	stored        bool // by way of the store
}

// workshop is a runtime with what it provides to its guests.
type workshop struct {
	rt    wazero.Runtime
	world *host.World
}

// source is what wazero is to compile.
type source struct {
	binary        []byte
	interruptible bool
	effort        int64
}

// meter rewrites a module. It is fed what outsiders made, so its panics are the
// module's fault. What it refuses is not fit for wazero's compiler either, which would
// allocate gigabytes for some.
func (e *Engine) meter(binary []byte) (s source, err error) {
	if e.config.Unmetered {
		return source{binary: binary, interruptible: true}, nil
	}
	defer recovered(&err)
	metered, info, err := meter.Rewrite(binary, meter.Options{})
	if err != nil {
		return source{}, fmt.Errorf("%w: it cannot be metered: %w", wasm.ErrInvalidModule, err)
	}
	return source{binary: metered, effort: info.Effort}, nil
}

// translate finds or makes a module's code. If it is not to be compiled here
// and was not elsewhere, the error is wasm.ErrNotCompiled.
func (e *Engine) translate(ctx context.Context, c *compiled, binary []byte, apart bool) error {
	if e.store == nil || e.small(c.info, binary) {
		s, err := e.meter(binary)
		if err != nil {
			return err
		}
		if e.store == nil || s.effort <= smallEffort {
			return e.compile(ctx, c, s, false)
		}
	}
	found, missing := e.store.find(c.digest)
	if missing != nil && apart {
		return fmt.Errorf("module %s: %w", c.digest, wasm.ErrNotCompiled)
	}
	s, err := e.meter(binary)
	if err != nil {
		return err
	}
	if missing == nil {
		if ok := e.loadStored(ctx, c, s, found); ok {
			return nil
		}
		if apart {
			return fmt.Errorf("module %s: %w", c.digest, wasm.ErrNotCompiled)
		}
	}
	err, unkept := e.store.save(c.digest, s.binary, func() error { return e.compile(ctx, c, s, true) })
	if err == nil && unkept != nil {
		e.unkept.Do(func() {
			e.config.Logger.Warn("compiled code is not kept; it is compiled anew by each process", "err", unkept)
		})
	}
	return err
}

// small tells whether a module is compiled where it is to run, if it is no effort.
func (e *Engine) small(info *module.Info, binary []byte) bool {
	return !e.config.StoreSmall && len(binary) <= smallBytes && info.Locals <= smallLocals
}

// loadStored loads a module's code from the store. What does not fit, as the
// meter, wazero or the processor changed since, is dropped.
func (e *Engine) loadStored(ctx context.Context, c *compiled, s source, found trailer) bool {
	err := errors.New("it was made by another version")
	if sha256.Sum256(s.binary) == found.source {
		var hit bool
		if hit, err = e.store.load(c.digest, found, func() error { return e.compile(ctx, c, s, true) }); err == nil && hit {
			return true
		}
		if err == nil {
			// It is compiled all the same, for this process.
			e.config.Logger.Warn("compiled code was made for another processor", "digest", c.digest)
			e.store.drop(c.digest)
			return true
		}
	}
	e.config.Logger.Warn("compiled code is not used, and compiled anew", "digest", c.digest, "err", err)
	e.store.drop(c.digest)
	return false
}

// compile calls wazero, which panics on some malformed modules.
func (e *Engine) compile(ctx context.Context, c *compiled, s source, stored bool) (err error) {
	defer recovered(&err)
	shop, err := e.workshop(ctx, kind{s.interruptible, stored})
	if err != nil {
		return err
	}
	ctx = experimental.WithCompilationWorkers(ctx, e.config.Workers)
	code, err := shop.rt.CompileModule(ctx, s.binary)
	if err != nil && stored {
		// The disk may have refused the code, which wazero holds all the same.
		code, err = shop.rt.CompileModule(ctx, s.binary)
	}
	if err != nil {
		return fmt.Errorf("%w: it does not compile: %w", wasm.ErrInvalidModule, err)
	}
	c.rt, c.world, c.code, c.metered = shop.rt, shop.world, code, !s.interruptible
	return nil
}

// workshop returns the one of that kind, which is made for its first module.
func (e *Engine) workshop(ctx context.Context, k kind) (workshop, error) {
	e.workshopsMu.Lock()
	defer e.workshopsMu.Unlock()
	if shop, ok := e.workshops[k]; ok {
		return shop, nil
	}
	rc := wazero.NewRuntimeConfigCompiler().WithDebugInfoEnabled(false).WithCoreFeatures(features)
	if k.stored {
		rc = rc.WithCompilationCache(e.store.cache)
	}
	if k.interruptible {
		rc = interruptible(rc)
	}
	rt := wazero.NewRuntimeWithConfig(ctx, rc)
	world, err := host.Provide(ctx, rt)
	if err == nil && !k.interruptible {
		err = provideRefill(ctx, rt)
	}
	if err != nil {
		return workshop{}, errors.Join(err, rt.Close(ctx))
	}
	e.workshops[k] = workshop{rt, world}
	return e.workshops[k], nil
}

// Compile makes sure that the code of a module is in CacheDir, from where
// another Engine may load it, unless it is one of those that each compiles for
// itself. The error is ErrInvalidModule for content that can never run, and
// ErrNotCompiled if its code compiles and cannot be kept.
func (e *Engine) Compile(ctx context.Context, digest, path string) error {
	c := &compiled{digest: digest, path: path}
	binary, err := e.inspect(c)
	if err != nil {
		return fmt.Errorf("compile %s: %w", digest, err)
	}
	if e.small(c.info, binary) {
		s, err := e.meter(binary)
		if err != nil {
			return fmt.Errorf("compile %s: %w", digest, err)
		}
		if s.effort <= smallEffort {
			return nil
		}
	}
	if e.store == nil {
		return fmt.Errorf("compile %s: %w: there is nowhere to keep its code", digest, wasm.ErrNotCompiled)
	}
	if err := e.translate(ctx, c, binary, false); err != nil {
		return fmt.Errorf("compile %s: %w", digest, err)
	}
	if err := c.code.Close(ctx); err != nil {
		return fmt.Errorf("compile %s: %w", digest, err)
	}
	if !e.store.has(digest) {
		return fmt.Errorf("compile %s: %w: its code was not kept", digest, wasm.ErrNotCompiled)
	}
	return nil
}
