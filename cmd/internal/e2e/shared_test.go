package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// patience is how long a test waits for what should take a second.
const patience = 30 * time.Second

// shared is the one cluster that the tests within TestShared use, each in a
// namespace of its own.
type shared struct {
	data string // its WEFT_DATA
	bin  string // folder of the weft binary
	pid  int    // of "weft up"
	// examples is the folder of the example manifests and modules.
	examples string
}

// TestShared runs everything that can share a running cluster.
func TestShared(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the whole binary")
	}
	c := startShared(t)
	t.Run("scripts", c.scripts)
	t.Run("informer", c.informer)
	t.Run("hostile", c.hostile)
	t.Run("guests", c.hostileGuests)
	t.Run("kubectl", c.stock)
}

func startShared(t *testing.T) *shared {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "make", "-s", "-C", root(t), "modules").CombinedOutput(); err != nil {
		t.Fatalf("build modules: %v\n%s", err, out)
	}
	running := startUp(t)
	return &shared{data: running.data, bin: filepath.Dir(weftBinary(t)), pid: running.cmd.Process.Pid, examples: filepath.Join(root(t), "examples")}
}

// environment is that of a command line on the cluster.
func (c *shared) environment(data string) []string {
	return append(os.Environ(), "WEFT_DATA="+data, "PATH="+c.bin+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// until repeats a weft command until its output matches, or patience ends.
func (c *shared) until(ctx context.Context, env []string, pattern string, args ...string) ([]byte, error) {
	wanted, err := regexp.Compile("(?s)" + pattern)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(patience)
	for {
		cmd := exec.CommandContext(ctx, filepath.Join(c.bin, "weft"), args...)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		if wanted.Match(out) {
			return out, nil
		}
		if time.Now().After(deadline) {
			return out, fmt.Errorf("no match for %q within %s: %w", pattern, patience, err)
		}
		select {
		case <-ctx.Done():
			return out, ctx.Err()
		case <-time.After(50 * time.Millisecond): // a command line cannot be told
		}
	}
}

// weft runs one command line and returns what it prints.
func (c *shared) weft(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(c.bin, "weft"), args...)
	cmd.Env = c.environment(c.data)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("weft %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// config is the access of a client: "kubeconfig" is the administrator's.
func (c *shared) config(t *testing.T, name string) *rest.Config {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(c.data, name))
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	return config
}

// scripts runs testdata/*.txtar. Each has a namespace of the script's name,
// which is the default of its commands, and beside the administrator's
// WEFT_DATA the reader's in $READER.
func (c *shared) scripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup:               c.setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"until": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) < 2 {
					ts.Fatalf("usage: until PATTERN weft-arguments...")
				}
				out, err := c.until(t.Context(), c.environment(ts.Getenv("WEFT_DATA")), args[0], args[1:]...)
				if err != nil {
					ts.Fatalf("weft %s: %v\n%s", strings.Join(args[1:], " "), err, out)
				}
			},
		},
	})
}

func (c *shared) setup(env *testscript.Env) error {
	namespace := strings.TrimPrefix(filepath.Base(env.WorkDir), "script-")
	create := exec.Command(filepath.Join(c.bin, "weft"), "create", "namespace", namespace)
	create.Env = c.environment(c.data)
	if out, err := create.CombinedOutput(); err != nil {
		return fmt.Errorf("create namespace: %w: %s", err, out)
	}
	for _, access := range []struct{ variable, file string }{{"WEFT_DATA", "kubeconfig"}, {"READER", "reader.kubeconfig"}} {
		folder := filepath.Join(env.WorkDir, "."+strings.ToLower(access.variable))
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
		config, err := clientcmd.LoadFromFile(filepath.Join(c.data, access.file))
		if err != nil {
			return err
		}
		config.Contexts[config.CurrentContext].Namespace = namespace
		if err := clientcmd.WriteToFile(*config, filepath.Join(folder, "kubeconfig")); err != nil {
			return err
		}
		env.Setenv(access.variable, folder)
	}
	env.Setenv("NAMESPACE", namespace)
	env.Setenv("EXAMPLES", c.examples)
	env.Setenv("PATH", c.bin+string(os.PathListSeparator)+env.Getenv("PATH"))
	return nil
}
