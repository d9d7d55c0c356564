package engine_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/engine"
	"github.com/weftrun/weft/wasm/wasmtest"
)

// open returns an Engine that runs until the test ends.
func open(tb testing.TB, c engine.Config) *engine.Engine {
	tb.Helper()
	c.Logger = slog.New(slog.NewTextHandler(tb.Output(), nil))
	e, err := engine.New(tb.Context(), c)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := e.Run(ctx); err != nil {
			tb.Error(err)
		}
	})
	tb.Cleanup(func() { cancel(); wg.Wait() })
	return e
}

func prepare(tb testing.TB, e *engine.Engine, name string) wasm.Module {
	tb.Helper()
	digest, path := wasmtest.WriteModule(tb, name)
	m, err := e.Prepare(tb.Context(), digest, path)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func sandbox(tb testing.TB, e *engine.Engine, id string) wasm.Sandbox {
	tb.Helper()
	s, err := e.OpenSandbox(tb.Context(), wasm.SandboxConfig{ID: id})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func start(tb testing.TB, s wasm.Sandbox, m wasm.Module, p wasm.Program) wasm.Instance {
	tb.Helper()
	if p.ID == "" {
		p.ID = "main-0"
	}
	i, err := s.Start(tb.Context(), m, p)
	if err != nil {
		tb.Fatal(err)
	}
	return i
}

func wait(tb testing.TB, i wasm.Instance) wasm.Exit {
	tb.Helper()
	exit, err := i.Wait(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return exit
}

// examples is where the example guests' packages are.
const examples = "github.com/weftrun/weft/examples/src/"

func goModule(tb testing.TB, e *engine.Engine, name string) wasm.Module {
	tb.Helper()
	content := wasmtest.BuildGo(tb, examples+name)
	path := filepath.Join(tb.TempDir(), name+".wasm")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		tb.Fatal(err)
	}
	m, err := e.Prepare(tb.Context(), wasmtest.Digest(content), path)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func TestExits(t *testing.T) {
	e := open(t, engine.Config{})
	for _, tc := range []struct {
		module, message string
		memory          int64
		want            wasm.Exit
	}{
		{module: "print", want: wasm.Exit{Reason: wasm.Exited}},
		{module: "exit", want: wasm.Exit{Reason: wasm.Exited, Code: 7}},
		{module: "trap", want: wasm.Exit{Reason: wasm.Trapped, Code: 134}, message: "unreachable in inner < middle < _start"},
		{module: "overflow", want: wasm.Exit{Reason: wasm.Trapped, Code: 134}, message: "stack overflow in "},
		{module: "hungry", memory: 8 << 20, want: wasm.Exit{Reason: wasm.OutOfMemory, Code: 137}, message: "its limit of 8388608 bytes"},
	} {
		t.Run(tc.module, func(t *testing.T) {
			i := start(t, sandbox(t, e, tc.module), prepare(t, e, tc.module), wasm.Program{Limits: wasm.Limits{MemoryBytes: tc.memory}})
			got := wait(t, i)
			if got.Reason != tc.want.Reason || got.Code != tc.want.Code || !strings.Contains(got.Message, tc.message) {
				t.Errorf("got %+v, want %+v with %q", got, tc.want, tc.message)
			}
			if got.StartedAt.IsZero() || got.FinishedAt.Before(got.StartedAt) {
				t.Errorf("bad times: %+v", got)
			}
		})
	}
}

func TestPrepareRefuses(t *testing.T) {
	e := open(t, engine.Config{MaxModuleBytes: 1 << 20})
	write := func(content []byte) (string, string) {
		path := filepath.Join(t.TempDir(), "m.wasm")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return wasmtest.Digest(content), path
	}
	park := wasmtest.Module("park")
	cases := map[string]struct {
		content []byte
		want    string
	}{
		"text":      {[]byte("hello there"), "this is text"},
		"component": {[]byte("\x00asm\x0d\x00\x01\x00"), "component"},
		"truncated": {park[:len(park)-20], "cut off"},
		"foreign":   {wasmtest.Module("foreign"), `"env"."abort", func "env"."emscripten_resize_heap": it was linked against`},
		"library":   {wasmtest.Module("library"), "neither _start nor _initialize"},
		"large":     {append([]byte("\x00asm"), make([]byte, 1<<20)...), "at most 1048576 are allowed"},
	}
	for _, name := range []string{"panic1", "panic2", "panic3"} {
		content, err := os.ReadFile("testdata/" + name + ".wasm")
		if err != nil {
			t.Fatal(err)
		}
		cases[name] = struct {
			content []byte
			want    string
		}{content, "module"}
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			digest, path := write(tc.content)
			_, err := e.Prepare(t.Context(), digest, path)
			if !errors.Is(err, wasm.ErrInvalidModule) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	_, path := write(park)
	if _, err := e.Prepare(t.Context(), wasmtest.Digest(nil), path); err == nil || errors.Is(err, wasm.ErrInvalidModule) {
		t.Errorf("another content's digest: got %v", err)
	}
}

func TestLimitBelowMinimum(t *testing.T) {
	e := open(t, engine.Config{})
	_, err := sandbox(t, e, "s").Start(t.Context(), prepare(t, e, "park"), wasm.Program{ID: "a", Limits: wasm.Limits{MemoryBytes: 1000}})
	if !errors.Is(err, wasm.ErrLimits) {
		t.Errorf("got %v", err)
	}
}

// A guest that spins must not stop the collector, nor live on.
func TestKill(t *testing.T) {
	e := open(t, engine.Config{})
	for _, name := range []string{"spin", "startspin", "park", "reactor"} {
		t.Run(name, func(t *testing.T) {
			m := prepare(t, e, name)
			s := sandbox(t, e, name)
			first := start(t, s, m, wasm.Program{ID: "a"})
			second := start(t, s, m, wasm.Program{ID: "b"})
			third := start(t, s, m, wasm.Program{ID: "c"})
			runtime.GC()
			if err := first.Kill(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := second.Stop(t.Context(), 10*time.Millisecond); err != nil {
				t.Fatal(err)
			}
			for i, code := range map[wasm.Instance]int32{first: 137, second: 143} {
				if got := wait(t, i); got.Reason != wasm.Killed || got.Code != code {
					t.Errorf("got %+v, want the code %d", got, code)
				}
			}
			if err := third.Release(t.Context()); err == nil {
				t.Error("a running instance was released")
			}
			if err := s.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := wait(t, third); got.Reason != wasm.Killed {
				t.Errorf("got %+v", got)
			}
			if _, err := s.Start(t.Context(), m, wasm.Program{ID: "d"}); !errors.Is(err, wasm.ErrGone) {
				t.Errorf("start in a closed sandbox: %v", err)
			}
		})
	}
}

func TestGoGuest(t *testing.T) {
	e := open(t, engine.Config{CacheDir: t.TempDir()})
	s := sandbox(t, e, "s")
	log := filepath.Join(t.TempDir(), "logs", "0.log")
	m := goModule(t, e, "pi")
	i := start(t, s, m, wasm.Program{Args: []string{"pi", "30"}, Log: wasm.Log{Path: log}})
	if got := wait(t, i); got.Reason != wasm.Exited || got.Code != 0 {
		t.Fatalf("got %+v", got)
	}
	content, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if want := " stdout F 3.14159265358979323846264338327\n"; !strings.HasSuffix(string(content), want) {
		t.Errorf("got log %q", content)
	}

	t.Run("memory", func(t *testing.T) {
		i := start(t, s, m, wasm.Program{ID: "starved", Args: []string{"pi", "1000000"}, Limits: wasm.Limits{MemoryBytes: m.MinMemory() + 4<<20}})
		if got := wait(t, i); got.Reason != wasm.OutOfMemory {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("bad argument", func(t *testing.T) {
		i := start(t, s, m, wasm.Program{ID: "bad", Args: []string{"pi", "x"}})
		if got := wait(t, i); got.Reason != wasm.Exited || got.Code != 2 {
			t.Errorf("got %+v", got)
		}
	})
}

func TestPrepareOnce(t *testing.T) {
	var mu sync.Mutex
	calls := 0
	e := open(t, engine.Config{Rewrite: func(b []byte) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		calls++
		return b, nil
	}})
	digest, path := wasmtest.WriteModule(t, "park")
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := e.Prepare(t.Context(), digest, path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if calls != 1 {
		t.Errorf("compiled %d times", calls)
	}
	if m, err := e.Prepare(t.Context(), digest, "gone"); err != nil || m.MinMemory() != 64<<10 {
		t.Errorf("got %v, %v", m, err)
	}
}

// A module whose code was dropped is loaded anew when it is started.
func TestIdleModules(t *testing.T) {
	loads := 0
	e := open(t, engine.Config{IdleModules: 1, Rewrite: func(b []byte) ([]byte, error) {
		loads++
		return b, nil
	}})
	s := sandbox(t, e, "s")
	park, exit := prepare(t, e, "park"), prepare(t, e, "exit")
	parked := start(t, s, park, wasm.Program{ID: "parked"})
	for _, id := range []string{"a", "b"} {
		if got := wait(t, start(t, s, exit, wasm.Program{ID: id})); got.Code != 7 {
			t.Errorf("got %+v", got)
		}
		prepare(t, e, "print")
	}
	// park, exit, park, exit, print, exit, print: each drops the one before.
	if loads != 7 {
		t.Errorf("loaded %d times", loads)
	}
	// What runs is never dropped.
	again := start(t, s, park, wasm.Program{ID: "again"})
	for _, i := range []wasm.Instance{parked, again} {
		if err := i.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		wait(t, i)
	}
}

func TestBrokenRewrite(t *testing.T) {
	e := open(t, engine.Config{Rewrite: func([]byte) ([]byte, error) { panic("broken") }})
	digest, path := wasmtest.WriteModule(t, "park")
	if _, err := e.Prepare(t.Context(), digest, path); !errors.Is(err, wasm.ErrInvalidModule) {
		t.Errorf("got %v", err)
	}
}

// Whoever is told of an end may release the instance at once.
func TestReleaseFromAfterExit(t *testing.T) {
	e := open(t, engine.Config{})
	i := start(t, sandbox(t, e, "uid"), prepare(t, e, "exit"), wasm.Program{})
	released := make(chan error, 1) // 1: the callback must be quick
	i.(interface{ AfterExit(func(wasm.Exit)) }).AfterExit(func(wasm.Exit) { released <- i.Release(t.Context()) })
	if err := <-released; err != nil {
		t.Error(err)
	}
	wait(t, i)
}
