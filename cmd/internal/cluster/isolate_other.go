//go:build !linux

package cluster

import (
	"os/exec"
	"syscall"
)

// isolate gives a child a process group of its own, so that the terminal's
// Ctrl-C reaches the parent alone, which then ends the child in good order.
func isolate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}

func onOwnThread(f func()) { f() }
