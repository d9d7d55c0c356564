package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weftrun/weft/cmd/internal/settings"
)

// Up is "weft up": a whole cluster from one command.
type Up struct {
	Settings *settings.Settings
	Flags    []string // the flags that lead other processes to the same settings
	Folder   string   // of manifests to apply; empty for none
	Out      io.Writer
	Logger   *slog.Logger
}

// Run runs the cluster until ctx ends. Everything that it starts ends with it.
func (u *Up) Run(ctx context.Context) error {
	begin := time.Now()
	if u.Folder != "" {
		folder, err := filepath.Abs(u.Folder)
		if err != nil {
			return fmt.Errorf("apply %s: %w", u.Folder, err)
		}
		if _, err := os.Stat(folder); err != nil {
			return fmt.Errorf("apply: %w", err)
		}
		u.Folder = folder
	}
	return RunCore(ctx, u.Settings, u.Logger, func(ctx context.Context, c Core) error {
		group, ctx := errgroup.WithContext(ctx)
		group.Go(func() error { return u.keepNode(ctx) })
		group.Go(func() error { return u.greet(ctx, c, begin) })
		return group.Wait()
	})
}

// keepNode keeps a node process running.
func (u *Up) keepNode(ctx context.Context) error {
	for delay := 100 * time.Millisecond; ctx.Err() == nil; delay = min(2*delay, 5*time.Second) {
		started := time.Now()
		err := u.node(ctx)
		if ctx.Err() != nil {
			return nil
		}
		u.Logger.Warn("node ended, starting it again", "err", err, "after", delay)
		if time.Since(started) > time.Minute {
			delay = 100 * time.Millisecond
		}
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
	}
	return nil
}

// node runs one node process until it ends or ctx does.
func (u *Up) node(ctx context.Context) error {
	args := []string{"node", "--die-with-parent"}
	if u.Folder != "" {
		args = append(args, "--module-path="+u.Folder)
	}
	cmd, err := child(append(args, u.Flags...)...)
	if err != nil {
		return err
	}
	cmd.Stderr = os.Stderr
	// The child reads its end of the pipe until this process ends.
	lifeline, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start node: %w", err)
	}
	defer func() { _ = lifeline.Close() }() // tells the child
	return supervise(ctx, cmd)
}

// apply applies the manifests as a user would. What cannot be applied is said
// and left out; the cluster runs on.
func (u *Up) apply(ctx context.Context, out *screen) {
	cmd, err := child("apply", "-f", u.Folder)
	if err != nil {
		out.say("  %v", err)
		return
	}
	var problems bytes.Buffer
	cmd.Env = append(os.Environ(), "WEFT_DATA="+u.Settings.Data)
	cmd.Stdout, cmd.Stderr = out, &problems
	err = supervise(ctx, cmd)
	if ctx.Err() != nil {
		return
	}
	warnings, others := sift(problems.String())
	for i, line := range warnings {
		if i == shownWarnings {
			out.say("  and %d more warnings: %s apply -f %s shows them", len(warnings)-i, u.self(), shellWord(u.Folder))
			break
		}
		out.say("  %s", line)
	}
	for _, line := range others {
		out.say("  %s", line)
	}
	if err != nil {
		out.head("Not all manifests were applied: correct what is said above, then: %s apply -f %s", u.self(), shellWord(u.Folder))
	}
}

// shownWarnings is how many warnings of applying are shown.
const shownWarnings = 3

// sift parts warnings, each once, from everything else.
func sift(text string) (warnings, others []string) {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "":
		case !strings.HasPrefix(line, "Warning:"):
			others = append(others, line)
		case !slices.Contains(warnings, line):
			warnings = append(warnings, line)
		}
	}
	return warnings, others
}

func child(args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.Command(self, args...)
	isolate(cmd)
	return cmd, nil
}

// supervise runs a child until it ends. When ctx ends it is asked to end, and
// killed if it does not in time. The kernel kills a child with the thread that
// started it, so that thread stays.
func supervise(ctx context.Context, cmd *exec.Cmd) error {
	done := make(chan error, 1) // the one result
	started := make(chan error, 1)
	go onOwnThread(func() {
		err := cmd.Start()
		started <- err
		if err == nil {
			done <- cmd.Wait()
		}
	})
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-time.After(drainTime - time.Second):
	}
	_ = cmd.Process.Kill() // it may have ended meanwhile
	return <-done
}
