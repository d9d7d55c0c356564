package sim

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
)

// failed are seeds that found something once, when there were fewer faults: 9, a
// node that was cut off while it subscribed ended; 19 and 20, a registration that
// was handled twice superseded the node itself; 321, a core that had stood still
// acknowledged what it did not know of.
var failed = []uint64{9, 19, 20, 321}

// failedSince are those of all faults: 100, a client was told that its object
// exists already, because of its own write that was never committed; the others,
// a node was back for too short a time to be heard of, so its pods had to go
// sooner than the simulation thought.
var failedSince = []uint64{100, 44, 3059, 7396, 9468, 20081, 221}

func simulate(t *testing.T, seed uint64, faults kinds) {
	t.Helper()
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) { run(t, seed, faults, folder) })
}

// TestFailedSeeds repeats them.
func TestFailedSeeds(t *testing.T) {
	for faults, seeds := range map[kinds][]uint64{fewer: failed, every: failedSince} {
		for _, seed := range seeds {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				simulate(t, seed, faults)
			})
		}
	}
}

// variable reads a variable of the environment.
func variable(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestSoak simulates SOAK_SEEDS seeds from SOAK_FROM on, or SOAK_SEED alone.
func TestSoak(t *testing.T) {
	from, seeds := variable(t, "SOAK_FROM", 1), variable(t, "SOAK_SEEDS", 6)
	if os.Getenv("SOAK_SEED") != "" {
		from, seeds = variable(t, "SOAK_SEED", 0), 1
	}
	for seed := from; seed < from+seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			simulate(t, seed, every)
		})
	}
}
