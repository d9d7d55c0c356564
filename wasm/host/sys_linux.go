package host

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// futimens sets the times of an open file: x/sys has it in microseconds alone.
func futimens(fd int, specs []unix.Timespec) error {
	_, _, e := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&specs[0])), 0, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}
