package executor

import (
	"net"
	"os"
	"syscall"
)

// attributes give the child a process group of its own: an interrupt from the
// keyboard is for the agent, which ends the child in order.
func attributes(dieWithParent bool) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true}
	if dieWithParent {
		a.Pdeathsig = syscall.SIGKILL
	}
	return a
}

// peer returns the process at the other end. Its number is the kernel's word,
// and it lives while it answers, so no stranger can be meant.
func peer(c net.Conn) *os.Process {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return nil
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return nil
	}
	var cred *syscall.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		cred, failed = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil || failed != nil {
		return nil
	}
	if int(cred.Pid) == os.Getpid() {
		return nil // nobody kills himself
	}
	p, err := os.FindProcess(int(cred.Pid))
	if err != nil {
		return nil
	}
	return p
}
