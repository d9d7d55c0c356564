package engine

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// threadTime returns the CPU time that this thread has had, in nanoseconds, or
// the time of the clock where the system does not tell. It is no call that Go's
// scheduler hears of: such would cost more than it does.
func threadTime() int64 {
	var t unix.Timespec
	if _, _, errno := unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_THREAD_CPUTIME_ID, uintptr(unsafe.Pointer(&t)), 0); errno != 0 {
		return now()
	}
	return t.Nano()
}

// patience is the time in nanoseconds after which a guest that computes for long
// expects to be done with its work: that is how the kernel orders threads which
// have had equal amounts. Usual are 1 to 3 ms, and who expects less than the one
// that computes takes its processor at once when it wakes up. In the long run
// all get as much as ever. Kernels before 6.12 do not listen.
const patience = 5_000_000

// yield tells the kernel that this thread may wait for others, or that it no
// longer should. The kernel's refusal costs latency and nothing else.
func yield(on bool) {
	a, err := unix.SchedGetAttr(0, 0)
	if err != nil || a.Policy != unix.SCHED_NORMAL {
		return
	}
	a.Runtime = 0 // the usual
	if on {
		a.Runtime = patience
	}
	_ = unix.SchedSetAttr(0, a, 0)
}
