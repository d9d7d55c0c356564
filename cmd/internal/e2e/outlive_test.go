package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestNoPluginOutlivesTheCore ends "weft up" by every signal, with a plugin that
// does not hear that it has ended, and that has started processes. No other
// core is started, so that nobody else ends them.
func TestNoPluginOutlivesTheCore(t *testing.T) {
	for _, signal := range []syscall.Signal{
		syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGKILL, syscall.SIGABRT, syscall.SIGSEGV,
	} {
		t.Run(signal.String(), func(t *testing.T) {
			member(t, newData(t, ""), "up").leavesNobody(signal)
		})
	}
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(signal.String()+" guarded", func(t *testing.T) {
			containedMember(t, newData(t, ""), "up").leavesNobody(signal, " plugin-guard")
		})
	}
}

// leavesNobody ends a cluster that begins by a signal. others are those that
// are there besides the plugin.
func (c *cluster) leavesNobody(signal syscall.Signal, others ...string) {
	c.t.Helper()
	c.said("Ctrl-C stops")
	c.drop("riddles", self(c.t, "deaf"))
	c.eventually("do", "explain", "riddle.spec")
	family := []process{c.leaves("fork", "forked"), c.leaves("hide", "hidden")}
	c.apply(riddle("busy", "do: spin"))
	c.eventually("busy", "get", "riddles")
	for _, text := range append([]string{"e2e.test"}, others...) {
		family = append(family, c.only(text))
	}
	if err := c.cmd.Process.Signal(signal); err != nil {
		c.t.Fatal(err)
	}
	c.gone()
	c.nobodyLeft(family)
	noneLeft(c.t, c.data)
}

// leaves has the plugin of riddles do something by which it starts a process,
// and returns that.
func (c *cluster) leaves(do, answer string) process {
	c.t.Helper()
	c.apply(riddle(do, "do: "+do))
	c.must("wait", "--for=jsonpath={.status.answer}="+answer, "riddle/"+do, "--timeout=60s")
	child, ok := readProcess(c.riddlePID(do))
	if !ok {
		c.t.Fatalf("%s has started nothing", do)
	}
	return child
}

// containedMember is member as in a container: as root, without the right to
// make namespaces.
func containedMember(t *testing.T, data string, args ...string) *cluster {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("root alone can give up the right to make namespaces")
	}
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, append([]string{weftBinary(t)}, args...)...)
	cmd.Env = []string{roleVariable + "=confined"}
	return memberBy(t, data, cmd)
}

// runConfined becomes the program that its arguments name, without the right to
// make namespaces.
func runConfined() int {
	const dropFromBounds, systemAdmin = 24, 21 // PR_CAPBSET_DROP, CAP_SYS_ADMIN
	runtime.LockOSThread()
	_, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, dropFromBounds, systemAdmin, 0)
	if errno != 0 {
		fmt.Fprintln(os.Stderr, "give up a capability:", errno)
		return 1
	}
	env := slices.DeleteFunc(os.Environ(), func(pair string) bool { return strings.HasPrefix(pair, roleVariable+"=") })
	fmt.Fprintln(os.Stderr, syscall.Exec(os.Args[1], os.Args[1:], env)) // it returns to say why not
	return 1
}

// TestNextCoreEndsWhatAPluginForked kills "weft up" and a plugin's guard while
// a process runs that the plugin has started, which nothing but the next core
// can know of then.
func TestNextCoreEndsWhatAPluginForked(t *testing.T) {
	data := newData(t, "")
	c := containedMember(t, data, "up")
	c.said("Ctrl-C stops")
	c.drop("riddles", self(t, "riddle"))
	c.eventually("do", "explain", "riddle.spec")
	child := c.leaves("fork", "forked")
	c.must("delete", "riddle", "fork")
	guard := c.only(" plugin-guard")
	// A core that sees the guard end would end what is left.
	for _, kill := range []struct {
		pid    int
		signal syscall.Signal
	}{{c.cmd.Process.Pid, syscall.SIGSTOP}, {guard.pid, syscall.SIGKILL}, {c.cmd.Process.Pid, syscall.SIGKILL}} {
		if err := syscall.Kill(kill.pid, kill.signal); err != nil {
			t.Fatal(err)
		}
	}
	c.gone()
	if !child.alive() {
		t.Error("something else has ended it")
	}
	nextEnds(t, data, child)
}

// nextEnds starts a cluster on a folder, and has it end what a plugin of the one
// before has forked.
func nextEnds(t *testing.T, data string, forked process) {
	t.Helper()
	next := member(t, data, "up")
	next.await("the end of what the plugin had forked", func() bool { return !forked.alive() })
	next.said("Ctrl-C stops")
	next.stop()
	noneLeft(t, data)
}

// TestGuardIsSmall shows that a guard goes no further than its own package: the
// others that are initialised before main would make it slow and large.
func TestGuardIsSmall(t *testing.T) {
	cmd := exec.Command(weftBinary(t), "plugin-guard")
	cmd.Env = []string{"GODEBUG=inittrace=1"}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "a core starts this for a plugin") {
		t.Errorf("got %v: %s", err, out)
	}
	if n := strings.Count(string(out), "\ninit "); n > 50 || strings.Contains(string(out), "k8s.io/api/") {
		t.Errorf("%d packages were initialised before:\n%s", n, out)
	}
}

// TestForkedEndsWithTheCore kills "weft up" while a process runs that a plugin
// has started, in a session of its own.
func TestForkedEndsWithTheCore(t *testing.T) {
	data := newData(t, "")
	c := member(t, data, "up")
	c.said("Ctrl-C stops")
	c.drop("riddles", self(t, "riddle"))
	c.eventually("do", "explain", "riddle.spec")
	c.apply(riddle("forking", "do: fork"))
	c.must("wait", "--for=jsonpath={.status.answer}=forked", "riddle/forking", "--timeout=60s")
	child, ok := readProcess(c.riddlePID("forking"))
	if !ok {
		t.Fatal("nothing was forked")
	}
	c.must("delete", "riddle", "forking")
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	c.gone()
	for begin := time.Now(); child.alive(); pause() {
		if time.Since(begin) > 5*time.Second {
			t.Fatal("what the plugin had forked outlives the core")
		}
	}
	nextEnds(t, data, child)
}
