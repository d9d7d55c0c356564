package host

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/plugins"
)

// held is what leak has taken.
var held [][]byte

// leak takes memory without end.
func leak() {
	for {
		part := make([]byte, 8<<20)
		for i := 0; i < len(part); i += os.Getpagesize() {
			part[i] = 1
		}
		held = append(held, part)
		time.Sleep(20 * time.Millisecond) // not as much as to hurt the machine
	}
}

// forkingMain is a plugin that leaves a process of its own, which has its pipes
// and is in a session of its own, so that no group has them both.
func forkingMain() {
	cmd := exec.Command("sh", "-c", "read -r pid rest < /proc/self/stat; echo $pid; exec sleep 1000 >&2") // the pid that the host knows
	cmd.Stderr = os.Stderr
	said, err := cmd.StdoutPipe()
	if err != nil {
		os.Exit(1)
	}
	cmd.ExtraFiles = []*os.File{os.NewFile(3, "lifeline"), os.NewFile(4, "end")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	if err == nil {
		var child int
		_, err = fmt.Fscan(said, &child)
		fmt.Fprintln(os.Stderr, "forked", child)
	}
	if err == nil {
		if os.Getenv("WEFT_TEST_ENDS") != "" {
			os.Exit(1)
		}
		err = plugins.Serve(scripted{})
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestLeakingPlugin shows that a process that takes too much memory is started
// anew, and that this is said of the object that it was asked about.
func TestLeakingPlugin(t *testing.T) {
	h := start(t, Config{Plugins: []Plugin{selfPlugin(t, "a")}, Memory: 200 << 20, DecideTimeout: time.Minute}, 1)
	controllers, _ := h.Controllers()
	before := pid(t, controllers[0])
	_, err := decide(t, controllers[0], "leak")
	var aside *core.SetAsideError
	if !errors.As(err, &aside) || !strings.Contains(aside.Reason, "MiB of memory, 200 MiB are allowed (plugins.memory); its process is restarted") {
		t.Fatalf("got %v", err)
	}
	if after := pid(t, controllers[0]); after == before {
		t.Error("the process that leaks goes on")
	}
}

// forked waits until the log tells of n processes that were forked, and returns
// the last.
func forked(t *testing.T, logs *safeBuffer, n int) int {
	t.Helper()
	return logged(t, logs, "forked ", n)
}

// logged waits until the log tells of n processes that are so, and returns the
// last.
func logged(t *testing.T, logs *safeBuffer, what string, n int) int {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		parts := strings.Split(logs.String(), `text="`+what)
		if len(parts) <= n {
			continue
		}
		text, _, _ := strings.Cut(parts[n], `"`)
		child, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return child
	}
	t.Fatalf("it does not tell %d times of a process that is %s:\n%s", n, what, logs)
	return 0
}

func gone(t *testing.T, child int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); alive(child); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(child, syscall.SIGKILL)
			t.Fatalf("process %d is left", child)
		}
	}
}

// TestForkingPlugin shows that what a plugin has started ends with it, and
// does not hide that it has ended, however it ends.
func TestForkingPlugin(t *testing.T) {
	cases := map[string]struct {
		role       string
		unconfined bool
		guard      []string
	}{
		"as usual":         {"forks", false, guarded()},
		"hidden":           {"hides", false, guarded()},
		"guarded":          {"forks", true, guarded()},
		"guarded, hidden":  {"hides", true, guarded()},
		"by its mark only": {"forks", true, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if tc.unconfined {
				unconfine(t)
			}
			testForking(t, tc.role, tc.guard)
		})
	}
}

func testForking(t *testing.T, role string, guard []string) {
	logs := &safeBuffer{}
	h, err := New(Config{Plugins: []Plugin{rolePlugin(t, role, "a")}, Guard: guard, Logger: slog.New(slog.NewTextHandler(logs, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1) // the one result
	go func() { done <- h.Run(ctx) }()
	c := await(t, h, 1)[0]
	first := pid(t, c)
	child := forked(t, logs, 1)
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	gone(t, child)
	second := forked(t, logs, 2)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	gone(t, second)
}

// TestForkingPluginThatDoesNotServe is about one that ends at once, and leaves
// a process that holds its pipes: it is tried again all the same.
func TestForkingPluginThatDoesNotServe(t *testing.T) {
	logs := &safeBuffer{}
	p := rolePlugin(t, "forks", "a")
	p.Env = append(p.Env, "WEFT_TEST_ENDS=1")
	start(t, Config{Plugins: []Plugin{p}, Logger: slog.New(slog.NewTextHandler(logs, nil))}, 0)
	gone(t, forked(t, logs, 1))
	gone(t, forked(t, logs, 2))
	if !strings.Contains(logs.String(), "it is no plugin, or ended at once") {
		t.Errorf("it was not said what is wrong:\n%s", logs)
	}
}

// TestNextHostEndsWhatIsLeft starts a host after one that was killed, whose
// plugin has left a process.
func TestNextHostEndsWhatIsLeft(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "data")
	cmd := exec.Command("sleep", "1000")
	cmd.Env = append(os.Environ(), markEnv+"="+mark)
	other := exec.Command("sleep", "1000")
	other.Env = append(os.Environ(), markEnv+"="+mark+"-2")
	for _, c := range []*exec.Cmd{cmd, other} {
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Process.Kill(); _ = c.Wait() }() // ended by then
	}
	start(t, Config{Mark: mark}, 0)
	gone(t, cmd.Process.Pid)
	if !alive(other.Process.Pid) {
		t.Error("what another host's plugin has started was ended")
	}
}

// TestRestartsLeakNothing kills a plugin again and again and counts what the
// host has open.
func TestRestartsLeakNothing(t *testing.T) {
	h := start(t, Config{Plugins: []Plugin{selfPlugin(t, "a")}}, 1)
	controllers, _ := h.Controllers()
	descriptors := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip(err)
		}
		return len(entries)
	}
	restart := func() {
		before := pid(t, controllers[0])
		if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(30 * time.Second); ; {
			d, err := decide(t, controllers[0], "")
			if err == nil && d.Annotations["pid"] != strconv.Itoa(before) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("it does not come back: %v", err)
			}
		}
	}
	restart()
	before := descriptors()
	for range 4 {
		restart()
	}
	if after := descriptors(); after > before+2 { // one may still be closing
		t.Errorf("%d descriptors are open, %d were four restarts ago", after, before)
	}
}

// TestWhatIsNoPlugin drops programs that are none.
func TestWhatIsNoPlugin(t *testing.T) {
	logs := &safeBuffer{}
	folder := t.TempDir()
	for name, text := range map[string]string{"talks": "#!/bin/sh\necho hello\nexec sleep 100\n", "ends": "#!/bin/sh\n", "garbage": "\x7fELF and no more"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	h := start(t, Config{Folder: folder, Logger: slog.New(slog.NewTextHandler(logs, nil))}, 0)
	for deadline := time.Now().Add(30 * time.Second); strings.Count(logs.String(), "starting it again") < 3; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not all were tried: %s", logs)
		}
	}
	for scanner := bufio.NewScanner(strings.NewReader(logs.String())); scanner.Scan(); {
		if len(scanner.Text()) > 500 {
			t.Errorf("a long line: %s", scanner.Text())
		}
	}
	for _, s := range h.Status() {
		want := "it is no plugin"
		if s.Name == "garbage" {
			want = "exec format error"
		}
		if s.Running || !strings.Contains(s.Error, want) || strings.Contains(s.Error, "\n") {
			t.Errorf("status %+v, want %q", s, want)
		}
	}
}
