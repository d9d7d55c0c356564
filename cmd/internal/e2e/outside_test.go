package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	corev1 "k8s.io/api/core/v1"

	"github.com/weftrun/weft/bus/nats/natstest"
)

// outsideNATS runs a NATS server with the configuration that Weft prints, on
// free ports, until the test ends.
func outsideNATS(t *testing.T, data string) *server.Server {
	t.Helper()
	c := &cluster{t: t, daemon: &daemon{data: data, ended: make(chan struct{})}}
	file := filepath.Join(data, "nats.conf")
	if err := os.WriteFile(file, []byte(c.must("nats-config")), 0o600); err != nil {
		t.Fatal(err)
	}
	options, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if options.Host != "127.0.0.1" || options.Port != 4222 || options.HTTPPort != 8222 || !options.SyncAlways {
		t.Errorf("the configuration says %s:%d, monitoring %d, sync %v", options.Host, options.Port, options.HTTPPort, options.SyncAlways)
	}
	options.Port, options.HTTPPort, options.NoSigs, options.NoLog = -1, -1, true, true
	return natstest.Run(t, options)
}

// outsideSettings are those of a process on an outside server.
func outsideSettings(s *server.Server, more string) string {
	return fmt.Sprintf("[nats]\nurls = [%q]\n%s\n", s.ClientURL(), more)
}

// configure writes a folder's settings.
func configure(t *testing.T, data, nats string) {
	t.Helper()
	text := fmt.Sprintf("log_level = \"info\"\n[api]\nlisten = \"127.0.0.1:0\"\n[node]\nmodule_path = [%q]\n%s", filepath.Join(root(t), "examples"), nats)
	if err := os.WriteFile(filepath.Join(data, "weft.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestOutsideNATS runs two cores and a node on a NATS server of its own, and
// takes the lead from one core after the other.
func TestOutsideNATS(t *testing.T) {
	t.Parallel()
	first, second, third := t.TempDir(), t.TempDir(), t.TempDir()
	s := outsideNATS(t, first)
	configure(t, first, outsideSettings(s, ""))
	member(t, first, "core").endsWith(1, "whether it syncs each write is unknown", "nats.monitoring", "nats.assume_synced")
	monitored := outsideSettings(s, fmt.Sprintf("monitoring = [%q]", "http://"+s.MonitorAddr().String()))
	configure(t, first, monitored)
	leader := member(t, first, "core")
	leader.said("core is ready")

	node := third
	configure(t, node, outsideSettings(s, "credentials = \"node.creds\""))
	if err := os.WriteFile(filepath.Join(node, "node.creds"), []byte(leader.must("credentials", "node", "far")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	member(t, node, "node", "--name", "far")
	leader.nodeReady("far", corev1.ConditionTrue)
	leader.apply(park("web", 2, ""))
	before := leader.pods("app=web", ready(2))

	configure(t, second, outsideSettings(s, "assume_synced = true\ncredentials = \"core.creds\""))
	if err := os.WriteFile(filepath.Join(second, "core.creds"), []byte(leader.must("credentials", "core", "second")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	member(t, second, "core").endsWith(1, "another core leads", "core/key and pki")
	for _, folder := range []string{"pki", "core"} {
		if out, err := exec.Command("cp", "-a", filepath.Join(first, folder), second).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	standby := member(t, second, "core")
	standby.said("another core leads, this one stands by")
	standby.must("get", "node", "far") // by the one that leads

	t.Log("the leader is killed")
	leader.must("create", "configmap", "last")
	if err := leader.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	leader.gone()
	begin := time.Now()
	standby.said("core is ready")
	t.Logf("the other leads after %s", time.Since(begin).Round(time.Millisecond))
	standby.must("get", "configmap", "last")
	wantText(t, standby.must("get", "--raw", "/readyz?verbose"), "[+]log-sync ok: assumed", "readyz check passed")
	standby.nodeReady("far", corev1.ConditionTrue)
	same(t, before, standby.pods("app=web", ready(2)))

	t.Log("the leader stands still")
	again := member(t, first, "core")
	again.said("another core leads, this one stands by")
	if err := standby.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	again.said("core is ready")
	again.must("create", "configmap", "by-the-new-one")
	if err := standby.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	standby.endsWith(3, "this core leads no longer")
	again.must("get", "configmap", "last", "by-the-new-one")
	same(t, before, again.pods("app=web", ready(2)))

	t.Log("the leader ends")
	last := member(t, second, "core")
	last.said("another core leads, this one stands by")
	begin = time.Now()
	again.stop()
	last.said("core is ready")
	t.Logf("the other leads after %s", time.Since(begin).Round(time.Millisecond))
	last.must("get", "configmap", "by-the-new-one")

	t.Log("the server ends")
	begin = time.Now()
	s.Shutdown()
	last.endsWith(3, "this core leads no longer")
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("the core ended after %s", took)
	}
}
