package cluster

import (
	"os/exec"
	"runtime"
	"syscall"
)

// isolate gives a child a process group of its own, so that the terminal's
// Ctrl-C reaches the parent alone, which then ends the child in good order;
// and has the kernel kill it when the parent ends, however that ends.
func isolate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func onOwnThread(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	f()
}
