package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/weftrun/weft/plugins/host/guard"
)

// startGuarded starts cmd, a command that leads to guard.Run, and has it start
// what the order says. cmd.ExtraFiles are the lifeline and the end of the
// plugin. After an error no process is left; without, pid is the plugin's, and
// cmd is to be waited for. A guard ends all of it at SIGTERM.
func startGuarded(ctx context.Context, cmd *exec.Cmd, order guard.Order) (pid int, err error) {
	data, err := order.Encode()
	if err != nil {
		return 0, err
	}
	orderRead, orderWrite, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("start a guard: %w", err)
	}
	defer func() { _, _ = orderRead.Close(), orderWrite.Close() }() // nothing is lost if that fails
	reportRead, reportWrite, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("start a guard: %w", err)
	}
	defer func() { _, _ = reportRead.Close(), reportWrite.Close() }()
	cmd.ExtraFiles = append(cmd.ExtraFiles, orderRead, reportWrite)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start a guard: %w", err)
	}
	_, _ = orderRead.Close(), reportWrite.Close() // are the guard's
	pid, err = converse(ctx, data, orderWrite, reportRead)
	if err != nil {
		// A guard that has started nothing is merely ended; one of which that
		// is not known has a plugin that ends with it.
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return 0, err
	}
	return pid, nil
}

// converse gives an order, and returns what became of it.
func converse(ctx context.Context, order []byte, to, from *os.File) (pid int, err error) {
	stop := context.AfterFunc(ctx, func() { _, _ = to.SetDeadline(time.Unix(1, 0)), from.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := to.Write(order); err != nil {
		return 0, fmt.Errorf("tell a guard what to start: %w", err)
	}
	if err := to.Close(); err != nil {
		return 0, fmt.Errorf("tell a guard what to start: %w", err)
	}
	report, err := io.ReadAll(from)
	if err != nil {
		return 0, fmt.Errorf("hear from a guard: %w", err)
	}
	if len(report) == 0 {
		return 0, errors.New("a guard ended before it had started the program")
	}
	if pid, err := strconv.Atoi(string(report)); err == nil {
		return pid, nil
	}
	return 0, errors.New(string(report))
}
