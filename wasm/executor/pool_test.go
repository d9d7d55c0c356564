package executor_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/executor"
	"github.com/weftrun/weft/wasm/wasmtest"
)

// runPool runs a pool in dir until the returned function is called.
func runPool(tb testing.TB, dir string, c executor.PoolConfig) (*executor.Pool, func()) {
	tb.Helper()
	exe, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	c.Executor.Command = []string{exe}
	c.Executor.Env = append(os.Environ(), childEnv+"=1", "GORACE=atexit_sleep_ms=0")
	c.Executor.Dir = filepath.Join(dir, "executor")
	c.Executor.Settings = fmt.Appendf(nil, `{"CacheDir": %q}`, filepath.Join(dir, "cache"))
	c.Executor.Logger = slog.New(slog.NewTextHandler(tb.Output(), nil))
	p, err := executor.NewPool(c)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := p.Run(ctx); err != nil {
			tb.Error(err)
		}
	})
	stop := sync.OnceFunc(func() { cancel(); wg.Wait() })
	tb.Cleanup(stop)
	return p, stop
}

func begin(tb testing.TB, p *executor.Pool, module, handler, sandbox, id string) (wasm.Sandbox, wasm.Instance) {
	tb.Helper()
	digest, path := wasmtest.WriteModule(tb, module)
	m, err := p.Prepare(tb.Context(), digest, path)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := p.OpenSandbox(tb.Context(), wasm.SandboxConfig{ID: sandbox, Handler: handler})
	if err != nil {
		tb.Fatal(err)
	}
	i, err := s.Start(tb.Context(), m, wasm.Program{ID: id})
	if err != nil {
		tb.Fatal(err)
	}
	return s, i
}

// processes are the executors, by name, that a pool has.
func processes(tb testing.TB, p *executor.Pool) map[string]bool {
	tb.Helper()
	u, err := p.Usages(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	names := map[string]bool{}
	for _, process := range u.Processes {
		names[process.Name] = true
	}
	return names
}

func TestIsolated(t *testing.T) {
	dir := t.TempDir()
	p, _ := runPool(t, dir, executor.PoolConfig{Executor: executor.Config{DieWithParent: true}})
	_, shared := begin(t, p, "park", executor.Dense, "uid-1", "main.0")
	s, own := begin(t, p, "park", executor.Isolated, "uid/2", "main.0")
	if names := processes(t, p); !names["executor"] || !names["executor-isolated-uid%2F2"] || len(names) != 2 {
		t.Errorf("processes %v", names)
	}
	if ids, err := p.Sandboxes(t.Context()); err != nil || fmt.Sprint(ids) != "[uid-1 uid/2]" {
		t.Errorf("sandboxes %v, %v", ids, err)
	}
	// The same sandbox is found again, whatever handler is asked for.
	again, err := p.OpenSandbox(t.Context(), wasm.SandboxConfig{ID: "uid/2"})
	if err != nil {
		t.Fatal(err)
	}
	if all, err := again.Instances(t.Context()); err != nil || all["main.0"] == nil {
		t.Errorf("instances %v, %v", all, err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, own); got.Reason != wasm.Killed {
		t.Errorf("got %+v", got)
	}
	if names := processes(t, p); !names["executor"] || len(names) != 1 {
		t.Errorf("processes %v", names)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "executor-*")); err != nil || len(left) != 0 {
		t.Errorf("folders are left: %v, %v", left, err)
	}
	if _, err := p.OpenSandbox(t.Context(), wasm.SandboxConfig{ID: "uid-3", Handler: "other"}); !errors.Is(err, wasm.ErrHandler) {
		t.Errorf("got %v", err)
	}
	select {
	case <-t.Context().Done():
	default:
		if err := shared.Kill(t.Context()); err != nil { // it was let alone
			t.Error(err)
		}
	}
	if got := wait(t, shared); got.Reason != wasm.Killed {
		t.Errorf("got %+v", got)
	}
}

// What an isolated sandbox does to its executor, the others do not notice; and
// it can be started again.
func TestIsolatedExecutorDies(t *testing.T) {
	p, _ := runPool(t, t.TempDir(), executor.PoolConfig{Executor: executor.Config{DieWithParent: true}})
	_, shared := begin(t, p, "park", "", "uid-1", "main.0")
	s, own := begin(t, p, "park", executor.Isolated, "uid-2", "main.0")
	pid := executorOf(t, "executor-isolated-uid-2")
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, own); got.Reason != wasm.Lost {
		t.Errorf("got %+v", got)
	}
	digest, path := wasmtest.WriteModule(t, "exit")
	m, err := p.Prepare(t.Context(), digest, path)
	if err != nil {
		t.Fatal(err)
	}
	i, err := s.Start(t.Context(), m, wasm.Program{ID: "main.1"})
	if err != nil {
		t.Fatal(err)
	}
	if got := wait(t, i); got.Code != 7 {
		t.Errorf("got %+v", got)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if exit, err := shared.Wait(ended); err == nil {
		t.Errorf("the other ended: %+v", exit)
	}
}

// executorOf returns the process whose working folder ends so.
func executorOf(t *testing.T, folder string) int {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil || len(links) == 0 {
		t.Skip("no /proc here")
	}
	for begin := time.Now(); time.Since(begin) < 10*time.Second; time.Sleep(time.Millisecond) {
		links, _ = filepath.Glob("/proc/[0-9]*/cwd") // the pattern is good
		for _, link := range links {
			var pid int
			if cwd, err := os.Readlink(link); err != nil || filepath.Base(cwd) != folder || filepath.Dir(filepath.Dir(cwd)) != filepath.Dir(t.TempDir()) {
				continue
			}
			if _, err := fmt.Sscanf(link, "/proc/%d/cwd", &pid); err == nil {
				return pid
			}
		}
	}
	t.Fatalf("no process in %s", folder)
	return 0
}

// A pool whose agent was killed is found again: shared and isolated executors,
// also those that today's number leaves out.
func TestPoolOutlivesAgent(t *testing.T) {
	dir := t.TempDir()
	stderr, err := os.Create(filepath.Join(dir, "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stderr.Close() })
	config := executor.PoolConfig{Executors: 3, Executor: executor.Config{Stderr: stderr}}
	first, stop := runPool(t, dir, config)
	var ids []string
	started := map[string]time.Time{}
	for n := range 12 {
		id := fmt.Sprint("uid-", n)
		_, i := begin(t, first, "park", executor.Dense, id, "main.0")
		ids, started[id] = append(ids, id), i.StartedAt()
	}
	_, own := begin(t, first, "park", executor.Isolated, "own", "main.0")
	ids, started["own"] = append(ids, "own"), own.StartedAt()
	if names := processes(t, first); len(names) != 4 {
		t.Errorf("processes %v", names)
	}
	stop()

	config.Executors = 1
	second, _ := runPool(t, dir, config)
	t.Cleanup(func() { closeAll(t, second) })
	found, err := second.Sandboxes(t.Context())
	if err != nil || len(found) != len(ids) {
		t.Fatalf("sandboxes %v, %v", found, err)
	}
	for id, at := range started {
		s, err := second.OpenSandbox(t.Context(), wasm.SandboxConfig{ID: id})
		if err != nil {
			t.Fatal(err)
		}
		all, err := s.Instances(t.Context())
		if err != nil || all["main.0"] == nil || !all["main.0"].StartedAt().Equal(at) {
			t.Errorf("%s: %v, %v", id, all, err)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if names := processes(t, second); len(names) != 1 || !names["executor"] {
		t.Errorf("processes %v", names)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "executor-*")); err != nil || len(left) != 0 {
		t.Errorf("folders are left: %v, %v", left, err)
	}
}

// closeAll ends what lives on.
func closeAll(t *testing.T, p *executor.Pool) {
	t.Helper()
	if err := syscall.Kill(executorOf(t, "executor"), syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	_ = p // its other executors have ended
}

// BenchmarkIsolated is the time from the opening of an isolated sandbox until a
// guest runs in it, and until it is closed.
func BenchmarkIsolated(b *testing.B) {
	p, _ := runPool(b, b.TempDir(), executor.PoolConfig{Executor: executor.Config{DieWithParent: true}})
	begin(b, p, "park", "", "warm", "main.0")
	n := 0
	for b.Loop() {
		n++
		s, _ := begin(b, p, "park", executor.Isolated, fmt.Sprint("uid-", n), "main.0")
		if err := s.Close(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
