package wasmtest_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/wasmtest"
)

func TestFakeContract(t *testing.T) {
	wasmtest.Run(t, func(t *testing.T) wasmtest.Subject {
		f := new(wasmtest.Fake)
		t.Cleanup(f.Close)
		return wasmtest.Scripted(f)
	})
}

func TestScripts(t *testing.T) {
	for script, want := range map[string]struct {
		reason wasm.Reason
		code   int32
		after  time.Duration
	}{
		"":                         {wasm.Exited, 0, 0},
		"run 10s exit 7":           {wasm.Exited, 7, 10 * time.Second},
		"run 1h":                   {wasm.Exited, 0, time.Hour},
		"prog run 1s trap why":     {wasm.Trapped, 134, time.Second},
		"fail start":               {wasm.NotStarted, 128, 0},
		"run 1s oom":               {wasm.OutOfMemory, 137, time.Second},
		"log hello run 2s exit -1": {wasm.Exited, -1, 2 * time.Second},
		"run away":                 {wasm.Trapped, 134, 0},
	} {
		t.Run(script, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var f wasmtest.Fake
				defer f.Close()
				m, err := f.Prepare(t.Context(), "sha256:x", "")
				if err != nil {
					t.Fatal(err)
				}
				s, err := f.OpenSandbox(t.Context(), wasm.SandboxConfig{ID: "s"})
				if err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				i, err := s.Start(t.Context(), m, wasm.Program{ID: "a", Args: []string{script}})
				if err != nil {
					t.Fatal(err)
				}
				exit, err := i.Wait(t.Context())
				if err != nil || exit.Reason != want.reason || exit.Code != want.code || time.Since(begin) != want.after {
					t.Errorf("after %s: got %+v, %v; want %+v", time.Since(begin), exit, err, want)
				}
			})
		})
	}
}
