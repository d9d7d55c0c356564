package host_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"

	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/engine"
	"github.com/weftrun/weft/wasm/logfile"
	"github.com/weftrun/weft/wasm/wasmtest"
)

// suiteVariable names a folder with the binaries of the public WASI test suite
// (https://github.com/WebAssembly/wasi-testsuite, branch prod/testsuite-base).
const suiteVariable = "WEFT_WASI_TESTSUITE"

// suiteCase is one test of the suite.
type suiteCase struct {
	path     string // of the module
	Args     []string
	Env      map[string]string
	Root     string // the folder to be shown as /, beside the module
	ExitCode int32  `json:"exit_code"`
	Stdout   *string
}

// TestSuite runs the suite on our engine, metered, and beside it on wazero as it
// is. No test may fail on ours that passes there.
func TestSuite(t *testing.T) {
	dir := os.Getenv(suiteVariable)
	if dir == "" {
		t.Skipf("set %s to a folder with the branch prod/testsuite-base of https://github.com/WebAssembly/wasi-testsuite", suiteVariable)
	}
	cases := suiteCases(t, dir)
	e, err := engine.New(t.Context(), engine.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = e.Run(ctx) })
	defer wg.Wait()
	defer cancel()

	ours, stock := 0, 0
	for _, c := range cases {
		name, err := filepath.Rel(dir, c.path)
		if err != nil {
			t.Fatal(err)
		}
		there := onWazero(t, c)
		here := onEngine(t, e, c)
		if there == nil {
			stock++
		}
		switch {
		case here == nil:
			ours++
		case there == nil:
			t.Errorf("%s: %v", name, here)
		default:
			t.Logf("%s fails on both: %v", name, here)
		}
	}
	t.Logf("%d of %d tests pass; on wazero as it is, %d", ours, len(cases), stock)
}

// suiteCases finds the tests for preview 1.
func suiteCases(t *testing.T, dir string) []suiteCase {
	var all []suiteCase
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".wasm") || filepath.Base(filepath.Dir(path)) != "wasm32-wasip1" {
			return err
		}
		c := suiteCase{path: path}
		spec, err := os.ReadFile(strings.TrimSuffix(path, ".wasm") + ".json")
		if errors.Is(err, fs.ErrNotExist) {
			err, spec = nil, []byte("{}")
		}
		if err == nil {
			err = json.Unmarshal(spec, &c)
		}
		all = append(all, c)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatalf("%s=%s: there are no tests below it", suiteVariable, dir)
	}
	return all
}

// root returns a fresh copy of the folder that the test works in.
func (c suiteCase) root(t *testing.T) string {
	if c.Root == "" {
		return ""
	}
	dir := filepath.Join(t.TempDir(), "root")
	from := filepath.Join(filepath.Dir(c.path), c.Root)
	if _, err := os.Stat(from); err != nil { // an empty one is not in git
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (c suiteCase) env() []string {
	var env []string
	for _, name := range slices.Sorted(maps.Keys(c.Env)) {
		env = append(env, name+"="+c.Env[name])
	}
	return env
}

func (c suiteCase) check(code int32, stdout, stderr string) error {
	if code != c.ExitCode {
		return fmt.Errorf("exit code %d, want %d: %s", code, c.ExitCode, strings.TrimSpace(stderr))
	}
	if c.Stdout != nil && strings.TrimSuffix(stdout, "\n") != strings.TrimSuffix(*c.Stdout, "\n") {
		return fmt.Errorf("it printed %q, want %q", stdout, *c.Stdout)
	}
	return nil
}

func onEngine(t *testing.T, e *engine.Engine, c suiteCase) error {
	content, err := os.ReadFile(c.path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m, err := e.Prepare(ctx, wasmtest.Digest(content), c.path)
	if err != nil {
		return err
	}
	s, err := e.OpenSandbox(ctx, wasm.SandboxConfig{ID: c.path})
	if err != nil {
		return err
	}
	log := filepath.Join(t.TempDir(), "log")
	p := wasm.Program{
		ID: "test", Args: append([]string{filepath.Base(c.path)}, c.Args...), Env: c.env(), Log: wasm.Log{Path: log},
	}
	if root := c.root(t); root != "" {
		p.Mounts = []wasm.Mount{{Host: root, Guest: "/"}}
	}
	i, err := s.Start(ctx, m, p)
	if err != nil {
		return err
	}
	exit, err := i.Wait(ctx)
	if err != nil {
		return err
	}
	var stdout, stderr strings.Builder
	err = logfile.Read(ctx, log, logfile.Options{}, func(l logfile.Line) error {
		if l.Stream == "stdout" {
			fmt.Fprintf(&stdout, "%s\n", l.Text)
		} else {
			fmt.Fprintf(&stderr, "%s\n", l.Text)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fmt.Fprint(&stderr, exit.Message)
	return c.check(exit.Code, stdout.String(), stderr.String())
}

func onWazero(t *testing.T, c suiteCase) error {
	content, err := os.ReadFile(c.path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	rt := wazero.NewRuntime(ctx)
	defer rt.Close(ctx)
	wasi_snapshot_preview1.MustInstantiate(ctx, rt)
	var stdout, stderr bytes.Buffer
	mc := wazero.NewModuleConfig().
		WithArgs(append([]string{filepath.Base(c.path)}, c.Args...)...).
		WithStdout(&stdout).WithStderr(&stderr).
		WithSysWalltime().WithSysNanotime().WithSysNanosleep()
	for name, value := range c.Env {
		mc = mc.WithEnv(name, value)
	}
	if root := c.root(t); root != "" {
		mc = mc.WithFSConfig(wazero.NewFSConfig().WithDirMount(root, "/"))
	}
	code := int32(0)
	if _, err = rt.InstantiateWithConfig(ctx, content, mc); err != nil {
		var exited *sys.ExitError
		if !errors.As(err, &exited) {
			return err
		}
		code = int32(exited.ExitCode())
	}
	return c.check(code, stdout.String(), stderr.String())
}
