package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// stock runs the machine's own kubectl, of whatever version it is.
func (c *shared) stock(t *testing.T) {
	t.Parallel()
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		t.Skip("this machine has no kubectl")
	}
	c.weft(t, "create", "namespace", "stock")
	run := func(want string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), kubectl, append([]string{"-n", "stock"}, args...)...)
		cmd.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(c.data, "kubeconfig"), "KUBECACHEDIR="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("kubectl %s: %v, want %q:\n%s", strings.Join(args, " "), err, want, out)
		}
	}
	run("created", "create", "deployment", "web", "--image=file:modules/hello.wasm", "--replicas=2")
	run("successfully rolled out", "rollout", "status", "deployment/web", "--timeout=30s")
	run("2/2", "get", "deployments")
	run("scaled", "scale", "deployment/web", "--replicas=1")
	run("env updated", "set", "env", "deployment/web", "A=b")
	run("successfully rolled out", "rollout", "status", "deployment/web", "--timeout=30s")
	run("ReplicaSet", "describe", "deployment", "web")
	run("completions", "explain", "job.spec")
	run("rolled back", "rollout", "undo", "deployment/web")
	if out, err := c.until(t.Context(), c.environment(c.data), "one +[0-9]+m", "top", "nodes"); err != nil {
		t.Errorf("no metrics of the node: %v\n%s", err, out)
	}
	run("CPU(cores)", "top", "nodes")
	run("deleted", "delete", "deployment", "web", "--cascade=foreground", "--timeout=30s")
	run("No resources found", "get", "pods")
}
