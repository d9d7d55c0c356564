package host

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weftrun/weft/plugins/host/guard"
)

// run is a guard that runs a shell's script. All that has the descriptor end
// from there is known to be gone when reading it ends.
type run struct {
	cmd  *exec.Cmd
	pid  int
	life *os.File // of the host
	end  *os.File
	out  bytes.Buffer
}

func begin(t *testing.T, as string, order guard.Order) (*run, error) {
	t.Helper()
	lifeRead, lifeWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	endRead, endWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r := &run{cmd: exec.Command(guarded()[0], guarded()[1:]...), life: lifeWrite, end: endRead}
	t.Cleanup(func() { _, _ = lifeWrite.Close(), endRead.Close() })
	if as != "" {
		r.cmd.Args, r.cmd.Env = r.cmd.Args[:1], []string{"WEFT_TEST_ROLE=" + as}
	}
	r.cmd.Stdout, r.cmd.Stderr = &r.out, t.Output()
	r.cmd.ExtraFiles = []*os.File{lifeRead, endWrite}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if as != "" {
		ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
	}
	r.pid, err = startGuarded(ctx, r.cmd, order)
	_, _ = lifeRead.Close(), endWrite.Close()
	return r, err
}

func script(text string, env ...string) guard.Order {
	return guard.Order{Path: "/bin/sh", Args: []string{"sh", "-c", text}, Env: append(env, "PATH="+os.Getenv("PATH"))}
}

func mustBegin(t *testing.T, order guard.Order) *run {
	t.Helper()
	r, err := begin(t, "", order)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wait waits until nobody is left.
func (r *run) wait(t *testing.T) {
	t.Helper()
	if err := r.end.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r.end); err != nil {
		t.Errorf("some are left: %v", err)
	}
	_ = r.cmd.Wait() // how it ended is in its state
}

// ready waits until the plugin has written to its end that it is ready.
func (r *run) ready(t *testing.T) {
	t.Helper()
	if err := r.end.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := r.end.Read(make([]byte, 1)); n != 1 {
		t.Fatal(err)
	}
}

func TestGuardedPluginEnds(t *testing.T) {
	for text, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -9 $$": 128 + 9, `test "$A" = b && exit 3`: 3} {
		r := mustBegin(t, script(text, "A=b"))
		r.wait(t)
		if got := r.cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("%s: ended with %d, want %d", text, got, want)
		}
	}
}

// TestGuardPassesOnNothingElse looks at what a plugin has open, and in which
// group it is.
func TestGuardPassesOnNothingElse(t *testing.T) {
	r := mustBegin(t, script(`for i in 0 1 2 3 4 5 6; do (eval ": <&$i") && echo $i; done; read -r _ _ _ _ group _ </proc/$$/stat; test $group = $$ && echo leads`))
	r.wait(t)
	if got := strings.Join(strings.Fields(r.out.String()), " "); got != "0 1 2 3 4 leads" {
		t.Errorf("got %q", got)
	}
}

func TestGuardedStartFails(t *testing.T) {
	garbage := t.TempDir() + "/garbage"
	if err := os.WriteFile(garbage, []byte("\x7fELF and no more"), 0o700); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		as, path string
		want     string
	}{
		{"", "/does/not/exist", "fork/exec /does/not/exist: no such file or directory"},
		{"", garbage, "exec format error"},
		{"frozen", "/bin/true", "hear from a guard: "},
	}
	for _, tc := range cases {
		r, err := begin(t, tc.as, guard.Order{Path: tc.path, Args: []string{"x"}, Env: []string{"A=b"}})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", tc.path, err, tc.want)
		}
		if r.cmd.ProcessState == nil {
			t.Errorf("%s: the guard was not waited for", tc.path)
		}
	}
}

// storm starts processes faster than one can look, each of which leaves its
// parent, session and environment.
const storm = `again() { while :; do (trap '' TERM HUP; sleep 1000 & sleep 0.01) & sleep 0.005; done; }
again & (again &) & echo -n x >&4; wait`

// TestGuardEndsAll ends a guard in each way that it knows, and has all of a plugin's
// processes end.
func TestGuardEndsAll(t *testing.T) {
	ends := map[string]func(r *run) error{
		"the host ended":   func(r *run) error { return r.life.Close() },
		"it was asked":     func(r *run) error { return r.cmd.Process.Signal(syscall.SIGTERM) },
		"the plugin ended": func(r *run) error { return syscall.Kill(r.pid, syscall.SIGKILL) },
	}
	scripts := map[string]string{
		"hidden":  `(trap '' TERM HUP; exec env -i /bin/sh -c 'sleep 1000 & sleep 1000 & echo -n x >&4') & wait; sleep 1000`,
		"storm":   storm,
		"stopped": `sleep 1000 & kill -STOP $!; echo -n x >&4; kill -STOP $$`,
	}
	for how, end := range ends {
		for name, text := range scripts {
			t.Run(how+"/"+name, func(t *testing.T) {
				r := mustBegin(t, script(text))
				r.ready(t)
				if err := end(r); err != nil {
					t.Fatal(err)
				}
				r.wait(t)
			})
		}
	}
}

// TestGuardBuries shows that a guard waits for what a plugin's children leave
// behind while the plugin runs.
func TestGuardBuries(t *testing.T) {
	// A process that nobody waited for can still be sent signals.
	r := mustBegin(t, script(`for i in 1 2 3 4 5; do left="$left $(sh -c 'true & echo $!')"; done
for p in $left; do while kill -0 $p; do :; done; done 2>/dev/null; echo -n x >&4; sleep 1000`))
	r.ready(t)
	if err := r.life.Close(); err != nil {
		t.Fatal(err)
	}
	r.wait(t)
}

// TestGuardByHand starts a guard as a person would.
func TestGuardByHand(t *testing.T) {
	out, err := exec.Command(guarded()[0], guarded()[1:]...).CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 2 || !strings.Contains(string(out), "a core starts this for a plugin") {
		t.Errorf("got %v: %s", err, out)
	}
}
