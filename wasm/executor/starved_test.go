package executor_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/executor"
)

// An executor that takes more memory than it may is killed, and its guests say
// why; the next one works.
func TestStarved(t *testing.T) {
	g, err := executor.OpenCgroups(executor.CgroupConfig{Name: fmt.Sprint("weft-starved-", os.Getpid()), MemoryBytes: 192 << 20})
	if err != nil {
		t.Skip(err) // this process may make no control groups
	}
	a := run(t, t.TempDir(), executor.Config{DieWithParent: true, Cgroups: g})
	_, parked := start(t, a, "park", "uid", "main")
	if err := os.WriteFile(a.pid+".gorge", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got := wait(t, parked)
	if got.Reason != wasm.Lost || !strings.Contains(got.Message, "out-of-memory") || !strings.Contains(got.Message, "192 MiB") {
		t.Errorf("got %+v", got)
	}
	if err := os.Remove(a.pid + ".gorge"); err != nil {
		t.Fatal(err)
	}
	for {
		// The next one may have begun to take memory as well.
		s, err := a.OpenSandbox(t.Context(), wasm.SandboxConfig{ID: "again"})
		if err == nil {
			err = s.Close(t.Context())
		}
		if err == nil {
			break
		}
	}
	a.stop()
	g.Close()
}
