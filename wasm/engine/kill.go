package engine

import (
	"context"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/weftrun/weft/wasm/meter"
)

// interruptible makes compiled code end when the context of its call does: it
// asks at each loop and each function's entry. Without, and without metering, a
// guest in a loop could not be killed, and would freeze the process at its next
// garbage collection. The price is 3 to 10 times the CPU time in guests' inner
// loops.
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
