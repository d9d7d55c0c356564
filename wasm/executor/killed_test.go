package executor_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/executor"
	"github.com/weftrun/weft/wasm/wasmtest"
)

// An executor that is killed while its guests end one after the other loses
// none of the exits that it recorded, and what it had not recorded is told as
// lost, never as both.
func TestKilledUnderLoad(t *testing.T) {
	a := run(t, t.TempDir(), executor.Config{DieWithParent: true})
	digest, path := wasmtest.WriteModule(t, "exit")
	m, err := a.Prepare(t.Context(), digest, path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := a.OpenSandbox(t.Context(), wasm.SandboxConfig{ID: "uid"})
	if err != nil {
		t.Fatal(err)
	}
	const guests, killAfter = 400, 150
	var ended atomic.Int32
	var mu sync.Mutex
	told := map[string]wasm.Exit{}
	kill := sync.OnceFunc(func() { a.signal(t, syscall.SIGKILL) })
	var wg sync.WaitGroup
	for n := range guests {
		wg.Go(func() {
			id := fmt.Sprint("main.", n)
			i, err := s.Start(t.Context(), m, wasm.Program{ID: id})
			if err != nil {
				return // it came too late
			}
			exit, err := i.Wait(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			if ended.Add(1) >= killAfter {
				kill()
			}
			mu.Lock()
			defer mu.Unlock()
			told[id] = exit
		})
	}
	wg.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if s, err = a.OpenSandbox(ctx, wasm.SandboxConfig{ID: "uid"}); err != nil {
		t.Fatal(err)
	}
	recorded, err := s.Instances(ctx)
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	for id, exit := range told {
		i, known := recorded[id]
		if exit.Reason == wasm.Lost {
			lost++
		}
		if known != (exit.Reason == wasm.Exited) {
			t.Errorf("%s was told as %s, and its record is %v", id, exit.Reason, known)
		}
		if known {
			if got := wait(t, i); got != exit {
				t.Errorf("%s was told as %+v, its record is %+v", id, exit, got)
			}
		}
	}
	if len(told)-lost < killAfter {
		t.Errorf("%d of %d are lost", lost, len(told))
	}
}
