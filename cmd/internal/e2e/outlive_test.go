package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestNoPluginOutlivesTheCore ends "weft up" by every signal, with a plugin that
// does not hear that it has ended.
func TestNoPluginOutlivesTheCore(t *testing.T) {
	for _, signal := range []syscall.Signal{
		syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGKILL, syscall.SIGABRT, syscall.SIGSEGV,
	} {
		t.Run(signal.String(), func(t *testing.T) {
			data := newData(t, "")
			c := member(t, data, "up")
			c.said("Ctrl-C stops")
			c.drop("riddles", self(t, "deaf"))
			c.eventually("do", "explain", "riddle.spec")
			c.apply(riddle("busy", "do: spin"))
			c.eventually("busy", "get", "riddles")
			c.only("e2e.test")
			if err := c.cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			<-c.ended
			noneLeft(t, data)
		})
	}
}

// TestForkedEndsWithTheCore kills "weft up" while a process runs that a plugin
// has started, in a session of its own. Where the kernel grants no process
// namespaces, the next core ends it.
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
	<-c.ended
	if !strings.Contains(c.out.String(), "no process namespace") {
		for begin := time.Now(); child.alive(); pause() {
			if time.Since(begin) > 5*time.Second {
				t.Fatal("what the plugin had forked outlives the core")
			}
		}
	}
	next := member(t, data, "up")
	next.await("the end of what the plugin had forked", func() bool { return !child.alive() })
	next.said("Ctrl-C stops")
	next.stop()
	noneLeft(t, data)
}
