package meter_test

import (
	"os"
	"testing"

	"github.com/weftrun/weft/wasm/meter"
)

// checksBound makes short functions and loops need checks.
const checksBound = 256

// mostUnchecked is how often g0 may fall between two checks: each time weighs 4,
// and straight code may weigh 4 bounds, and what follows it one more.
const mostUnchecked = 5 * checksBound / 4

// Each kind of check is needed: without it, a module made for it runs for long
// unchecked, or deep, and with it none does.
func TestEachCheckIsNeeded(t *testing.T) {
	for _, tc := range []struct {
		module string
		kind   meter.Kind
		breaks func(*testing.T, []byte) bool
	}{
		{"loop", meter.LoopCheck, runsLong},
		{"loopif", meter.LoopCheck, runsLong},
		{"looptwo", meter.LoopCheck, runsLong},
		{"looptable", meter.LoopCheck, runsLong},
		{"loops", meter.LoopCheck, runsLong},
		{"cycle", meter.CycleCheck, runsLong},
		{"tail", meter.CycleCheck, runsLong},
		{"tree", meter.TreeCheck, undercharged},
		{"indirect", meter.IndirectCheck, runsLong},
		{"tailindirect", meter.IndirectCheck, runsLong},
		{"return", meter.ReturnCheck, runsLong},
		{"unwind", meter.UnwindCheck, unwindsLong},
		{"unwindonce", meter.UnwindCheck, unwindsLong},
		{"straight", meter.StraightCheck, runsLong},
		{"bulk", meter.BulkCheck, writesMuch},
		{"bulkcopy", meter.BulkCheck, writesMuch},
		{"cycle", meter.CycleDepth, runsDeep},
		{"indirect", meter.IndirectDepth, runsDeep},
		{"once", meter.OnceDepth, runsDeep},
	} {
		t.Run(tc.module, func(t *testing.T) {
			module, err := os.ReadFile("testdata/checks/" + tc.module + ".wasm")
			if err != nil {
				t.Fatal(err)
			}
			o := meter.Options{Bound: checksBound, MaxStack: 32 << 10}
			if tc.kind&(meter.CycleDepth|meter.IndirectDepth|meter.OnceDepth) == 0 {
				o.MaxStack = 0
			}
			for _, kind := range []meter.Kind{0, tc.kind} {
				out, _, err := meter.Rewrite(module, o.Without(kind))
				if err != nil {
					t.Fatal(err)
				}
				if broken := tc.breaks(t, out); broken != (kind != 0) {
					t.Errorf("without checks of the kinds %b: broken: %v", kind, broken)
				}
			}
		})
	}
}

// unwindsLong reports whether a module's stack unwinds unchecked by more than the frames
// of 128 KiB, each of which counts g0 twice.
func unwindsLong(t *testing.T, module []byte) bool {
	t.Helper()
	p := newPlay(t)
	p.budget, p.watch = 0, true
	o, err := p.run(t.Context(), module, "f")
	if err != nil || o.Err != "" {
		t.Fatal(err, o.Err)
	}
	p.look(o.Globals[0])
	return p.gap > 2*128<<10/64
}

// runsLong runs a module whose every check calls the host.
func runsLong(t *testing.T, module []byte) bool {
	t.Helper()
	p := newPlay(t)
	p.budget, p.watch = 0, true
	o, err := p.run(t.Context(), module, "f")
	if err != nil || o.Err != "" {
		t.Fatal(err, o.Err)
	}
	p.look(o.Globals[0])
	return p.gap > mostUnchecked
}

// undercharged reports whether a module pays less than 10 for each time that it
// counts g0 down to 0, which takes a call and four instructions.
func undercharged(t *testing.T, module []byte) bool {
	t.Helper()
	p := newPlay(t)
	p.budget = 1000
	if o, err := p.run(t.Context(), module, "f"); err != nil || o.Err != "" {
		t.Fatal(err, o.Err)
	}
	return uint64(p.refills)*p.budget < 10*p.first
}

// writesMuch reports whether the host was asked less often than for each
// quarter of a MiB.
func writesMuch(t *testing.T, module []byte) bool {
	t.Helper()
	p := newPlay(t)
	p.budget = 0
	if o, err := p.run(t.Context(), module, "f"); err != nil || o.Err != "" {
		t.Fatal(err, o.Err)
	}
	return p.refills < 64
}

// runsDeep reports whether a module reached the end of a recursion that is too
// deep.
func runsDeep(t *testing.T, module []byte) bool {
	t.Helper()
	o, err := newPlay(t).run(t.Context(), module, "f")
	if err != nil {
		t.Fatal(err)
	}
	return o.Err != meter.StackOverflow
}
