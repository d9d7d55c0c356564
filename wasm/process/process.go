// Package process measures what this process itself uses. It must not know
// what the process is for.
package process

import (
	"time"

	"github.com/weftrun/weft/wasm"
)

// begun is when this process began, as nearly as it needs to be known.
var begun = time.Now()

// Used returns what this process has used since it began, under that name. It
// may be called concurrently.
func Used(name string) wasm.ProcessUsage {
	cpu, known := CPU()
	if !known {
		cpu = portableCPU()
	}
	return wasm.ProcessUsage{Name: name, StartedAt: begun, Usage: wasm.Usage{CPU: cpu, MemoryBytes: memory()}}
}
