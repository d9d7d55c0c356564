package host_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/engine"
	"github.com/weftrun/weft/wasm/logfile"
	"github.com/weftrun/weft/wasm/wasmtest"
)

// TestGuestsWorld runs a Go guest that tries its files.
func TestGuestsWorld(t *testing.T) {
	dir := t.TempDir()
	bin := filepath.Join(dir, "files.wasm")
	if err := os.WriteFile(bin, wasmtest.BuildGo(t, "./testdata/files"), 0o600); err != nil {
		t.Fatal(err)
	}
	rw, ro, secret := filepath.Join(dir, "rw"), filepath.Join(dir, "ro"), filepath.Join(dir, "secret")
	for _, d := range []string{rw, ro, secret, filepath.Join(rw, "sub")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, "in.txt"), []byte("content"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Links that the host left there, out of the mount.
	for name, target := range map[string]string{"out": secret, "dangling": filepath.Join(secret, "new.txt"), "up": "../secret"} {
		if err := os.Symlink(target, filepath.Join(rw, name)); err != nil {
			t.Fatal(err)
		}
	}
	tries := []struct{ what, path, want string }{
		{"read", "/rw/in.txt", "content"},
		{"read", "/rw/sub/in.txt", "content"},
		{"read", "/rw/sub/../in.txt", "content"},
		{"write", "/rw/new.txt", "ok"},
		{"read", "/rw/new.txt", "guest"},
		{"mkdir", "/rw/dir", "ok"},
		{"list", "/rw/dir", "0"},
		{"list", "/rw/sub", "1"},
		{"remove", "/rw/dir", "ok"},
		{"link-in", "/rw/link", "ok"},
		{"read", "/rw/link", "content"},
		{"link-out", "/rw/evil", "refused"},
		{"link-up", "/rw/sub/evil", "refused"},
		{"read", "/rw/out/in.txt", "refused"},
		{"read", "/rw/up/in.txt", "refused"},
		{"write", "/rw/dangling", "refused"},
		{"write", "/rw/out/new.txt", "refused"},
		{"remove", "/rw/out/in.txt", "refused"},
		{"read", "/rw/../secret/in.txt", "refused"},
		{"read", "/etc/passwd", "refused"},
		{"read", "/ro/in.txt", "content"},
		{"write", "/ro/in.txt", "refused"},
		{"write", "/ro/new.txt", "refused"},
		{"mkdir", "/ro/dir", "refused"},
		{"remove", "/ro/in.txt", "refused"},
	}
	args := []string{"files"}
	var want []string
	for _, try := range tries {
		args = append(args, try.what, try.path)
		want = append(want, try.what+" "+try.path+": "+try.want)
	}
	want = append(want, "stdin: 0 bytes, <nil>", "host: web-0", "slept: true")

	log := filepath.Join(dir, "0.log")
	exit := run(t, bin, wasm.Program{ID: "a", Args: args, Log: wasm.Log{Path: log}, Mounts: []wasm.Mount{
		{Host: rw, Guest: "/rw"}, {Host: ro, Guest: "/ro", ReadOnly: true},
	}})
	if exit.Reason != wasm.Exited || exit.Code != 0 {
		t.Errorf("got %+v", exit)
	}
	var got []string
	if err := logfile.Read(t.Context(), log, logfile.Options{}, func(l logfile.Line) error {
		got = append(got, string(l.Text))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Stat(filepath.Join(secret, "new.txt")); err == nil {
		t.Error("the guest wrote outside of its mount")
	}
}

// run runs a module to its end.
func run(t *testing.T, path string, p wasm.Program) wasm.Exit {
	t.Helper()
	e, err := engine.New(t.Context(), engine.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := e.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer wg.Wait()
	defer cancel()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := e.Prepare(t.Context(), wasmtest.Digest(content), path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := e.OpenSandbox(t.Context(), wasm.SandboxConfig{ID: "s", Hostname: "web-0"})
	if err != nil {
		t.Fatal(err)
	}
	i, err := s.Start(t.Context(), m, p)
	if err != nil {
		t.Fatal(err)
	}
	exit, err := i.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return exit
}

func TestBadPrograms(t *testing.T) {
	_, path := wasmtest.WriteModule(t, "print")
	for name, tc := range map[string]struct {
		program wasm.Program
		want    string
	}{
		"env":      {wasm.Program{Env: []string{"A=b", "novalue"}}, "env[1]"},
		"env name": {wasm.Program{Env: []string{"=x"}}, "env[0]"},
		"env nul":  {wasm.Program{Env: []string{"A=\x00"}}, "env[0]"},
		"arg nul":  {wasm.Program{Args: []string{"a\x00b"}}, "NUL"},
		"no mount": {wasm.Program{Mounts: []wasm.Mount{{Host: "/does/not/exist", Guest: "/a"}}}, "mounts[0]"},
		"file":     {wasm.Program{Mounts: []wasm.Mount{{Host: path, Guest: "/a"}}}, "not a folder"},
		"relative": {wasm.Program{Mounts: []wasm.Mount{{Host: "/", Guest: "a"}}}, "must be absolute"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.program.ID = "a"
			exit := run(t, path, tc.program)
			if exit.Reason != wasm.NotStarted || exit.Code != 128 || !strings.Contains(exit.Message, tc.want) {
				t.Errorf("got %+v, want %q", exit, tc.want)
			}
		})
	}
}
