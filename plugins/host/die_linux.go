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
// killed with it.
func isolate(cmd *exec.Cmd) {
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
}
