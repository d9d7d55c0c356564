package cluster

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLock(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "core")
	release, err := lock(folder, "a core")
	if err != nil {
		t.Fatal(err)
	}
	_, err = lock(folder, "a core")
	for _, text := range []string{"a core already runs on " + folder, "WEFT_DATA"} {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("the second lock: %v, want %q", err, text)
		}
	}
	if strings.Contains(err.Error(), "--name") {
		t.Errorf("a core has no name: %v", err)
	}
	_, err = lockNode(folder)
	for _, text := range []string{"a node of this name already runs on " + folder, "WEFT_DATA", "--name"} {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("the lock of a node: %v, want %q", err, text)
		}
	}
	other, err := lock(filepath.Join(t.TempDir(), "core"), "a core")
	if err != nil {
		t.Errorf("another folder: %v", err)
	} else {
		other()
	}
	release()
	release, err = lock(folder, "a core")
	if err != nil {
		t.Fatalf("after release: %v", err)
	}
	release()
	info, err := os.Stat(folder)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder's mode: %v, %v", info.Mode(), err)
	}
}

func TestLockRefusesFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "core")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := lock(file, "a core"); err == nil {
		t.Error("a file was locked as a folder")
	}
}

func TestLeaseHolder(t *testing.T) {
	names := map[string]bool{}
	for range 2 {
		folder := t.TempDir()
		if _, err := leaseHolder(folder); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("without a lock: %v", err)
		}
		for range 2 { // a core that starts again has the same name
			release, err := lock(folder, "a core")
			if err != nil {
				t.Fatal(err)
			}
			name, err := leaseHolder(folder)
			if err != nil {
				t.Fatal(err)
			}
			names[name] = true
			release()
		}
	}
	if len(names) != 2 {
		t.Errorf("the names of two folders: %v", names)
	}
}

func TestWriteSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "secret")
	for _, content := range []string{"longer at first", "then short"} {
		if err := writeSecret(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != content {
			t.Errorf("content %q, %v", got, err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("files left: %v, %v", left, err)
	}
	if err := writeSecret(filepath.Join(path, "below-a-file"), nil); err == nil {
		t.Error("a file was made below a file")
	}
}

// taken returns the address of a listener that runs until the test ends.
func taken(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

// free returns an address that was just free.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func TestAgain(t *testing.T) {
	last, busy, usual := free(t), taken(t), "127.0.0.1:6443"
	for name, tt := range map[string]struct{ address, last, want string }{
		"any port":               {"127.0.0.1:0", last, last},
		"any port, none before":  {"127.0.0.1:0", "", "127.0.0.1:0"},
		"any port, last is busy": {"127.0.0.1:0", busy, "127.0.0.1:0"},
		"the usual":              {usual, last, last},
		"the usual, none before": {usual, "", usual},
		"another host":           {"[::1]:0", last, "[::1]:0"},
		"a chosen port":          {"127.0.0.1:7000", last, "127.0.0.1:7000"},
		"no address":             {"nonsense", last, "nonsense"},
		"last is nonsense":       {"127.0.0.1:0", "nonsense", "127.0.0.1:0"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := again(t.Context(), tt.address, usual, tt.last); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestListen(t *testing.T) {
	busy := taken(t)
	for name, tt := range map[string]struct {
		address, usual string
		refused        bool
	}{
		"a free one":          {"127.0.0.1:0", "127.0.0.1:6443", false},
		"the usual is taken":  {busy, busy, false},
		"a chosen is taken":   {busy, "127.0.0.1:6443", true},
		"not of this machine": {"203.0.113.1:1", "127.0.0.1:6443", true},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := listen(t.Context(), tt.address, tt.usual, "")
			if (err != nil) != tt.refused {
				t.Fatalf("error %v, refused is %v", err, tt.refused)
			}
			if err != nil {
				if !strings.Contains(err.Error(), tt.address) {
					t.Errorf("the error does not name the address: %v", err)
				}
				return
			}
			defer func() { _ = l.Close() }()
			if l.Addr().String() == busy || !strings.HasPrefix(l.Addr().String(), "127.0.0.1:") {
				t.Errorf("it listens on %s", l.Addr())
			}
		})
	}
}

func TestLast(t *testing.T) {
	p := Paths{t.TempDir()}
	if got := lastNATS(p) + lastAPI(p); got != "" {
		t.Errorf("of a new folder: %q", got)
	}
	if err := writeSecret(p.NATSAddress(), []byte("nats://127.0.0.1:4333\n")); err != nil {
		t.Fatal(err)
	}
	if got := lastNATS(p); got != "127.0.0.1:4333" {
		t.Errorf("NATS: %q", got)
	}
	config := "clusters: [{name: weft, cluster: {server: \"https://127.0.0.1:7443\"}}]\n"
	if err := writeSecret(p.Kubeconfig(), []byte(config)); err != nil {
		t.Fatal(err)
	}
	if got := lastAPI(p); got != "127.0.0.1:7443" {
		t.Errorf("API: %q", got)
	}
	if err := writeSecret(p.Kubeconfig(), []byte("{")); err != nil {
		t.Fatal(err)
	}
	if got := lastAPI(p); got != "" {
		t.Errorf("of a damaged kubeconfig: %q", got)
	}
}
