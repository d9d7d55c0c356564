package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/weftrun/weft/bus/nats/natstest"
)

// threeNATS runs a NATS cluster of three with the configuration that Weft
// prints, on free ports, until the test ends.
func threeNATS(t *testing.T, data string) []*server.Server {
	t.Helper()
	c := &cluster{t: t, daemon: &daemon{data: data, ended: make(chan struct{})}}
	file := filepath.Join(data, "nats.conf")
	if err := os.WriteFile(file, []byte(c.must("nats-config")), 0o600); err != nil {
		t.Fatal(err)
	}
	return natstest.Three(t, func() *server.Options {
		options, err := server.ProcessConfigFile(file)
		if err != nil {
			t.Fatal(err)
		}
		options.HTTPPort = -1
		return options
	})
}

// writer creates ConfigMaps one after the other, through the core of a folder,
// and keeps account of what became of each.
type writer struct {
	client kubernetes.Interface

	mu     sync.Mutex
	acked  []string
	failed []error
	gap    time.Duration // the longest between two that were acknowledged
	last   time.Time
}

func (w *writer) run(t *testing.T, prefix string, stop <-chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		name := fmt.Sprint(prefix, i)
		_, err := w.client.CoreV1().ConfigMaps("default").Create(t.Context(),
			&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		now := time.Now()
		w.mu.Lock()
		// What exists was written, but its answer got lost, and client-go asked
		// again.
		if err == nil || apierrors.IsAlreadyExists(err) {
			if !w.last.IsZero() {
				w.gap = max(w.gap, now.Sub(w.last))
			}
			w.last = now
			w.acked = append(w.acked, name)
		} else {
			w.failed = append(w.failed, err)
		}
		w.mu.Unlock()
	}
}

// during writes through the core of data while f works, and for a moment before
// and after it. It returns the longest time without a write, and checks that at
// most one write failed, which nobody knows the outcome of, and that none that
// was acknowledged is lost.
func during(t *testing.T, c *cluster, prefix string, f func()) time.Duration {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(c.data, "kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	w := &writer{client: client}
	stop := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() { w.run(t, prefix, stop) })
	reaches := func(n int) {
		w.mu.Lock()
		n += len(w.acked)
		w.mu.Unlock()
		c.awaitOr(func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return len(w.acked) >= n
		}, func() string {
			return fmt.Sprintf("%d writes are wanted, not %d; failed: %v", n, len(w.acked), w.failed)
		})
	}
	reaches(20)
	w.mu.Lock()
	w.gap = 0
	w.mu.Unlock()
	f()
	reaches(20)
	close(stop)
	group.Wait()
	for _, err := range w.failed {
		if !apierrors.IsTimeout(err) && !apierrors.IsServiceUnavailable(err) && !apierrors.IsServerTimeout(err) {
			t.Errorf("a write failed with %v", err)
		}
	}
	if len(w.failed) > 1 {
		t.Errorf("%d writes failed: %v", len(w.failed), errors.Join(w.failed...))
	}
	for _, name := range w.acked {
		if _, err := client.CoreV1().ConfigMaps("default").Get(t.Context(), name, metav1.GetOptions{}); err != nil {
			t.Errorf("%s was acknowledged: %v", name, err)
		}
	}
	return w.gap.Round(time.Millisecond)
}

// TestTakeOver has two cores on a NATS cluster of three take over from each
// other, while a client writes through the one that stands by.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	first, second := t.TempDir(), t.TempDir()
	servers := threeNATS(t, first)
	var urls, monitors []string
	for _, s := range servers {
		urls = append(urls, fmt.Sprintf("%q", s.ClientURL()))
		monitors = append(monitors, fmt.Sprintf("%q", "http://"+s.MonitorAddr().String()))
	}
	nats := fmt.Sprintf("[nats]\nurls = [%s]\nmonitoring = [%s]\nreplicas = 3\n", strings.Join(urls, ", "), strings.Join(monitors, ", "))
	configure(t, first, nats)
	configure(t, second, nats)
	a := member(t, first, "core")
	a.said("core is ready")
	for _, folder := range []string{"pki", "core", "nats"} {
		if out, err := exec.Command("cp", "-a", filepath.Join(first, folder), second).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	b := member(t, second, "core")
	b.said("another core leads, this one stands by")

	t.Log("through the one that stands by")
	b.must("create", "configmap", "through-b")
	a.must("get", "configmap", "through-b")
	b.must("get", "--raw", "/readyz")
	if got := b.must("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"); got != "weft-admin" {
		t.Errorf("the leader sees %q", got)
	}
	if out, err := b.weft("--kubeconfig", filepath.Join(second, "reader.kubeconfig"), "create", "configmap", "no"); err == nil || !strings.Contains(out, "weft-reader") {
		t.Errorf("a reader wrote through the one that stands by: %s", out)
	}

	gap := during(t, b, "killed-", func() {
		if err := a.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		a.gone()
		b.said("core is ready")
	})
	t.Logf("killed: no write for %s", gap)

	a = member(t, first, "core")
	a.said("another core leads, this one stands by")
	gap = during(t, a, "stopped-", func() {
		if err := b.cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		b.gone()
		a.said("core is ready")
	})
	t.Logf("stopped in order: no write for %s", gap)

	b = member(t, second, "core")
	b.said("another core leads, this one stands by")
	gap = during(t, b, "frozen-", func() {
		if err := a.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		b.said("core is ready")
		if err := a.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		a.endsWith(3, "this core leads no longer")
	})
	t.Logf("frozen: no write for %s", gap)

	// Perhaps that server leads what the lease is kept in. Until another one does,
	// which takes seconds, nobody can renew it, and the core that leads ends.
	a = member(t, first, "core")
	a.said("another core leads, this one stands by")
	gap = during(t, a, "server-", func() {
		servers[2].Shutdown()
		servers[2].WaitForShutdown()
	})
	t.Logf("one NATS server less: no write for %s", gap)
}
