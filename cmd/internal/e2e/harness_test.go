package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// waitAtMost is how long a condition is waited for, on a busy machine.
const waitAtMost = 60 * time.Second

// roleVariable has the test binary serve as something else: see roles.
const roleVariable = "WEFT_E2E_ROLE"

// roles are what the test binary can be besides itself, by the name in
// roleVariable. Each returns an exit code.
var roles = map[string]func() int{
	"riddle":   func() int { return serveRiddles(riddleV1) },
	"riddle-2": func() int { return serveRiddles(riddleV2) },
	"deaf":     serveDeaf,
	"confined": runConfined,
}

var built struct {
	folder string
	mu     sync.Mutex
	paths  map[string]string
}

func TestMain(m *testing.M) {
	if role, ok := roles[os.Getenv(roleVariable)]; ok {
		os.Exit(role())
	}
	if signal.Ignored(syscall.SIGHUP) { // by nohup, and programs that are started would inherit it
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	folder, err := os.MkdirTemp("", "weft-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(folder) }() // in the system's temporary folder
	built.folder, built.paths = folder, map[string]string{}
	return m.Run()
}

// root is the repository's folder.
func root(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// build builds the main package in folder (from the repository's root) once in
// a run of the tests, and returns the binary's path.
func build(t *testing.T, folder string) string {
	t.Helper()
	built.mu.Lock()
	defer built.mu.Unlock()
	if path, ok := built.paths[folder]; ok {
		return path
	}
	path := filepath.Join(built.folder, filepath.Base(folder))
	cmd := exec.Command("go", "build", "-mod=readonly", "-buildvcs=false", "-o", path, ".")
	cmd.Dir = filepath.Join(root(t), folder)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", folder, err, out)
	}
	built.paths[folder] = path
	return path
}

// weftBinary builds weft.
func weftBinary(t *testing.T) string { return build(t, "cmd/weft") }

// newData makes a data folder with settings that take free ports and find the
// example modules as file:src/NAME/NAME.wasm; more is added to the settings.
func newData(t *testing.T, more string) string {
	t.Helper()
	data := t.TempDir()
	settings := fmt.Sprintf(`log_level = "info"
[api]
listen = "127.0.0.1:0"
[nats]
listen = "127.0.0.1:0"
[node]
name = "one"
module_path = [%q]
%s`, filepath.Join(root(t), "examples"), more)
	if err := os.WriteFile(filepath.Join(data, "weft.toml"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	return data
}

// cluster is a running "weft up", and the command line that talks to it.
type cluster struct {
	*daemon
	t *testing.T // that fails
}

// in returns the cluster for use in a subtest.
func (c *cluster) in(t *testing.T) *cluster { return &cluster{daemon: c.daemon, t: t} }

// daemon is a process in the background.
type daemon struct {
	data   string
	cmd    *exec.Cmd
	out    *lockedBuffer // what it printed
	ended  chan struct{}
	status error // how it ended; to be read once ended is closed
}

// startUp runs "weft up args..." with a data folder of its own until the test
// ends. The end is by Ctrl-C, must come within 5 s, and leave no process.
func startUp(t *testing.T, args ...string) *cluster {
	t.Helper()
	return startUpIn(t, newData(t, ""), args...)
}

// startUpIn is startUp with a folder from newData.
func startUpIn(t *testing.T, data string, args ...string) *cluster {
	t.Helper()
	c := launch(t, data, append([]string{"up"}, args...)...)
	c.await("the node to be ready", func() bool { return strings.Contains(c.out.String(), "node one is ready") })
	return c
}

// launch runs weft in the background until the test ends, as startUp does.
func launch(t *testing.T, data string, args ...string) *cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and runs the whole binary")
	}
	c := &cluster{t: t, daemon: &daemon{data: data, out: &lockedBuffer{}, ended: make(chan struct{})}}
	c.cmd = exec.Command(weftBinary(t), args...)
	c.cmd.Dir, c.cmd.Env = data, c.environment()
	c.cmd.Stdout, c.cmd.Stderr = c.out, c.out
	c.cmd.SysProcAttr = endWithThisProcess()
	// What is left running would hold the output open: then Wait returns all
	// the same, and stop names the process.
	c.cmd.WaitDelay = 5 * time.Second
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		c.status = c.cmd.Wait()
		close(c.ended)
	}()
	t.Cleanup(func() {
		c.stop()
		if t.Failed() {
			t.Logf("weft %s said:\n%s", strings.Join(args, " "), c.out)
		}
	})
	return c
}

func (c *cluster) environment() []string {
	return append(os.Environ(), "WEFT_DATA="+c.data)
}

// stop ends the cluster as Ctrl-C does, if it still runs.
func (c *cluster) stop() {
	c.t.Helper()
	family := c.processes()
	select {
	case <-c.ended:
		return
	default:
	}
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		c.t.Errorf("interrupt: %v", err)
	}
	select {
	case <-c.ended:
		if c.status != nil {
			c.t.Errorf("it ended with: %v", c.status)
		}
	case <-time.After(10 * time.Second): // 5 s are promised, on a machine that is not busy
		c.t.Errorf("it did not end within 10 s")
		_ = c.cmd.Process.Kill()
		c.gone()
	}
	c.nobodyLeft(family)
}

// kill ends the cluster's first process by SIGKILL, and checks that all others
// end by themselves.
func (c *cluster) kill() {
	c.t.Helper()
	family := c.processes()
	if err := c.cmd.Process.Kill(); err != nil {
		c.t.Fatal(err)
	}
	c.gone()
	c.nobodyLeft(family)
}

// gone waits for the process to end. It may take long on a busy machine, but not for
// ever.
func (c *cluster) gone() {
	c.t.Helper()
	select {
	case <-c.ended:
	case <-time.After(time.Minute):
		c.t.Fatalf("weft did not end within a minute; it said:\n%s", c.out)
	}
}

// nobodyLeft waits up to 5 s for processes to end.
func (c *cluster) nobodyLeft(family []process) {
	c.t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for _, p := range family {
		for p.alive() {
			if time.Now().After(deadline) {
				c.t.Errorf("process %d is left: %s", p.pid, p.command)
				_ = syscall.Kill(p.pid, syscall.SIGKILL)
				break
			}
			pause()
		}
	}
}

// weft runs one command line and returns what it printed, errors included.
func (c *cluster) weft(args ...string) (string, error) {
	return c.weftWith("", args...)
}

// weftWith is weft with standard input.
func (c *cluster) weftWith(input string, args ...string) (string, error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitAtMost) // also used while the test ends
	defer cancel()
	cmd := exec.CommandContext(ctx, weftBinary(c.t), args...)
	cmd.Dir, cmd.Env = c.data, c.environment()
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// must is weft, or else the test fails.
func (c *cluster) must(args ...string) string {
	c.t.Helper()
	out, err := c.weft(args...)
	if err != nil {
		c.t.Fatalf("weft %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// apply applies a manifest in any of the formats.
func (c *cluster) apply(manifest string) {
	c.t.Helper()
	if out, err := c.weftWith(manifest, "apply", "-f", "-"); err != nil {
		c.t.Fatalf("apply: %v\n%s\n%s", err, out, manifest)
	}
}

// refused runs a command line that must fail, with each of these texts in its
// message.
func (c *cluster) refused(input string, want []string, args ...string) {
	c.t.Helper()
	out, err := c.weftWith(input, args...)
	if err == nil {
		c.t.Errorf("weft %s was not refused:\n%s", strings.Join(args, " "), out)
	}
	for _, text := range want {
		if !strings.Contains(out, text) {
			c.t.Errorf("weft %s: %q is not in the message:\n%s", strings.Join(args, " "), text, out)
		}
	}
}

// eventually runs a command line until its output contains want.
func (c *cluster) eventually(want string, args ...string) string {
	c.t.Helper()
	var out string
	var err error
	c.awaitOr(func() bool {
		out, err = c.weft(args...)
		return err == nil && strings.Contains(out, want)
	}, func() string {
		return fmt.Sprintf("weft %s: %q is wanted, error %v:\n%s", strings.Join(args, " "), want, err, out)
	})
	return out
}

// await polls until done.
func (c *cluster) await(what string, done func() bool) {
	c.t.Helper()
	c.awaitOr(done, func() string { return "waited in vain for " + what })
}

func (c *cluster) awaitOr(done func() bool, failure func() string) {
	c.t.Helper()
	for deadline := time.Now().Add(waitAtMost); !done(); pause() {
		select {
		case <-c.ended:
			c.t.Fatalf("weft ended: %v; %s", c.status, failure())
		default:
		}
		if time.Now().After(deadline) {
			c.t.Fatal(failure())
		}
	}
}

// pause is between two looks at something that no one tells of.
func pause() { time.Sleep(20 * time.Millisecond) }

// lockedBuffer is written by a process and read meanwhile.
type lockedBuffer struct {
	mu   sync.Mutex
	data bytes.Buffer
}

var _ io.Writer = (*lockedBuffer)(nil)

func (b *lockedBuffer) Write(data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.Write(data)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}
