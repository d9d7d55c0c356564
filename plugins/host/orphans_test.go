package host

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weftrun/weft/plugins"
)

// hidingMain is a plugin that leaves a process by which nothing tells where it
// comes from: not its parent, which has ended, nor session, group, environment
// or pipes.
func hidingMain() {
	hidden := "(read -r pid rest </proc/self/stat; echo $pid; exec sleep 1000 </dev/null >/dev/null 2>&1 3<&- 4>&-) &"
	cmd := exec.Command("/bin/sh", "-c", hidden)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	child, err := cmd.Output()
	if err == nil {
		fmt.Fprintln(os.Stderr, "forked", strings.TrimSpace(string(child)))
		err = plugins.Serve(scripted{})
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

const guardArgument = "guard"

// guarded is the command of a guard.
func guarded() []string {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return []string{self, guardArgument}
}

// TestKilledHostLeavesNobody kills hosts in several ways, and looks for their
// plugins and what those have forked. No other host is started.
func TestKilledHostLeavesNobody(t *testing.T) {
	cases := map[string]struct {
		signal syscall.Signal
		role   string
		frozen func(plugin, child int) int // who is stopped before
	}{
		"SIGKILL":           {syscall.SIGKILL, "hides", nil},
		"SIGTERM":           {syscall.SIGTERM, "hides", nil},
		"SIGSEGV":           {syscall.SIGSEGV, "hides", nil},
		"pipes held":        {syscall.SIGKILL, "forks", nil},
		"the plugin frozen": {syscall.SIGKILL, "hides", func(plugin, _ int) int { return plugin }},
		"its child frozen":  {syscall.SIGKILL, "hides", func(_, child int) int { return child }},
	}
	for _, env := range []string{"", "WEFT_TEST_UNCONFINED=1"} {
		for name, tc := range cases {
			t.Run(name+env, func(t *testing.T) {
				cmd, logs := startHost(t, tc.role, env)
				plugin, child := logged(t, logs, "plugin ", 1), forked(t, logs, 1)
				if strings.Contains(logs.String(), "no process namespace") {
					t.Log("the kernel grants no process namespaces: it is a guard that is seen")
				}
				if tc.frozen != nil {
					signal(t, tc.frozen(plugin, child), syscall.SIGSTOP)
				}
				signal(t, cmd.Process.Pid, tc.signal)
				begin := time.Now()
				_ = cmd.Wait() // it was killed
				gone(t, plugin)
				gone(t, child)
				t.Logf("all were gone after %s", time.Since(begin).Round(time.Millisecond))
			})
		}
	}
}

// unconfine has the kernel refuse process namespaces until the test ends.
func unconfine(t *testing.T) {
	before := unconfined.Load()
	unconfined.Store(true)
	t.Cleanup(func() { unconfined.Store(before) })
}

// TestKilledGuard kills the guard alone: its plugin ends with it, what that has
// forked is found by its environment, and another one serves.
func TestKilledGuard(t *testing.T) {
	unconfine(t)
	logs := &safeBuffer{}
	h := start(t, Config{Plugins: []Plugin{rolePlugin(t, "forks", "a")}, Logger: slog.New(slog.NewTextHandler(logs, nil))}, 1)
	controllers, _ := h.Controllers()
	plugin := pid(t, controllers[0])
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", plugin))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	guard, err := strconv.Atoi(strings.Fields(rest)[1])
	if err != nil || guard == os.Getpid() {
		t.Fatalf("the plugin's parent is %d, %v, this is %d", guard, err, os.Getpid())
	}
	child := forked(t, logs, 1)
	signal(t, guard, syscall.SIGKILL)
	gone(t, plugin)
	gone(t, child)
	forked(t, logs, 2)
	await(t, h, 1)
}

func signal(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
}
