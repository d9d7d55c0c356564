package engine

import "github.com/tetratelabs/wazero"

// interruptible makes compiled code end when the context of its call does: it
// asks at each loop and each function's entry. Without, a guest in a loop could
// not be killed, and would freeze the process at its next garbage collection.
// The price is 3 to 10 times the CPU time in guests' inner loops. This is the
// one place that decides how guests are interrupted: where Config.Rewrite puts
// checks into the module itself, this changes with it.
func interruptible(rc wazero.RuntimeConfig) wazero.RuntimeConfig {
	return rc.WithCloseOnContextDone(true)
}
