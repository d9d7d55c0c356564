package memory_test

import (
	"testing"
	"testing/synctest"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/bustest"
	"github.com/weftrun/weft/bus/memory"
)

func TestContract(t *testing.T) {
	bustest.Run(t, func(*testing.T) func(bus.Identity) bus.Bus { return memory.New().Connect })
}

func TestContractInBubble(t *testing.T) {
	for _, c := range bustest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { bustest.RunCase(t, c, memory.New().Connect) })
		})
	}
}
