package engine_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/engine"
	"github.com/weftrun/weft/wasm/wasmtest"
)

var listens = []string{wasm.StopVariable + "=" + wasm.StopFile}

// logged waits until a log has that text.
func logged(t *testing.T, path, text string) {
	t.Helper()
	for tick := time.Tick(time.Millisecond); ; {
		content, err := os.ReadFile(path)
		if strings.Contains(string(content), text) {
			return
		}
		select {
		case <-tick:
		case <-t.Context().Done():
			t.Fatalf("no %q in the log: %s, %v", text, content, err)
		}
	}
}

// TestStopReactor: a reactor runs nothing that could read a file.
func TestStopReactor(t *testing.T) {
	e := open(t, engine.Config{})
	for name, tc := range map[string]struct {
		want wasm.Exit
		log  string
	}{
		"lastcall": {wasm.Exit{Reason: wasm.Exited}, "bye\n"},
		"reactor":  {wasm.Exit{Reason: wasm.Killed, Code: 143}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "log")
			i := start(t, sandbox(t, e, name), prepare(t, e, name), wasm.Program{Env: listens, Log: wasm.Log{Path: log}})
			for range 2 {
				if err := i.Stop(t.Context(), time.Hour); err != nil {
					t.Fatal(err)
				}
			}
			if got := wait(t, i); got.Reason != tc.want.Reason || got.Code != tc.want.Code {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
			if text, _ := os.ReadFile(log); !strings.HasSuffix(string(text), tc.log) {
				t.Errorf("its log is %q", text)
			}
		})
	}
}

func TestBadStopFunction(t *testing.T) {
	digest, path := wasmtest.WriteModule(t, "badstop")
	_, err := open(t, engine.Config{}).Prepare(t.Context(), digest, path)
	if !errors.Is(err, wasm.ErrInvalidModule) || !strings.Contains(err.Error(), wasm.StopFunction) {
		t.Errorf("got %v", err)
	}
}

// TestStopGo: a goroutine that waits for the stop file holds up no other, and
// costs nothing.
func TestStopGo(t *testing.T) {
	e := open(t, engine.Config{})
	log := filepath.Join(t.TempDir(), "log")
	i := start(t, sandbox(t, e, "go"), goModule(t, e, "graceful"), wasm.Program{
		Args: []string{"graceful", "-finish", "10ms", "-code", "7"}, Env: listens, Log: wasm.Log{Path: log},
	})
	logged(t, log, "working\n")
	before := used(t, i)
	logged(t, log, "done: 1\n")
	if cpu := used(t, i) - before; cpu > 100*time.Millisecond {
		t.Errorf("it used %s of CPU time in a second of waiting", cpu)
	}
	if err := i.Stop(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, i); got.Reason != wasm.Exited || got.Code != 7 {
		t.Errorf("got %+v", got)
	}
	logged(t, log, "finished\n")
}

func used(t *testing.T, i wasm.Instance) time.Duration {
	t.Helper()
	u, err := i.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return u.CPU
}

// TestStopVariable: where the stop file is, is the environment's to say.
func TestStopVariable(t *testing.T) {
	e := open(t, engine.Config{})
	dir := t.TempDir()
	for name, tc := range map[string]struct {
		env, mount string
		code       int32 // 99: there is no such file
		message    string
	}{
		"elsewhere": {env: "=/tmp/my/stop"},
		"in root":   {env: "=/stop"},
		"none":      {env: "=", code: 99},
		"unset":     {env: "_NOT=/run/weft/stop", code: 99},
		"relative":  {env: "=run/stop", code: 128, message: "absolute"},
		"unclean":   {env: "=/run/../stop", code: 128, message: "absolute"},
		"root":      {env: "=/", code: 128, message: "absolute"},
		"mount":     {env: "=/a/stop", mount: "/a/", code: 128, message: "mounts[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			p := wasm.Program{Env: []string{wasm.StopVariable + tc.env}, Log: wasm.Log{Path: filepath.Join(t.TempDir(), "log")}}
			if tc.mount != "" {
				p.Mounts = []wasm.Mount{{Host: dir, Guest: tc.mount}}
			}
			i := start(t, sandbox(t, e, name), prepare(t, e, "graceful"), p)
			if tc.code == 0 {
				logged(t, p.Log.Path, "up\n")
				if err := i.Stop(t.Context(), time.Hour); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if got, err := i.Wait(ctx); err != nil || got.Code != tc.code || !strings.Contains(got.Message, tc.message) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}
