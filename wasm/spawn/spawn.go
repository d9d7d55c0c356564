// Package spawn starts processes that serve this one and end with it. It must
// not know what they do.
package spawn

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// Start starts cmd, of which all is set but how it is tied to this process: it
// gets a process group of its own, as an interrupt from the keyboard is for its
// parent, which ends it in order. If it is to die with its parent, the
// operating system sees to that where it can, however the parent ends; let the
// child watch for the end of its standard input as well.
//
// gone is closed once the process has ended and all its output was read; then
// cmd.ProcessState says how. waiters counts the goroutine that waits for it.
func Start(cmd *exec.Cmd, dieWithParent bool, waiters *sync.WaitGroup) (gone <-chan struct{}, err error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	if dieWithParent {
		tie(cmd.SysProcAttr)
	}
	started := make(chan error, 1) // 1: its sender must not wait
	ended := make(chan struct{})
	waiters.Go(func() {
		defer close(ended)
		if dieWithParent {
			// The operating system ties a child to the thread that started it,
			// so that thread stays for as long.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
		}
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // is in cmd.ProcessState
		}
	})
	return ended, <-started
}
