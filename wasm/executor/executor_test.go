package executor_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/engine"
	"github.com/weftrun/weft/wasm/executor"
	"github.com/weftrun/weft/wasm/wasmtest"
)

// childEnv makes the test binary be the child.
const childEnv = "WEFT_TEST_EXECUTOR"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "":
		os.Exit(m.Run())
	case "agent":
		os.Exit(beAgent())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	err := executor.Main(ctx, executor.MainConfig{
		Input: os.Stdin, Logger: log,
		Open: func(ctx context.Context, settings json.RawMessage) (executor.Runtime, error) {
			var s struct{ CacheDir, Pid string }
			if err := json.Unmarshal(settings, &s); err != nil {
				return nil, err
			}
			if s.Pid == "" { // of a pool
				return engine.New(ctx, engine.Config{CacheDir: s.CacheDir, Logger: log})
			}
			if err := os.WriteFile(s.Pid, []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
				return nil, err
			}
			e, err := engine.New(ctx, engine.Config{CacheDir: s.CacheDir, Logger: log})
			return prying{e, s.Pid}, err
		},
	})
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// beAgent runs an executor until the process is killed.
func beAgent() int {
	dir := os.Args[1]
	settings, err := json.Marshal(map[string]string{"Pid": filepath.Join(dir, "pid")})
	if err != nil {
		return 1
	}
	c, err := executor.New(executor.Config{
		Command: []string{os.Args[0]}, Env: append(os.Environ(), childEnv+"=child"),
		Dir: filepath.Join(dir, "x"), DieWithParent: true, Settings: settings,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return 1
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { _ = c.Run(ctx) }) // the test kills this process
	if _, err := c.Sandboxes(ctx); err != nil {
		return 1
	}
	fmt.Println("up")
	<-ctx.Done()
	return 0
}

// agent is a Client that runs, and where its child writes its PID.
type agent struct {
	*executor.Client
	pid  string
	stop func()
}

func (a *agent) signal(tb testing.TB, s syscall.Signal) {
	tb.Helper()
	b, err := os.ReadFile(a.pid)
	if err != nil {
		tb.Fatal(err)
	}
	n, err := strconv.Atoi(string(b))
	if err != nil {
		tb.Fatal(err)
	}
	if err := syscall.Kill(n, s); err != nil {
		tb.Fatal(err)
	}
}

func run(tb testing.TB, dir string, c executor.Config) *agent {
	tb.Helper()
	exe, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	a := &agent{pid: filepath.Join(dir, "pid")}
	settings, err := json.Marshal(map[string]string{"CacheDir": filepath.Join(dir, "cache"), "Pid": a.pid})
	if err != nil {
		tb.Fatal(err)
	}
	c.Command = []string{exe}
	// The race detector waits a second at each exit otherwise.
	c.Env = append(os.Environ(), childEnv+"=1", "GORACE=atexit_sleep_ms=0")
	c.Dir = filepath.Join(dir, "x")
	c.Settings = settings
	c.Logger = slog.New(slog.NewTextHandler(tb.Output(), nil))
	if a.Client, err = executor.New(c); err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := a.Run(ctx); err != nil {
			tb.Error(err)
		}
	})
	a.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	tb.Cleanup(a.stop)
	return a
}

func start(tb testing.TB, rt wasm.Runtime, module, sandbox, id string) (wasm.Sandbox, wasm.Instance) {
	tb.Helper()
	digest, path := wasmtest.WriteModule(tb, module)
	m, err := rt.Prepare(tb.Context(), digest, path)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := rt.OpenSandbox(tb.Context(), wasm.SandboxConfig{ID: sandbox})
	if err != nil {
		tb.Fatal(err)
	}
	i, err := s.Start(tb.Context(), m, wasm.Program{ID: id})
	if err != nil {
		tb.Fatal(err)
	}
	return s, i
}

func wait(tb testing.TB, i wasm.Instance) wasm.Exit {
	tb.Helper()
	exit, err := i.Wait(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return exit
}

func TestRuns(t *testing.T) {
	a := run(t, t.TempDir(), executor.Config{DieWithParent: true})
	s, i := start(t, a, "exit", "uid/1", "main 0")
	if got := wait(t, i); got.Reason != wasm.Exited || got.Code != 7 {
		t.Errorf("got %+v", got)
	}
	_, parked := start(t, a, "park", "uid/1", "side-0")
	if err := parked.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, parked); got.Reason != wasm.Killed || got.Code != 137 {
		t.Errorf("got %+v", got)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ids, err := a.Sandboxes(t.Context()); err != nil || len(ids) != 0 {
		t.Errorf("got %v, %v", ids, err)
	}
}

func TestChildDies(t *testing.T) {
	a := run(t, t.TempDir(), executor.Config{DieWithParent: true})
	_, done := start(t, a, "exit", "uid", "done")
	wait(t, done)
	s, parked := start(t, a, "park", "uid", "parked")
	a.signal(t, syscall.SIGKILL)
	if got := wait(t, parked); got.Reason != wasm.Lost {
		t.Errorf("got %+v", got)
	}
	if _, err := s.Instances(t.Context()); !errors.Is(err, wasm.ErrGone) {
		t.Errorf("got %v", err)
	}
	// What ended before is still known, until it is released.
	s, _ = start(t, a, "park", "uid", "again")
	all, err := s.Instances(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := all["done"]
	if i == nil || len(all) != 2 {
		t.Fatalf("got %v", all)
	}
	if got := wait(t, i); got.Code != 7 {
		t.Errorf("got %+v", got)
	}
	if err := i.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all, err = s.Instances(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("got %v, %v", all, err)
	}
}

func TestChildHangs(t *testing.T) {
	a := run(t, t.TempDir(), executor.Config{DieWithParent: true, Heartbeat: 50 * time.Millisecond, Timeout: time.Second})
	_, parked := start(t, a, "park", "uid", "parked")
	a.signal(t, syscall.SIGSTOP)
	if got := wait(t, parked); got.Reason != wasm.Lost {
		t.Errorf("got %+v", got)
	}
	_, i := start(t, a, "exit", "uid", "again")
	wait(t, i)
}

func TestOutlivesAgent(t *testing.T) {
	dir := t.TempDir()
	stderr, err := os.Create(filepath.Join(dir, "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stderr.Close() })
	first := run(t, dir, executor.Config{Stderr: stderr})
	_, parked := start(t, first, "park", "uid", "parked")
	first.stop()
	t.Cleanup(func() { first.signal(t, syscall.SIGKILL) })

	second := run(t, dir, executor.Config{Stderr: stderr})
	s, err := second.OpenSandbox(t.Context(), wasm.SandboxConfig{ID: "uid"})
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.Instances(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := all["parked"]
	if i == nil || !i.StartedAt().Equal(parked.StartedAt()) {
		t.Fatalf("got %v", all)
	}
	if err := i.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, i); got.Reason != wasm.Killed {
		t.Errorf("got %+v", got)
	}
}

// An executor that hangs while there is no agent must not run beside the next.
func TestHungExecutorIsReplaced(t *testing.T) {
	dir := t.TempDir()
	stderr, err := os.Create(filepath.Join(dir, "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stderr.Close() })
	config := executor.Config{Stderr: stderr, Timeout: time.Second}
	first := run(t, dir, config)
	start(t, first, "park", "uid", "parked")
	first.signal(t, syscall.SIGSTOP)
	old, err := os.ReadFile(first.pid)
	if err != nil {
		t.Fatal(err)
	}
	awaitStopped(t, string(old))
	first.stop()

	second := run(t, dir, config)
	t.Cleanup(func() { second.signal(t, syscall.SIGKILL) })
	if ids, err := second.Sandboxes(t.Context()); err != nil || len(ids) != 0 {
		t.Errorf("got %v, %v", ids, err)
	}
	if fresh, err := os.ReadFile(second.pid); err != nil || string(fresh) == string(old) {
		t.Fatalf("process %s, %v", fresh, err)
	}
	pid, err := strconv.Atoi(string(old))
	if err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); syscall.Kill(pid, 0) == nil; { // it has a parent to reap it here
		if time.Since(begin) > 10*time.Second {
			_ = syscall.Kill(pid, syscall.SIGKILL) // so that it does not stay
			t.Fatal("the one that hung still lives")
		}
	}
}

// awaitStopped waits until no thread of a process that was sent SIGSTOP runs
// any more: they stop one after the other.
func awaitStopped(t *testing.T, pid string) {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < 10*time.Second; time.Sleep(time.Millisecond) {
		threads, err := filepath.Glob("/proc/" + pid + "/task/*/stat")
		if err != nil || len(threads) == 0 {
			t.Skip("no /proc that tells of threads")
		}
		stopped := 0
		for _, path := range threads {
			// What follows the name, which is in brackets, begins with the state.
			stat, err := os.ReadFile(path)
			if i := strings.LastIndexByte(string(stat), ')'); err == nil && strings.HasPrefix(string(stat[i+1:]), " T") {
				stopped++
			}
		}
		if stopped == len(threads) {
			return
		}
	}
	t.Fatal("the process does not stop")
}

func TestChildThatDoesNotReadBlocksNothing(t *testing.T) {
	dir := t.TempDir()
	settings, err := json.Marshal(strings.Repeat("x", 512<<10)) // more than a pipe holds
	if err != nil {
		t.Fatal(err)
	}
	c, err := executor.New(executor.Config{
		Command: []string{"sleep", "60"}, Dir: filepath.Join(dir, "x"), DieWithParent: true, Settings: settings,
		StartTimeout: 200 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	ended := make(chan error, 1) // 1: so that a late end leaves no goroutine
	go func() { ended <- c.Run(ctx) }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it waits for a child that reads nothing")
	}
}

// An agent that is killed takes its executor along.
func TestDiesWithAgent(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, t.TempDir())
	cmd.Env = append(os.Environ(), childEnv+"=agent", "GORACE=atexit_sleep_ms=0")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	// The executor holds this pipe as well, so it ends when both are gone.
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "up\n" {
		t.Errorf("got %q, %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if _, err := io.Copy(io.Discard, stderr); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("the executor lived on for %s", took)
	}
	_ = cmd.Wait() // it was killed
}

func TestErrorsUnwrap(t *testing.T) {
	a := run(t, t.TempDir(), executor.Config{DieWithParent: true})
	digest, path := wasmtest.WriteModule(t, "library")
	if _, err := a.Prepare(t.Context(), digest, path); !errors.Is(err, wasm.ErrInvalidModule) {
		t.Errorf("got %v", err)
	}
	digest, path = wasmtest.WriteModule(t, "park")
	m, err := a.Prepare(t.Context(), digest, path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := a.OpenSandbox(t.Context(), wasm.SandboxConfig{ID: "s"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Start(t.Context(), m, wasm.Program{ID: "a", Limits: wasm.Limits{MemoryBytes: 1}})
	if !errors.Is(err, wasm.ErrLimits) {
		t.Errorf("got %v", err)
	}
}

// BenchmarkStart is a whole round: start over the socket, and 100 at a time.
func BenchmarkStart(b *testing.B) {
	a := run(b, b.TempDir(), executor.Config{DieWithParent: true})
	digest, path := wasmtest.WriteModule(b, "park")
	m, err := a.Prepare(b.Context(), digest, path)
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			n++
			startOne(b, a, m, n)
		}
	})
	b.Run("thousand", func(b *testing.B) {
		for b.Loop() {
			var wg sync.WaitGroup
			for k := range 1000 {
				wg.Go(func() { startOne(b, a, m, n+k+1) })
			}
			wg.Wait()
			n += 1000
		}
	})
}

// BenchmarkIdle reports the resident memory of a child that holds nothing, and
// of one with a thousand parked guests.
func BenchmarkIdle(b *testing.B) {
	dir := b.TempDir()
	a := run(b, dir, executor.Config{DieWithParent: true})
	digest, path := wasmtest.WriteModule(b, "park")
	m, err := a.Prepare(b.Context(), digest, path)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		b.ReportMetric(resident(b, a.pid), "KiB-idle")
		for n := range 1000 {
			startOne(b, a, m, n)
		}
		b.ReportMetric(resident(b, a.pid), "KiB-1000")
		begin := time.Now()
		for n := range 1000 {
			s, err := a.OpenSandbox(b.Context(), wasm.SandboxConfig{ID: strconv.Itoa(n)})
			if err == nil {
				err = s.Close(b.Context())
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(time.Since(begin).Microseconds())/1000, "µs/close")
	}
}

// resident returns the resident memory in KiB of the process in that file.
func resident(b *testing.B, pidFile string) float64 {
	pid, err := os.ReadFile(pidFile)
	if err != nil {
		b.Fatal(err)
	}
	status, err := os.ReadFile("/proc/" + string(pid) + "/status")
	if err != nil {
		b.Skip("no /proc here")
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	var n float64
	if _, err := fmt.Sscan(rest, &n); err != nil {
		b.Fatal(err)
	}
	return n
}

func startOne(b *testing.B, rt wasm.Runtime, m wasm.Module, n int) {
	s, err := rt.OpenSandbox(b.Context(), wasm.SandboxConfig{ID: strconv.Itoa(n)})
	if err != nil {
		b.Error(err)
		return
	}
	if _, err := s.Start(b.Context(), m, wasm.Program{ID: "main-0"}); err != nil {
		b.Error(err)
	}
}
