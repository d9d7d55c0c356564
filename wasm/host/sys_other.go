//go:build unix && !linux

package host

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// futimens sets the times of an open file by the name that the system has for
// each descriptor.
func futimens(fd int, specs []unix.Timespec) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/dev/fd/%d", fd), specs, 0)
}
