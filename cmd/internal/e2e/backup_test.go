package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weftrun/weft/bus/nats/natstest"
)

// TestBackup backs a cluster up while it is written to, restores it on a folder
// that knows nothing of it, and over the cluster itself. Its clients know it
// again.
func TestBackup(t *testing.T) {
	t.Parallel()
	data := newData(t, "")
	c := member(t, data, "core")
	c.said("core is ready")
	c.apply(numberedMaps(50))
	c.must("create", "secret", "generic", "hidden", "--from-literal=word=sesame")
	pushed := c.must("push", filepath.Join(root(t), "examples", "src", "park", "park.wasm"))
	backup, key := filepath.Join(data, "one.backup"), filepath.Join(data, "one.key")
	wantText(t, c.must("backup", "--key-file", key, backup), "wrote "+backup, "encrypted with key")
	wantText(t, c.must("backup", "--verify", "--key-file", key, backup), "is whole")
	content, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(content, []byte("sesame")) {
		t.Error("the backup shows a Secret")
	}
	broken := filepath.Join(data, "broken.backup")
	if err := os.WriteFile(broken, content[:len(content)-10], 0o600); err != nil {
		t.Fatal(err)
	}
	c.refused("", []string{"damaged"}, "backup", "--verify", "--key-file", key, broken)
	late := c.must("create", "configmap", "late", "-o", "jsonpath={.metadata.resourceVersion}")
	c.refused("", []string{"a core already runs"}, "restore", "--key-file", key, backup)
	identity := c.must("get", "configmap", "m-7", "-o", "jsonpath={.metadata.uid} {.metadata.resourceVersion}")
	client := c.must("config", "view", "--raw")
	c.stop()

	t.Log("on another folder")
	other := &cluster{t: t, daemon: &daemon{data: newData(t, "")}}
	other.refused("", []string{"damaged"}, "restore", "--key-file", key, broken)
	other.refused("", []string{"name the file with --key-file"}, "restore", backup)
	wantText(t, other.must("restore", "--key-file", key, backup), "restored")
	other = member(t, other.data, "core")
	other.said("core is ready")
	if got := other.must("get", "configmap", "m-7", "-o", "jsonpath={.metadata.uid} {.metadata.resourceVersion}"); got != identity {
		t.Errorf("m-7 is %s, want %s", got, identity)
	}
	wantText(t, other.must("get", "secret", "hidden", "-o", "jsonpath={.data.word}"), "c2VzYW1l")
	wantText(t, other.must("get", "--raw", "/weft/v1/blobs"), pushed[strings.Index(pushed, "sha256:"):])
	// The old client finds it at its new address, and trusts it.
	file := filepath.Join(data, "old.kubeconfig")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(client, serverIn(t, client), serverIn(t, other.must("config", "view", "--raw")))), 0o600); err != nil {
		t.Fatal(err)
	}
	other.must("--kubeconfig", file, "get", "configmap", "m-50")
	wantText(t, other.must("get", "--raw", "/api/v1/configmaps?watch=1&timeoutSeconds=5&resourceVersion="+late), `"code":410`)
	other.stop()

	t.Log("over itself")
	c.refused("", []string{"is in use", "--force"}, "restore", "--key-file", key, backup)
	wantText(t, c.must("restore", "--force", "--key-file", key, backup), "what was there is kept in")
	c = member(t, data, "core")
	c.said("core is ready")
	c.must("get", "configmap", "m-50")
	c.refused("", []string{"NotFound"}, "get", "configmap", "late")
}

// TestBackupInObjectStore keeps a backup in the object store of a NATS server
// that is not the cluster's, and restores it from there. A backup that is killed
// leaves the one before.
func TestBackupInObjectStore(t *testing.T) {
	t.Parallel()
	server := natstest.Objects(t, "backups")
	anyone := strings.Replace(server, "ada:lovelace@", "", 1)
	place := server + "/backups/weft/one"
	data := newData(t, "")
	c := member(t, data, "core")
	c.said("core is ready")
	c.apply(numberedMaps(50))
	key := filepath.Join(data, "one.key")
	said := c.must("backup", "--key-file", key, place)
	wantText(t, said, "wrote "+anyone+"/backups/weft/one", "encrypted with key")
	if strings.Contains(said, "lovelace") {
		t.Errorf("it shows the password: %s", said)
	}
	wantText(t, c.must("backup", "--verify", "--key-file", key, place), "is whole")
	c.refused("", []string{"make it first"}, "backup", "--key-file", key, server+"/none/one")
	c.refused("", []string{"Authorization Violation"}, "backup", "--key-file", key, anyone+"/backups/one")

	for delay := 50 * time.Millisecond; delay < 400*time.Millisecond; delay *= 2 {
		cmd := exec.Command(weftBinary(t), "backup", "--key-file", key, place)
		cmd.Env = c.environment()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(delay, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // it was killed, or was faster
		wantText(t, c.must("backup", "--verify", "--key-file", key, place), "is whole")
	}
	c.stop()
	other := &cluster{t: t, daemon: &daemon{data: newData(t, "")}}
	other.refused("", []string{"not found"}, "restore", "--key-file", key, place+"-2")
	wantText(t, other.must("restore", "--key-file", key, place), "restored")
	other = member(t, other.data, "core")
	other.said("core is ready")
	other.must("get", "configmap", "m-50")
}

// TestRestoreOutside restores on an outside NATS server: not under a core that
// leads, over the cluster itself, and on a folder that knows nothing of it.
func TestRestoreOutside(t *testing.T) {
	t.Parallel()
	data, fresh := t.TempDir(), t.TempDir()
	s := outsideNATS(t, data)
	for _, folder := range []string{data, fresh} {
		configure(t, folder, outsideSettings(s, "assume_synced = true"))
	}
	c := member(t, data, "core")
	c.said("core is ready")
	c.apply(numberedMaps(50))
	backup, key := filepath.Join(data, "one.backup"), filepath.Join(data, "one.key")
	c.must("backup", "--key-file", key, backup)
	c.must("create", "configmap", "late")

	other := &cluster{t: t, daemon: &daemon{data: fresh}}
	other.refused("", []string{"a core of this cluster leads", "holds it", "stop all its cores"}, "restore", "--force", "--key-file", key, backup)
	c.must("get", "configmap", "late")
	c.stop()
	other.refused("", []string{"the log of the NATS server is in use", "--force"}, "restore", "--key-file", key, backup)
	for _, name := range []string{"pki", "nats", ".restore"} {
		if _, err := os.Stat(filepath.Join(fresh, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a restore that was refused left %s: %v", name, err)
		}
	}

	t.Log("over itself")
	before := identityOf(t, data)
	wantText(t, c.must("restore", "--force", "--key-file", key, backup), "what was there is kept in")
	if after := identityOf(t, data); after != before {
		t.Errorf("the identity is %s, was %s", after, before)
	}
	c = member(t, data, "core")
	c.said("core is ready")
	c.must("get", "configmap", "m-50")
	c.refused("", []string{"NotFound"}, "get", "configmap", "late")
	c.stop()

	t.Log("on another folder")
	wantText(t, other.must("restore", "--force", "--key-file", key, backup), "restored")
	if after := identityOf(t, fresh); after != before {
		t.Errorf("the identity is %s, was %s", after, before)
	}
	other = member(t, fresh, "core")
	other.said("core is ready")
	other.must("get", "configmap", "m-50")
}

// identityOf is what a folder's keys are.
func identityOf(t *testing.T, data string) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", "find nats/keys pki -type f | sort | xargs sha256sum")
	cmd.Dir = data
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// TestKilledRestore kills restores at all moments: the folder is then as it was,
// or what the backup says.
func TestKilledRestore(t *testing.T) {
	t.Parallel()
	data := newData(t, "")
	c := member(t, data, "core")
	c.said("core is ready")
	c.apply(numberedMaps(200))
	backup := filepath.Join(data, "one.backup")
	c.must("backup", backup)
	c.must("delete", "configmaps", "--all")
	c.must("create", "configmap", "only")
	c.stop()
	restored := false
	for delay := 20 * time.Millisecond; !restored; delay = delay * 3 / 2 {
		cmd := exec.Command(weftBinary(t), "restore", "--force", backup)
		cmd.Env = c.environment()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(delay, func() { _ = cmd.Process.Kill() })
		restored = cmd.Wait() == nil
		timer.Stop()
		again := member(t, data, "core")
		again.said("core is ready")
		names := again.must("get", "configmaps", "-o", "name")
		switch n := strings.Count(names, "configmap/m-"); {
		case n == 200 && !strings.Contains(names, "configmap/only"):
			restored = true
		case n == 0 && strings.Contains(names, "configmap/only") && !restored:
		default:
			t.Fatalf("killed after %s: %d of 200 objects: %s", delay, n, names)
		}
		again.stop()
	}
	if _, err := os.Stat(filepath.Join(data, ".restore")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something is left: %v", err)
	}
}

// TestDamagedLog damages the log of a stopped core in ways that its server does
// not tell of: the core does not start, names the record, and goes on without
// the rest when it is told to.
func TestDamagedLog(t *testing.T) {
	t.Parallel()
	data := newData(t, "")
	c := member(t, data, "core")
	c.said("core is ready")
	for i := range 20 {
		c.apply(numberedMaps(1 + i))
	}
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	c.gone()
	files, err := filepath.Glob(filepath.Join(data, "nats", "streams", "jetstream", "*", "streams", "WAL", "msgs", "*.blk"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files of the log: %v, %v", files, err)
	}
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func([]byte) []byte{
		"tail":   func(b []byte) []byte { return b[:len(b)-100] },
		"middle": func(b []byte) []byte { b[len(b)/2] ^= 0x10; return b },
		"zeros":  func(b []byte) []byte { clear(b[len(b)/2:]); return b },
	} {
		t.Log(name)
		if err := os.WriteFile(files[0], damage(bytes.Clone(whole)), 0o600); err != nil {
			t.Fatal(err)
		}
		member(t, data, "core").endsWith(1, "the log is damaged, and nothing was changed", "log WAL: record", files[0], "weft restore --force", "--accept-loss")
	}
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	member(t, data, "core").endsWith(1, "its files end with record 0; records up to")
	if err := os.WriteFile(files[0], whole[:len(whole)-100], 0o600); err != nil {
		t.Fatal(err)
	}
	c = member(t, data, "core", "--accept-loss")
	c.said("core is ready")
	c.must("get", "configmap", "m-1")
	c.must("create", "configmap", "after")
	c.stop()
	c = member(t, data, "core")
	c.said("core is ready")
	c.must("get", "configmap", "m-1", "after")
}

// numberedMaps are config maps m-1 to m-n.
func numberedMaps(n int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m-%d}\ndata: {of: \"%d\"}\n---\n", i+1, n)
	}
	return text.String()
}

// serverIn is the server's address in a kubeconfig.
func serverIn(t *testing.T, kubeconfig string) string {
	t.Helper()
	_, rest, ok := strings.Cut(kubeconfig, "server: ")
	if !ok {
		t.Fatalf("no server in %s", kubeconfig)
	}
	return strings.Fields(rest)[0]
}

func wantText(t *testing.T, got string, want ...string) {
	t.Helper()
	for _, text := range want {
		if !strings.Contains(got, text) {
			t.Errorf("%q is not in: %s", text, got)
		}
	}
}
