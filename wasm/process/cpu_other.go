//go:build !unix

package process

import "time"

// CPU returns the CPU time that all threads of this process have used, and whether that is
// known: here it is not.
func CPU() (used time.Duration, known bool) { return 0, false }
