package meter_test

import (
	"math/rand/v2"
	"os/exec"
	"testing"

	"github.com/weftrun/weft/wasm/meter"
	"github.com/weftrun/weft/wasm/wasmtest"
)

// TestValidator asks wabt's validator about what the pass makes of all modules
// that the tests have, generated and mutated ones too. What wabt finds valid must
// stay so. The engine is asked in all other tests.
func TestValidator(t *testing.T) {
	tool, err := exec.LookPath("wasm-validate")
	if err != nil {
		t.Skip("wasm-validate (wabt) is not installed")
	}
	modules := corpus(t)
	for seed := range uint64(100) {
		modules = append(modules, generate(1000+seed))
	}
	modules = append(modules, mutants(modules, 400)...)
	for _, pkg := range []string{"github.com/weftrun/weft/examples/src/pi", suite} {
		modules = append(modules, wasmtest.BuildGo(t, pkg))
	}
	rewritten := 0
	for n, module := range modules {
		out, info, err := meter.Rewrite(module, meter.Options{})
		if err != nil || !info.Metered {
			continue
		}
		if err := wabt(t, tool, out); err == nil {
			rewritten++
		} else if wabt(t, tool, module) == nil {
			t.Errorf("module %d: valid before, but not metered: %v", n, err)
		}
	}
	if t.Logf("%d modules are valid metered", rewritten); rewritten < 150 {
		t.Error("these are too few")
	}
}

// mutants returns copies of modules with a few bytes changed.
func mutants(modules [][]byte, n int) (list [][]byte) {
	r := rand.New(rand.NewPCG(1, 2))
	for range n {
		module := append([]byte(nil), modules[r.IntN(len(modules))]...)
		for range 1 + r.IntN(3) {
			module[r.IntN(len(module))] ^= byte(1 << r.IntN(8))
		}
		list = append(list, module)
	}
	return list
}
