package wasmtest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weftrun/weft/wasm"
)

// Subject is a runtime under test, and how to make it behave.
type Subject struct {
	Runtime wasm.Runtime
	// Prepare returns what Runtime.Prepare takes for a module that behaves so
	// when it is run with these arguments. The behaviours: "exit" exits with
	// code 7, "trap" traps, "park" runs until it is killed, "spin" does so in a
	// loop, "print" writes a line and ends, "invalid" is no module. Two listen
	// for Stop, and write the line "up" once they do: "graceful" then ends with
	// code 0, "stubborn" goes on. "park" does not listen.
	Prepare func(tb testing.TB, behaviour string) (digest, path string, args []string)
}

// Real returns a Subject that runs the tiny modules.
func Real(rt wasm.Runtime) Subject {
	return Subject{Runtime: rt, Prepare: func(tb testing.TB, behaviour string) (string, string, []string) {
		if behaviour == "invalid" {
			path := filepath.Join(tb.TempDir(), "m.wasm")
			if err := os.WriteFile(path, []byte("no module\n"), 0o600); err != nil {
				tb.Fatal(err)
			}
			return Digest([]byte("no module\n")), path, nil
		}
		digest, path := WriteModule(tb, behaviour)
		return digest, path, []string{behaviour}
	}}
}

// Scripted returns a Subject that runs scripts.
func Scripted(f *Fake) Subject {
	scripts := map[string]string{
		"exit": "exit 7", "trap": "trap", "park": "deaf run forever", "spin": "run forever", "print": "log hello",
		"graceful": "graceful log up run forever", "stubborn": "log up run forever",
	}
	return Subject{Runtime: f, Prepare: func(_ testing.TB, behaviour string) (string, string, []string) {
		if behaviour == "invalid" {
			return "sha256:bad", "", nil
		}
		return "sha256:good", "", []string{scripts[behaviour]}
	}}
}

// Run tests that the runtimes that open returns keep the contract. Each test
// gets one of its own.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	tests := map[string]func(*testing.T, *bench){
		"Exits":         testExits,
		"Invalid":       testInvalid,
		"Kill":          testKill,
		"Stop":          testStop,
		"WaitCanceled":  testWaitCanceled,
		"Sandboxes":     testSandboxes,
		"SandboxClosed": testSandboxClosed,
		"SameSandbox":   testSameSandbox,
		"SameID":        testSameID,
		"Release":       testRelease,
		"Limits":        testLimits,
		"Log":           testLog,
		"Many":          testMany,
		"Usages":        testUsages,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { test(t, &bench{t: t, Subject: open(t)}) })
	}
}

// bench shortens the tests.
type bench struct {
	Subject
	t *testing.T
}

func (b *bench) sandbox(id string) wasm.Sandbox {
	b.t.Helper()
	s, err := b.Runtime.OpenSandbox(b.t.Context(), wasm.SandboxConfig{ID: id, Hostname: "host"})
	if err != nil {
		b.t.Fatal(err)
	}
	if s.ID() != id {
		b.t.Errorf("got the sandbox %q, want %q", s.ID(), id)
	}
	return s
}

func (b *bench) start(s wasm.Sandbox, behaviour string, p wasm.Program) (wasm.Instance, error) {
	b.t.Helper()
	digest, path, args := b.Prepare(b.t, behaviour)
	m, err := b.Runtime.Prepare(b.t.Context(), digest, path)
	if err != nil {
		b.t.Fatal(err)
	}
	if m.Digest() != digest {
		b.t.Errorf("got the module %q, want %q", m.Digest(), digest)
	}
	p.Args = args
	return s.Start(b.t.Context(), m, p)
}

func (b *bench) mustStart(s wasm.Sandbox, behaviour, id string) wasm.Instance {
	b.t.Helper()
	i, err := b.start(s, behaviour, wasm.Program{ID: id})
	if err != nil {
		b.t.Fatal(err)
	}
	if i.ID() != id || i.StartedAt().IsZero() {
		b.t.Errorf("got the instance %q started at %s", i.ID(), i.StartedAt())
	}
	return i
}

func (b *bench) wantExit(i wasm.Instance, reason wasm.Reason, code int32) {
	b.t.Helper()
	for range 2 {
		exit, err := i.Wait(b.t.Context())
		if err != nil {
			b.t.Fatal(err)
		}
		if exit.Reason != reason || exit.Code != code {
			b.t.Errorf("%s: got %+v, want %s with code %d", i.ID(), exit, reason, code)
		}
		if exit.StartedAt.IsZero() || exit.FinishedAt.Before(exit.StartedAt) {
			b.t.Errorf("%s: from %s to %s", i.ID(), exit.StartedAt, exit.FinishedAt)
		}
	}
}

func (b *bench) instances(s wasm.Sandbox) map[string]wasm.Instance {
	b.t.Helper()
	all, err := s.Instances(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return all
}

func testExits(_ *testing.T, b *bench) {
	s := b.sandbox("s")
	b.wantExit(b.mustStart(s, "exit", "a"), wasm.Exited, 7)
	b.wantExit(b.mustStart(s, "trap", "b"), wasm.Trapped, 134)
	b.wantExit(b.mustStart(s, "print", "c"), wasm.Exited, 0)
}

func testInvalid(t *testing.T, b *bench) {
	digest, path, _ := b.Prepare(t, "invalid")
	if _, err := b.Runtime.Prepare(t.Context(), digest, path); !errors.Is(err, wasm.ErrInvalidModule) {
		t.Errorf("got %v", err)
	}
}

func testKill(t *testing.T, b *bench) {
	s := b.sandbox("s")
	for _, behaviour := range []string{"park", "spin"} {
		i := b.mustStart(s, behaviour, behaviour)
		if _, err := i.Usage(t.Context()); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := i.Kill(t.Context()); err != nil {
				t.Error(err)
			}
			b.wantExit(i, wasm.Killed, 137)
		}
		if err := i.Stop(t.Context(), time.Hour); err != nil {
			t.Errorf("stop of one that ended: %v", err)
		}
	}
}

func testStop(t *testing.T, b *bench) {
	s := b.sandbox("s")
	listening := func(behaviour, id string) wasm.Instance {
		t.Helper()
		path := filepath.Join(t.TempDir(), "log")
		i, err := b.start(s, behaviour, wasm.Program{
			ID: id, Env: []string{wasm.StopVariable + "=" + wasm.StopFile}, Log: wasm.Log{Path: path},
		})
		if err != nil {
			t.Fatal(err)
		}
		for tick := time.Tick(time.Millisecond); ; <-tick {
			if text, _ := os.ReadFile(path); strings.Contains(string(text), "up\n") {
				return i
			}
			select {
			case <-t.Context().Done():
				t.Fatal("it never came up")
			default:
			}
		}
	}
	stop := func(i wasm.Instance, grace time.Duration) {
		t.Helper()
		if err := i.Stop(t.Context(), grace); err != nil {
			t.Error(err)
		}
	}
	deaf := b.mustStart(s, "park", "deaf")
	stop(deaf, time.Hour)
	b.wantExit(deaf, wasm.Killed, 143)

	graceful := listening("graceful", "graceful")
	stop(graceful, time.Hour)
	b.wantExit(graceful, wasm.Exited, 0)

	slow := listening("stubborn", "slow")
	begin := time.Now()
	stop(slow, 50*time.Millisecond)
	stop(slow, time.Hour) // a longer period does not count
	b.wantExit(slow, wasm.Killed, 137)
	if took := time.Since(begin); took < 50*time.Millisecond {
		t.Errorf("killed after %s, within its grace period", took)
	}
	// A second, shorter one does.
	for id, second := range map[string]time.Duration{"shorter": time.Millisecond, "none": 0} {
		i := listening("stubborn", id)
		stop(i, time.Hour)
		stop(i, second)
		b.wantExit(i, wasm.Killed, 137)
	}
	i := listening("graceful", "killed")
	stop(i, 0) // nobody is asked
	b.wantExit(i, wasm.Killed, 137)
}

func testWaitCanceled(t *testing.T, b *bench) {
	i := b.mustStart(b.sandbox("s"), "park", "a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := i.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := i.Kill(t.Context()); err != nil {
		t.Error(err)
	}
	b.wantExit(i, wasm.Killed, 137)
	if _, err := i.Wait(ctx); err != nil {
		t.Errorf("an exit that is known: %v", err)
	}
}

func testSandboxes(t *testing.T, b *bench) {
	first, second := b.sandbox("one"), b.sandbox("two/odd name")
	ids, err := b.Runtime.Sandboxes(t.Context())
	if err != nil || len(ids) != 2 {
		t.Errorf("got %v, %v", ids, err)
	}
	for _, s := range []wasm.Sandbox{first, second} {
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if ids, err = b.Runtime.Sandboxes(t.Context()); err != nil || len(ids) != 0 {
		t.Errorf("after closing: %v, %v", ids, err)
	}
}

func testSandboxClosed(t *testing.T, b *bench) {
	s := b.sandbox("s")
	i := b.mustStart(s, "park", "a")
	for range 2 {
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	b.wantExit(i, wasm.Killed, 137)
	if _, err := b.start(s, "exit", wasm.Program{ID: "b"}); !errors.Is(err, wasm.ErrGone) {
		t.Errorf("start: %v", err)
	}
	if _, err := s.Instances(t.Context()); !errors.Is(err, wasm.ErrGone) {
		t.Errorf("instances: %v", err)
	}
	if all := b.instances(b.sandbox("s")); len(all) != 0 {
		t.Errorf("opened anew: %v", all)
	}
}

func testSameSandbox(t *testing.T, b *bench) {
	i := b.mustStart(b.sandbox("s"), "park", "a")
	again := b.instances(b.sandbox("s"))["a"]
	if again == nil || !again.StartedAt().Equal(i.StartedAt()) {
		t.Fatalf("got %v", again)
	}
	if err := again.Kill(t.Context()); err != nil {
		t.Error(err)
	}
	b.wantExit(i, wasm.Killed, 137)
}

func testSameID(t *testing.T, b *bench) {
	s := b.sandbox("s")
	b.mustStart(s, "park", "a")
	if _, err := b.start(s, "park", wasm.Program{ID: "a"}); err == nil {
		t.Error("two instances of one ID")
	}
	b.mustStart(b.sandbox("other"), "park", "a")
}

func testRelease(t *testing.T, b *bench) {
	s := b.sandbox("s")
	i := b.mustStart(s, "park", "a")
	if err := i.Release(t.Context()); err == nil {
		t.Error("one that runs was released")
	}
	if err := i.Kill(t.Context()); err != nil {
		t.Error(err)
	}
	b.wantExit(i, wasm.Killed, 137)
	if len(b.instances(s)) != 1 {
		t.Error("gone before it was released")
	}
	if err := i.Release(t.Context()); err != nil {
		t.Error(err)
	}
	if all := b.instances(s); len(all) != 0 {
		t.Errorf("got %v", all)
	}
	b.wantExit(b.mustStart(s, "exit", "a"), wasm.Exited, 7)
}

func testLimits(t *testing.T, b *bench) {
	s := b.sandbox("s")
	_, err := b.start(s, "park", wasm.Program{ID: "a", Limits: wasm.Limits{MemoryBytes: 1}})
	if !errors.Is(err, wasm.ErrLimits) {
		t.Errorf("got %v", err)
	}
	if all := b.instances(s); len(all) != 0 {
		t.Errorf("got %v", all)
	}
}

func testLog(t *testing.T, b *bench) {
	path := filepath.Join(t.TempDir(), "logs", "0.log")
	i, err := b.start(b.sandbox("s"), "print", wasm.Program{ID: "a", Log: wasm.Log{Path: path}})
	if err != nil {
		t.Fatal(err)
	}
	b.wantExit(i, wasm.Exited, 0)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(content), "\n")
	stamp, rest, _ := strings.Cut(line, " ")
	if _, err := time.Parse(time.RFC3339Nano, stamp); err != nil || rest != "stdout F hello" {
		t.Errorf("got %q", content)
	}
}

func testMany(t *testing.T, b *bench) {
	digest, path, args := b.Prepare(t, "park")
	m, err := b.Runtime.Prepare(t.Context(), digest, path)
	if err != nil {
		t.Fatal(err)
	}
	s := b.sandbox("s")
	var wg sync.WaitGroup
	for n := range 50 {
		wg.Go(func() {
			i, err := s.Start(t.Context(), m, wasm.Program{ID: string(rune('A' + n)), Args: args})
			if err == nil {
				err = i.Kill(t.Context())
			}
			if err == nil {
				_, err = i.Wait(t.Context())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(b.instances(s)); n != 50 {
		t.Errorf("%d instances", n)
	}
}
