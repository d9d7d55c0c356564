package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/host"
	"github.com/weftrun/weft/wasm/meter"
)

// interruptible makes compiled code end when the context of its call does: it
// asks at each loop and each function's entry. Without, and without metering, a
// guest in a loop could not be killed, and would freeze the process at its next
// garbage collection. The price is 3 to 10 times the CPU time in guests' inner
// loops, so it is for those modules alone that cannot be metered.
func interruptible(rc wazero.RuntimeConfig) wazero.RuntimeConfig {
	return rc.WithCloseOnContextDone(true)
}

type paceKey struct{}

// provideRefill gives metered guests the function that they ask for a budget.
// Whoever calls into a guest puts its pace into the context.
func provideRefill(ctx context.Context, rt wazero.Runtime) error {
	refill := api.GoFunc(func(ctx context.Context, stack []uint64) {
		stack[0] = uint64(ctx.Value(paceKey{}).(*pace).refill())
	})
	_, err := rt.NewHostModuleBuilder(meter.ImportModule).NewFunctionBuilder().
		WithGoFunction(refill, nil, []api.ValueType{api.ValueTypeI64}).
		Export(meter.ImportName).
		Instantiate(ctx)
	if err != nil {
		return fmt.Errorf("provide the meter: %w", err)
	}
	return nil
}

// translate compiles a module: metered or, if that cannot be, interruptible.
func (e *Engine) translate(ctx context.Context, digest string, binary []byte) (wazero.Runtime, wazero.CompiledModule, error) {
	if !e.config.Unmetered {
		code, err := e.meter(ctx, binary)
		if err == nil {
			return e.rt, code, nil
		}
		// Anything else is not fit for wazero's compiler either, which would
		// allocate gigabytes for some.
		if !errors.Is(err, meter.ErrUnsuited) {
			return nil, nil, err
		}
		e.config.Logger.Warn("module cannot be metered: it runs several times slower, and its CPU limit is not enforced", "digest", digest, "err", err)
	}
	rt, err := e.unmetered(ctx)
	if err != nil {
		return nil, nil, err
	}
	code, err := compile(ctx, rt, binary)
	return rt, code, err
}

// meter rewrites a module and compiles it. Both are fed what outsiders made, so
// their panics are the module's fault.
func (e *Engine) meter(ctx context.Context, binary []byte) (code wazero.CompiledModule, err error) {
	defer recovered(&err)
	metered, _, err := meter.Rewrite(binary, meter.Options{})
	if errors.Is(err, meter.ErrUnsuited) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: it cannot be metered: %w", wasm.ErrInvalidModule, err)
	}
	return compile(ctx, e.rt, metered)
}

// unmetered returns the runtime for modules that cannot be metered, which is
// made for the first of them.
func (e *Engine) unmetered(ctx context.Context) (wazero.Runtime, error) {
	e.slowMu.Lock()
	defer e.slowMu.Unlock()
	if e.slow != nil {
		return e.slow, nil
	}
	rt := wazero.NewRuntimeWithConfig(ctx, interruptible(e.runtimeConfig()))
	world, err := host.Provide(ctx, rt)
	if err != nil {
		return nil, errors.Join(err, rt.Close(ctx))
	}
	e.slow, e.slowWorld = rt, world
	return rt, nil
}

// compile calls wazero, which panics on some malformed modules.
func compile(ctx context.Context, rt wazero.Runtime, binary []byte) (code wazero.CompiledModule, err error) {
	defer recovered(&err)
	if code, err = rt.CompileModule(ctx, binary); err != nil {
		err = fmt.Errorf("%w: it does not compile: %w", wasm.ErrInvalidModule, err)
	}
	return code, err
}
