package executor_test

import (
	"testing"

	"github.com/weftrun/weft/wasm/executor"
	"github.com/weftrun/weft/wasm/wasmtest"
)

func TestContract(t *testing.T) {
	wasmtest.Run(t, func(t *testing.T) wasmtest.Subject {
		return wasmtest.Real(run(t, t.TempDir(), executor.Config{DieWithParent: true}))
	})
}
