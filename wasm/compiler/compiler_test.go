package compiler_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/compiler"
)

const childVariable = "WEFT_COMPILER_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) == "" {
		os.Exit(m.Run())
	}
	err := compiler.Main(context.Background(), compiler.MainConfig{
		Input: os.Stdin, Output: os.Stdout, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Open: func(_ context.Context, settings json.RawMessage) (compiler.Compiler, error) {
			if string(settings) != `{"a":1}` {
				return nil, fmt.Errorf("settings %s", settings)
			}
			return scripted{}, nil
		},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// scripted does what the module's path says.
type scripted struct{}

func (scripted) Close(context.Context) error { return nil }

func (scripted) Compile(_ context.Context, digest, path string) error {
	switch path {
	case "invalid":
		return fmt.Errorf("compile: %w: no good", wasm.ErrInvalidModule)
	case "full":
		return fmt.Errorf("compile: %w: disk full", wasm.ErrNotCompiled)
	case "other":
		return errors.New("no such file")
	case "score":
		score, err := os.ReadFile("/proc/self/oom_score_adj")
		return errors.Join(fmt.Errorf("the score is %s", score), err)
	case "killed":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "hang":
		select {}
	case "panic":
		go panic("index out of range [7]")
		select {}
	case "exit":
		os.Exit(0)
	case "hungry":
		var all [][]byte
		for {
			b := make([]byte, 16<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			all = append(all, b)
			_ = all[0]
		}
	}
	if filepath.Base(path) == "once" { // killed, but not again
		if err := os.Rename(path+".not yet", path); err == nil {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	if strings.HasPrefix(filepath.Base(path), "hang") {
		_ = os.WriteFile(path, nil, 0) // somebody reads what is a pipe
		select {}
	}
	// Tell who compiled, and when.
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, digest, os.Getpid())
	return errors.Join(err, f.Close())
}

func open(t *testing.T, c compiler.Config) *compiler.Pool {
	t.Helper()
	if raced {
		c.MemoryBytes = 1 << 40
	}
	c.Command = []string{os.Args[0]}
	c.Env = []string{childVariable + "=1"}
	c.Settings = json.RawMessage(`{"a":1}`)
	c.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	p, err := compiler.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return p
}

// compiled returns who compiled, by what scripted wrote.
func compiled(t *testing.T, path string) (pids map[string]bool, count int) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pids = map[string]bool{}
	for line := range strings.Lines(string(data)) {
		pids[strings.Fields(line)[1]] = true
		count++
	}
	return pids, count
}

func TestCompile(t *testing.T) {
	p := open(t, compiler.Config{Processes: 2})
	path := t.TempDir() + "/log"
	for n := range 5 {
		if err := p.Compile(t.Context(), fmt.Sprint(n), path); err != nil {
			t.Fatal(err)
		}
	}
	if pids, count := compiled(t, path); len(pids) > 2 || count != 5 || pids[fmt.Sprint(os.Getpid())] {
		t.Errorf("%d modules were compiled by %v", count, pids)
	}
	for path, want := range map[string]error{"invalid": wasm.ErrInvalidModule, "full": wasm.ErrNotCompiled} {
		if err := p.Compile(t.Context(), path, path); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
	if err := p.Compile(t.Context(), "other", "other"); err == nil || errors.Is(err, wasm.ErrInvalidModule) || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("other: %v", err)
	}
}

// Whatever a module does to its compiler, it is told plainly, costs nobody else
// anything, and is not tried again at once.
func TestBroken(t *testing.T) {
	for path, want := range map[string]string{
		"killed": "was killed, twice", "hang": "takes longer than 300ms", "panic": "panic: index out of range [7]", "exit": "ended without an answer", "hungry": "more than 268435456 bytes",
	} {
		if raced && path == "hungry" {
			continue // nothing else would stop it
		}
		t.Run(path, func(t *testing.T) {
			c := compiler.Config{Timeout: 20 * time.Second, MemoryBytes: 256 << 20}
			if path == "hang" {
				c.Timeout = 300 * time.Millisecond
			}
			p := open(t, c)
			good := t.TempDir() + "/log"
			if path != "hang" { // which a fresh process on a busy machine may be too slow for
				if err := p.Compile(t.Context(), "before", good); err != nil {
					t.Fatal(err)
				}
			}
			err := p.Compile(t.Context(), path, path)
			if !errors.Is(err, wasm.ErrInvalidModule) || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
			begin := time.Now()
			if again := p.Compile(t.Context(), path, path); !errors.Is(again, err) || time.Since(begin) > 100*time.Millisecond {
				t.Errorf("again, after %s: %v", time.Since(begin), again)
			}
			if path != "hang" {
				if err := p.Compile(t.Context(), "after", good); err != nil {
					t.Errorf("the next one: %v", err)
				}
			}
		})
	}
}

// Whoever kills a compiler, the kernel maybe, costs the module nothing.
func TestKilled(t *testing.T) {
	p := open(t, compiler.Config{})
	path := filepath.Join(t.TempDir(), "once")
	if err := os.WriteFile(path+".not yet", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.Compile(t.Context(), "a", path); err != nil {
		t.Fatal(err)
	}
	if _, count := compiled(t, path); count != 1 {
		t.Errorf("it was compiled %d times", count)
	}
}

// Modules that take for ever keep none of the others waiting for long.
func TestSlow(t *testing.T) {
	p := open(t, compiler.Config{Patience: time.Millisecond, Timeout: time.Hour})
	dir := t.TempDir()
	for n := range 3 {
		begun := filepath.Join(dir, fmt.Sprint("hang", n))
		if err := syscall.Mkfifo(begun, 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = p.Compile(ctx, begun, begun) }() // ends with the test
		if _, err := os.ReadFile(begun); err != nil {
			t.Fatal(err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := p.Compile(ctx, fmt.Sprint("good", n), filepath.Join(dir, "log")); err != nil {
			t.Fatalf("beside %d that hang: %v", n+1, err)
		}
	}
}

// More that hang at once than may be slow are all given up in the end, and the
// pool ends as it should.
func TestManySlow(t *testing.T) {
	p := open(t, compiler.Config{Patience: time.Millisecond, Timeout: 100 * time.Millisecond})
	var wg sync.WaitGroup
	for n := range 9 {
		wg.Go(func() {
			if err := p.Compile(t.Context(), fmt.Sprint(n), "hang"); !errors.Is(err, wasm.ErrInvalidModule) {
				t.Errorf("what hangs: %v", err)
			}
		})
	}
	wg.Wait()
}

// A child that ended as it was idle is no fault of the next module.
func TestIdle(t *testing.T) {
	p := open(t, compiler.Config{Idle: time.Millisecond})
	path := t.TempDir() + "/log"
	begin := time.Now()
	for n := range 10_000 {
		if err := p.Compile(t.Context(), fmt.Sprint(n), path); err != nil {
			t.Fatal(err)
		}
		pids, count := compiled(t, path)
		if count != n+1 {
			t.Fatalf("%d modules were compiled, not %d", count, n+1)
		}
		if n >= 10 && len(pids) > 1 {
			return
		}
		if time.Since(begin) > time.Minute {
			break
		}
		time.Sleep(time.Duration(n) * time.Millisecond)
	}
	t.Error("the process never ended, though it was idle")
}

func TestOnce(t *testing.T) {
	p := open(t, compiler.Config{Processes: 2})
	path := t.TempDir() + "/log"
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := p.Compile(t.Context(), "same", path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, count := compiled(t, path); count > 3 {
		t.Errorf("it was compiled %d times", count)
	}
}

// Who waits gives up alone, and the end of the pool ends all.
func TestEnd(t *testing.T) {
	c := compiler.Config{Command: []string{os.Args[0]}, Env: []string{childVariable + "=1"}, Settings: json.RawMessage(`{"a":1}`), Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	p, err := compiler.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.Run(ctx) })
	short, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if err := p.Compile(short, "hang", "hang"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	cancel()
	wg.Wait() // ends although a child hangs
	if err := p.Compile(t.Context(), "a", "a"); !errors.Is(err, wasm.ErrGone) {
		t.Errorf("got %v", err)
	}
}

func TestBadConfig(t *testing.T) {
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	for _, c := range []compiler.Config{{Logger: log}, {Command: []string{"a"}}, {Command: []string{"a"}, Logger: log, Timeout: -1}} {
		if _, err := compiler.New(c); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
	if err := compiler.Main(t.Context(), compiler.MainConfig{
		Input: strings.NewReader("hello\n"), Output: t.Output(), Logger: log,
		Open: func(context.Context, json.RawMessage) (compiler.Compiler, error) { return scripted{}, nil },
	}); err == nil {
		t.Error("nonsense was taken for a boot")
	}
}
