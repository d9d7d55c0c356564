package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestPluginFaults has a plugin from outside go wrong in every way, and looks
// at what a user is told and at the kinds of others.
func TestPluginFaults(t *testing.T) {
	c := startUpIn(t, newData(t, "[plugins]\ndecide_timeout = \"10s\"\nmemory = \"256Mi\"\n"))
	c.drop("riddles", self(t, "riddle"))
	c.drop("nonsense", []byte("#!/bin/sh\necho hello\n"))
	c.eventually("do", "explain", "riddle.spec")
	c.answers("first")
	t.Run("frozen", func(t *testing.T) { c.in(t).isFrozen() })
	t.Run("leaking", func(t *testing.T) { c.in(t).leaks() })
	t.Run("lying", func(t *testing.T) { c.in(t).lies() })
	t.Run("forking", func(t *testing.T) { c.in(t).forks() })
	t.Run("removed", func(t *testing.T) { c.in(t).isRemoved() })
	for line := range strings.Lines(c.out.String()) {
		if strings.Contains(line, "plugin=nonsense") && strings.Contains(line, "starting it again") {
			if !strings.Contains(line, "mend or remove it") || len(line) > 500 {
				t.Errorf("of what is no plugin it says %q", line)
			}
			return
		}
	}
	t.Error("of what is no plugin nothing is said")
}

// answers has a riddle answered, and returns the process that has.
func (c *cluster) answers(name string) int {
	c.t.Helper()
	c.apply(riddle(name, ""))
	c.must("wait", "--for=jsonpath={.status.answer}=42", "riddle/"+name, "--timeout=60s")
	return c.riddlePID(name)
}

func (c *cluster) riddlePID(name string) int {
	c.t.Helper()
	pid, err := strconv.Atoi(c.must("get", "riddle", name, "-o", "jsonpath={.status.pid}"))
	if err != nil {
		c.t.Fatal(err)
	}
	return pid
}

// isFrozen stops the plugin's process while more objects wait for it than are
// decided at once.
func (c *cluster) isFrozen() {
	pid := c.riddlePID("first")
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		c.t.Fatal(err)
	}
	manifests := make([]string, 20)
	for i := range manifests {
		manifests[i] = riddle(fmt.Sprintf("frozen-%d", i), "")
	}
	c.apply(strings.Join(manifests, "---\n"))
	begin := time.Now()
	c.apply(park("web", 2, ""))
	c.available("web", 2)
	events := c.must("events", "--types=Warning")
	if took := time.Since(begin); took < 8*time.Second && strings.Contains(events, "did not answer") {
		c.t.Errorf("the Deployment was not looked at before the plugin was restarted:\n%s", events)
	} else {
		c.t.Logf("the Deployment was available after %s", took.Round(time.Millisecond))
	}
	c.eventually("did not answer within 10s; its process is restarted", "events", "--types=Warning")
	for i := range manifests {
		c.must("wait", "--for=jsonpath={.status.answer}=42", fmt.Sprintf("riddle/frozen-%d", i), "--timeout=60s")
	}
	if after := c.riddlePID("frozen-0"); after == pid {
		c.t.Error("the frozen process has answered")
	}
}

func (c *cluster) leaks() {
	before := c.answers("before-leak")
	c.apply(riddle("leaking", "do: leak"))
	c.eventually("256 MiB are allowed (plugins.memory); its process is restarted", "describe", "riddle", "leaking")
	c.must("delete", "riddle", "leaking")
	if after := c.answers("after-leak"); after == before {
		c.t.Error("the process that leaks was not restarted")
	}
}

func (c *cluster) lies() {
	c.apply(riddle("lying", "do: steal"))
	out := c.eventually("DecisionRefused", "describe", "riddle", "lying")
	if !strings.Contains(out, "create[0]: Forbidden: Secret is not a declared kind of children") {
		c.t.Errorf("the event does not say what was refused:\n%s", out)
	}
	c.refused("", []string{"not found"}, "get", "secret", "stolen", "-n", "kube-system")
	c.answers("beside-the-liar")
}

func (c *cluster) forks() {
	plugin := c.answers("before-fork")
	c.apply(riddle("forking", "do: fork"))
	c.must("wait", "--for=jsonpath={.status.answer}=forked", "riddle/forking", "--timeout=60s")
	child, ok := readProcess(c.riddlePID("forking"))
	if !ok || child.parent != plugin {
		c.t.Fatalf("the plugin %d has forked %+v", plugin, child)
	}
	c.must("delete", "riddle", "forking")
	if err := syscall.Kill(plugin, syscall.SIGKILL); err != nil {
		c.t.Fatal(err)
	}
	c.await("the end of what the plugin has forked", func() bool { return !child.alive() })
	c.answers("after-fork")
}

func (c *cluster) isRemoved() {
	if err := os.Remove(filepath.Join(c.data, "plugins", "riddles")); err != nil {
		c.t.Fatal(err)
	}
	c.eventually("ControllerGone", "describe", "crd", "riddles.e2e.weft.run")
	c.eventually("until a plugin serves riddles.e2e.weft.run again, nothing happens", "describe", "riddle", "first")
	c.drop("riddles", self(c.t, "riddle"))
	c.eventually("ControllerServes", "describe", "crd", "riddles.e2e.weft.run")
	c.answers("again")
}
