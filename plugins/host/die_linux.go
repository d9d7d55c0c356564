package host

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// isolate has the kernel kill the process when this one ends, however it ends,
// and gives it a process group of its own: so a terminal's Ctrl-C does not
// reach it before its host has stopped asking it, and what it has started is
// killed with it. Whatever it starts, and wherever that goes, is in a process
// namespace of which it is the first, so that the kernel kills all of it when
// this one ends. It tells whether there is such a namespace.
func isolate(cmd *exec.Cmd) (confined bool) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.Cancel = func() error {
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		}
		if err != nil {
			return fmt.Errorf("kill plugin: %w", err)
		}
		return nil
	}
	if unconfined.Load() {
		return false
	}
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID
	if os.Geteuid() != 0 { // who is not root needs to be the root of something
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
	}
	return true
}

// refusesNamespace tells whether a process could not be started because it was
// to have a namespace. From now on none has.
func refusesNamespace(err error) bool {
	for _, refusal := range []error{syscall.EPERM, syscall.EINVAL, syscall.ENOSPC, syscall.EUSERS} {
		if errors.Is(err, refusal) {
			unconfined.Store(true)
			return true
		}
	}
	return false
}

// isolateGuard is isolate for a guard, which is asked to end: if it were
// killed, nobody would know what its plugin has started. Its lifeline tells it
// too that this process has ended.
func isolateGuard(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = guardPatience // then it is killed, and the plugin with it
}
