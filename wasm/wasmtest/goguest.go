package wasmtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// BuildGo builds the Go package for WASI and returns the module. It skips the
// test where that cannot be done, and under the race detector, which makes the
// compilation of a Go module take up to a minute.
func BuildGo(tb testing.TB, pkg string) []byte {
	tb.Helper()
	if raceDetector {
		tb.Skip("compiling a Go guest takes too long with the race detector")
	}
	path := filepath.Join(tb.TempDir(), "guest.wasm")
	cmd := exec.CommandContext(tb.Context(), "go", "build", "-ldflags=-s -w", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Skipf("cannot build a Go guest here: %v\n%s", err, out)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return content
}
