package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
)

// examplesFolder returns a folder of one manifest whose module takes a while
// to compile.
func examplesFolder(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "park.toml"), []byte(park("web", 2, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	return folder
}

// TestUpEnds stops "weft up" at every stage, in every way.
func TestUpEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		after   string // what it must have said, or the file that must be there
		signals []os.Signal
	}{
		"at once":                 {"", []os.Signal{os.Interrupt}},
		"when NATS runs":          {"nats/keys", []os.Signal{os.Interrupt}},
		"when the API listens":    {"kubeconfig", []os.Signal{syscall.SIGTERM}},
		"when a node begins":      {"nodes/one/lock", []os.Signal{os.Interrupt}},
		"while it applies":        {"Applying", []os.Signal{os.Interrupt}},
		"when all runs":           {"Ctrl-C stops", []os.Signal{syscall.SIGTERM}},
		"at once when told twice": {"Ctrl-C stops", []os.Signal{os.Interrupt, os.Interrupt}},
		"by kill -9":              {"Ctrl-C stops", []os.Signal{os.Kill}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := newData(t, "")
			c := member(t, data, "up", examplesFolder(t))
			c.await(tt.after, func() bool {
				_, err := os.Stat(filepath.Join(data, tt.after))
				return err == nil || strings.Contains(c.out.String(), tt.after)
			})
			begin := time.Now()
			for _, signal := range tt.signals {
				_ = c.cmd.Process.Signal(signal) // it may have ended
			}
			c.gone()
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("it took %s to end", took)
			}
			if tt.after != "" && len(tt.signals) == 1 && tt.signals[0] != os.Kill && c.status != nil {
				t.Errorf("it ended with: %v", c.status)
			}
			noneLeft(t, data)
		})
	}
}

// TestUpTwice starts a second cluster on one folder, and one beside it on the
// default ports.
func TestUpTwice(t *testing.T) {
	// Where another program has the usual ports already, it serves as well.
	for _, address := range []string{"127.0.0.1:6443", "127.0.0.1:4222"} {
		if l, err := net.Listen("tcp", address); err == nil {
			defer func() { _ = l.Close() }()
		}
	}
	data := newData(t, "")
	settings := `node.name = "one"` + "\n"
	if err := os.WriteFile(filepath.Join(data, "weft.toml"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	c := member(t, data, "up")
	c.said("Ctrl-C stops")
	member(t, data, "up").endsWith(1, "already runs on", data, "WEFT_DATA")
	config, err := clientcmd.LoadFromFile(filepath.Join(data, "kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	for _, cluster := range config.Clusters {
		if strings.HasSuffix(cluster.Server, ":6443") || !strings.Contains(c.out.String(), cluster.Server) {
			t.Errorf("the kubeconfig says %s, and it printed:\n%s", cluster.Server, c.out)
		}
	}
	url, err := os.ReadFile(filepath.Join(data, "nats", "url"))
	if err != nil || strings.Contains(string(url), ":4222") || !strings.Contains(c.out.String(), strings.TrimSpace(string(url))) {
		t.Errorf("nats/url says %s (%v), and it printed:\n%s", url, err, c.out)
	}
	c.must("get", "namespace", "default")
	c.stop()
	noneLeft(t, data)
}

// TestUpAgain starts a cluster on the folder of one before, with a manifest
// among others that cannot be applied.
func TestUpAgain(t *testing.T) {
	folder := examplesFolder(t)
	if err := os.WriteFile(filepath.Join(folder, "wrong.toml"), []byte("apiVersion = \"v1\"\nkind = \"ConfigMap\"\nmetadata.name = \"No_Name\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	data := newData(t, "")
	for range 2 {
		c := member(t, data, "up", folder)
		c.said("Ctrl-C stops")
		for _, text := range []string{"Not all manifests were applied", "No_Name", "deployment.apps/web", "export WEFT_DATA=" + data} {
			if !strings.Contains(c.out.String(), text) {
				t.Errorf("%q is not in the greeting:\n%s", text, c.out)
			}
		}
		c.available("web", 2)
		c.stop()
		noneLeft(t, data)
	}
}
