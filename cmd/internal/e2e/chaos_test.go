package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestChaos is a short run of what "make chaos" does for long.
func TestChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the whole binary")
	}
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), build(t, "cmd/internal/chaos"), "-weft", weftBinary(t),
		"-modules", filepath.Join(root(t), "examples", "modules"), "-data", t.TempDir(),
		"-faults", "5", "-seed", "3", "-deployments", "4", "-replicas", "4", "-jobs", "4")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PASS: 5 faults") {
		t.Errorf("%v\n%s", err, out)
	}
}
