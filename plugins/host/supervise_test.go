package host

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftrun/weft/core"
)

// A call that is under way when the process is restarted for another's sake is
// made again, and nobody hears of it.
func TestInnocentsAreAskedAgain(t *testing.T) {
	h := start(t, Config{Plugins: []Plugin{selfPlugin(t, "a")}, DecideTimeout: time.Second}, 1)
	controllers, _ := h.Controllers()
	c := controllers[0]
	pid(t, c)
	var wg sync.WaitGroup
	spun := make(chan struct{})
	wg.Go(func() {
		defer close(spun)
		if _, err := decide(t, c, "spin"); err == nil {
			t.Error("the spinner answered")
		}
	})
	for range 4 {
		wg.Go(func() {
			for {
				if _, err := decide(t, c, ""); err != nil {
					t.Errorf("an innocent was told: %v", err)
					return
				}
				select {
				case <-spun:
					return
				default:
				}
			}
		})
	}
	wg.Wait()
}

// While another program takes a plugin's place, its kinds are not given up, and
// who asks is answered by the one or the other.
func TestReplacementIsNotNoticed(t *testing.T) {
	folder := t.TempDir()
	h := start(t, Config{Folder: folder}, 0)
	drop(t, folder, "one")
	first := pid(t, await(t, h, 1)[0])
	drop(t, folder, "one")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for begin := time.Now(); time.Since(begin) < 30*time.Second; {
				controllers, _ := h.Controllers()
				if len(controllers) != 1 {
					t.Errorf("%d controllers serve", len(controllers))
					return
				}
				d, err := decide(t, controllers[0], "")
				if err != nil {
					t.Errorf("one was told: %v", err)
					return
				}
				if d.Annotations["pid"] != strconv.Itoa(first) {
					return
				}
			}
			t.Error("the replaced plugin goes on")
		})
	}
	wg.Wait()
	if status := h.Status(); len(status) != 1 || status[0].Restarts != 0 || status[0].Error != "" {
		t.Errorf("status %+v", status)
	}
}

// What a program has not survived is asked of the one that takes its place.
func TestReplacementIsAskedAboutAll(t *testing.T) {
	folder := t.TempDir()
	h := start(t, Config{Folder: folder, DecideTimeout: 500 * time.Millisecond}, 0)
	drop(t, folder, "one")
	before := await(t, h, 1)[0]
	seen := core.Observation{Now: time.Unix(1, 0), Parent: parent("spin")}
	if _, err := before.Decide(t.Context(), seen); err == nil {
		t.Fatal("the spinner answered")
	}
	drop(t, folder, "one")
	timeout := time.After(30 * time.Second)
	for {
		controllers, changed := h.Controllers()
		if len(controllers) != 1 {
			t.Fatalf("%d controllers serve", len(controllers))
		}
		if now := controllers[0]; now != before {
			if err := now.(*proxy).isAside(seen.Parent); err != nil {
				t.Errorf("it is not asked, for %v", err)
			}
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatal("no other program serves")
		}
	}
}

// Several that time out together do not restart the process once each. One
// that has a moment left is asked again and spins in the next process, so it
// may be more than once.
func TestOneRestartForMany(t *testing.T) {
	const spinners = 8
	h := start(t, Config{Plugins: []Plugin{selfPlugin(t, "a")}, DecideTimeout: time.Second}, 1)
	controllers, _ := h.Controllers()
	var wg sync.WaitGroup
	for range spinners {
		wg.Go(func() { _, _ = decide(t, controllers[0], "spin") }) // each fails
	}
	wg.Wait()
	pid(t, controllers[0])
	if s := h.Status()[0]; s.Restarts < 1 || s.Restarts > spinners/2 {
		t.Errorf("restarted %d times for %d", s.Restarts, spinners)
	}
}

// A version of an object that the process did not survive is not tried again
// at once; another version is.
func TestSetAside(t *testing.T) {
	h := start(t, Config{Plugins: []Plugin{selfPlugin(t, "a")}, DecideTimeout: time.Second}, 1)
	controllers, _ := h.Controllers()
	c := controllers[0]
	spinner := core.Observation{Now: time.Unix(1, 0), Parent: parent("spin")}
	for range 3 {
		var aside *core.SetAsideError
		if _, err := c.Decide(t.Context(), spinner); !errors.As(err, &aside) || !strings.Contains(aside.Reason, "did not answer within 1s") {
			t.Fatalf("got %v", err)
		}
	}
	pid(t, c)
	if s := h.Status()[0]; s.Restarts != 1 {
		t.Errorf("three tries of one version restarted it %d times", s.Restarts)
	}
}

// A plugin that does not come back refuses soon, so that it does not hold up
// those that ask.
func TestBrokenPluginRefusesSoon(t *testing.T) {
	script := t.TempDir() + "/plugin"
	write := func(role string) {
		t.Helper()
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(script+".new", []byte("#!/bin/sh\nWEFT_TEST_ROLE="+role+" exec "+self+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(script+".new", script); err != nil {
			t.Fatal(err)
		}
	}
	write("plugin")
	h := start(t, Config{Plugins: []Plugin{{Name: "a", Command: script}}}, 1)
	controllers, changed := h.Controllers()
	c := controllers[0]
	first := pid(t, c)
	write("broken")
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	var aside *core.SetAsideError
	for { // until the kill is noticed
		if _, err := decide(t, c, ""); errors.As(err, &aside) && strings.Contains(aside.Reason, "does not run") {
			break
		}
	}
	begin := time.Now()
	for range 50 {
		if _, err := decide(t, c, ""); !errors.As(err, &aside) {
			t.Fatalf("got %v", err)
		}
	}
	if took := time.Since(begin); took > restartPatience {
		t.Errorf("50 refusals took %s", took)
	}
	write("plugin")
	select {
	case <-changed: // all are to be asked again
	case <-time.After(time.Minute):
		t.Fatal("its coming back was not told")
	}
	if pid(t, c) == first {
		t.Error("a dead process answered")
	}
}

// A process that never speaks, or speaks no more, does not hold up the end.
func TestSilentPluginIsStopped(t *testing.T) {
	for _, role := range []string{"frozen", "plugin"} {
		t.Run(role, func(t *testing.T) {
			logs := &safeBuffer{}
			h, err := New(Config{Plugins: []Plugin{rolePlugin(t, role, "a")}, Logger: slog.New(slog.NewTextHandler(logs, nil))})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1) // the one result
			go func() { done <- h.Run(ctx) }()
			if role == "plugin" {
				stopped := pid(t, await(t, h, 1)[0])
				if err := syscall.Kill(stopped, syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				defer func() {
					if alive(stopped) {
						t.Error("the process is left")
					}
				}()
			} else {
				awaitChild(t)
			}
			begin := time.Now()
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if took := time.Since(begin); took > stopPatience+2*time.Second {
				t.Errorf("the end took %s", took)
			}
		})
	}
}

// awaitChild waits until this process has a child.
func awaitChild(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		found := false
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Skipf("children cannot be seen here: %v", err)
		}
		for _, task := range tasks {
			children, err := os.ReadFile("/proc/self/task/" + task.Name() + "/children")
			found = found || err == nil && len(children) > 0
		}
		if found {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("no child was started")
		}
	}
}

type safeBuffer struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (b *safeBuffer) Write(data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.Write(data)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}

func TestOutputIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // where all of it is within one second
		var logs safeBuffer
		l := &lineLogger{log: slog.New(slog.NewTextHandler(&logs, nil))}
		for range 2 * maxLines {
			if _, err := l.Write([]byte(strings.Repeat("x", 3*maxLine) + "\n")); err != nil {
				t.Fatal(err)
			}
		}
		if n := strings.Count(logs.String(), "\n"); n != maxLines || len(l.rest) > maxLine {
			t.Errorf("%d lines were logged, %d bytes held back", n, len(l.rest))
		}
	})
}

func TestKindsThatAreNotServedAreNamed(t *testing.T) {
	logs := &safeBuffer{}
	h := start(t, Config{Plugins: []Plugin{selfPlugin(t, "a", "configmaps", "jobs.btch")}, Logger: slog.New(slog.NewTextHandler(logs, nil))}, 1)
	if h == nil || !strings.Contains(logs.String(), "jobs.btch") {
		t.Errorf("the log does not name jobs.btch:\n%s", logs)
	}
}
