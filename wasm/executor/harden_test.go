package executor_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weftrun/weft/wasm/engine"
	"github.com/weftrun/weft/wasm/executor"
)

// prying is a runtime that tries, once it is run and if a file asks for it,
// what a guest that broke out would.
type prying struct {
	*engine.Engine
	pid string
}

// report is what it found.
type report struct {
	Refused []string // what ended with EPERM
	Allowed map[string]string
	Files   []string // that were open
	Env     []string
	Dir     string
}

func (p prying) Run(ctx context.Context) error {
	if _, err := os.Stat(p.pid + ".pry"); err == nil {
		b, err := json.Marshal(pry())
		if err != nil {
			return err
		}
		if err := os.WriteFile(p.pid+".new", b, 0o600); err != nil {
			return err
		}
		if err := os.Rename(p.pid+".new", p.pid+".report"); err != nil {
			return err
		}
	}
	gorge, cancel := context.WithCancel(ctx)
	var gorging sync.WaitGroup
	gorging.Go(func() { p.gorge(gorge) })
	defer gorging.Wait()
	defer cancel()
	return p.Engine.Run(ctx)
}

// gorge takes memory without end once a file asks for it.
func (p prying) gorge(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var all [][]byte
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		if _, err := os.Stat(p.pid + ".gorge"); err == nil {
			all = append(all, bytes.Repeat([]byte{1}, 32<<20))
		}
	}
	runtime.KeepAlive(all)
}

func pry() report {
	r := report{Allowed: map[string]string{}, Env: os.Environ()}
	try := func(what string, err error) {
		switch {
		case errors.Is(err, syscall.EPERM):
			r.Refused = append(r.Refused, what)
		case err != nil:
			r.Allowed[what] = err.Error()
		default:
			r.Allowed[what] = "done"
		}
	}
	try("exec", exec.Command("/bin/true").Run()) //nolint:noctx // it is refused
	_, err := net.Dial("unix", "/nowhere")       //nolint:noctx // it is refused
	try("unix socket", err)
	_, err = net.Dial("tcp", "127.0.0.1:1") //nolint:noctx // it is refused
	try("tcp", err)
	try("kill", syscall.Kill(os.Getppid(), 0))
	// From another thread, which must be bound as well.
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and it ends with it
		_, _, errno := syscall.RawSyscall6(syscall.SYS_MOUNT, 0, 0, 0, 0, 0, 0)
		done <- errno
	}()
	try("mount", <-done)
	_, _, errno := syscall.RawSyscall(syscall.SYS_PTRACE, 1<<20, 0, 0) // no request that there is
	try("ptrace", errno)
	entries, _ := os.ReadDir("/proc/self/fd") // it is there, as the filter is
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			r.Files = append(r.Files, target)
		}
	}
	r.Dir, _ = os.Getwd()
	return r
}

func await(t *testing.T, path string) []byte {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < 20*time.Second; time.Sleep(time.Millisecond) {
		if b, err := os.ReadFile(path); err == nil {
			return b
		}
	}
	t.Fatalf("%s does not come", path)
	return nil
}

func TestChildGivesUpWhatItDoesNotNeed(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux lets a process give up so much")
	}
	// What whoever starts the agent left open is not for the executor.
	secret, err := os.Create(filepath.Join(t.TempDir(), "secret"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = secret.Close() })
	if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, secret.Fd(), syscall.F_SETFD, 0); errno != 0 {
		t.Fatal(errno)
	}
	for _, unfiltered := range []bool{false, true} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "pid.pry"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		a := run(t, dir, executor.Config{DieWithParent: true, Sandboxing: executor.Sandboxing{NoFilter: unfiltered}})
		var r report
		if err := json.Unmarshal(await(t, a.pid+".report"), &r); err != nil {
			t.Fatal(err)
		}
		for _, what := range []string{"exec", "unix socket", "tcp", "kill", "mount", "ptrace"} {
			// Without the filter only the mount takes a right that was given up.
			if refused := slices.Contains(r.Refused, what); refused == unfiltered && what != "mount" {
				t.Errorf("unfiltered %v: %s is refused: %v (%s)", unfiltered, what, refused, r.Allowed[what])
			}
		}
		for _, file := range r.Files {
			if strings.Contains(file, "secret") {
				t.Errorf("it has %s open", file)
			}
		}
		if r.Dir != filepath.Join(dir, "x") {
			t.Errorf("it is in %s", r.Dir)
		}
		// It still works: a guest is compiled and run, and threads start.
		_, i := start(t, a, "exit", "uid", "main")
		if got := wait(t, i); got.Code != 7 {
			t.Errorf("got %+v", got)
		}
		checkStatus(t, a.pid, unfiltered)
	}
}

// checkStatus looks at what the kernel says of the child.
func checkStatus(t *testing.T, pidFile string, unfiltered bool) {
	t.Helper()
	pid := strings.TrimSpace(string(await(t, pidFile)))
	status := string(await(t, "/proc/"+pid+"/status"))
	filter := "Seccomp:\t2"
	if unfiltered {
		filter = "Seccomp:\t0"
	}
	for _, want := range []string{"NoNewPrivs:\t1\n", "Umask:\t0077\n", filter} {
		if !strings.Contains(status, want) {
			t.Errorf("its status lacks %q", want)
		}
	}
	_, rest, _ := strings.Cut(status, "CapEff:\t")
	caps, err := strconv.ParseUint(strings.Fields(rest)[0], 16, 64)
	if err != nil || caps&^0b1111 != 0 { // chown, dac_override, dac_read_search, fowner
		t.Errorf("it has the capabilities %x, %v", caps, err)
	}
	if limits := string(await(t, "/proc/"+pid+"/limits")); !strings.Contains(strings.Join(strings.Fields(limits), " "), "Max core file size 0 0") {
		t.Errorf("its limits: %s", limits)
	}
}
