//go:build unix

package process

import (
	"syscall"
	"time"
)

// CPU returns the CPU time that all threads of this process have used, and whether that is
// known. It may be called concurrently.
func CPU() (used time.Duration, known bool) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, false
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), true
}
