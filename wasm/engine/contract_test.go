package engine_test

import (
	"testing"

	"github.com/weftrun/weft/wasm/engine"
	"github.com/weftrun/weft/wasm/wasmtest"
)

func TestContract(t *testing.T) {
	wasmtest.Run(t, func(t *testing.T) wasmtest.Subject {
		return wasmtest.Real(open(t, engine.Config{}))
	})
}

// What cannot be metered keeps the contract as well.
func TestContractUnmetered(t *testing.T) {
	wasmtest.Run(t, func(t *testing.T) wasmtest.Subject {
		return wasmtest.Real(open(t, engine.Config{Unmetered: true}))
	})
}
