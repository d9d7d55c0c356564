package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/plugins"
	"github.com/weftrun/weft/plugins/host/guard"
)

// The test binary is its own plugin, its own host, and the guard between.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == guardArgument {
		os.Exit(guard.Run())
	}
	if os.Getenv("WEFT_TEST_UNCONFINED") != "" { // as if in a container
		refusesNamespace(syscall.EPERM)
	}
	switch os.Getenv("WEFT_TEST_ROLE") {
	case "plugin":
		if err := plugins.Serve(scripted{}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	case "lying":
		lyingMain()
	case "frozen":
		fmt.Println("this is no handshake, and now nothing")
		time.Sleep(time.Hour)
	case "broken":
		os.Exit(1)
	case "forks":
		forkingMain()
	case "hides":
		hidingMain()
	case "host":
		hostMain()
	}
	os.Exit(m.Run())
}

// scripted does what the parent's annotation "do" says.
type scripted struct{}

func (scripted) Describe() core.Description {
	return core.Description{
		Name: "scripted", Kind: corev1.SchemeGroupVersion.WithKind("ConfigMap"), Resource: core.ConfigMaps,
		Children: []core.Child{{Kind: corev1.SchemeGroupVersion.WithKind("Pod"), Resource: core.Pods, Adopt: true}},
	}
}

func (scripted) Relate(parent core.Object) []core.Relation {
	return []core.Relation{{Resource: core.Secrets, Namespace: parent.GetNamespace(), Selector: labels.Everything()}}
}

func (scripted) Decide(_ context.Context, seen core.Observation) (core.Decision, error) {
	switch seen.Parent.GetAnnotations()["do"] {
	case "spin":
		for i := 0; ; i++ {
			_ = i
		}
	case "fail":
		return core.Decision{}, errors.New("it cannot be done")
	case "die":
		os.Exit(3)
	case "panic":
		panic("no")
	case "leak":
		leak()
	}
	return core.Decision{
		Annotations: map[string]string{"pid": ownPID(), "children": strconv.Itoa(len(seen.Children))},
		Memory:      []byte{},
	}, nil
}

// ownPID is this process's number as its host knows it.
func ownPID() string {
	pid, err := os.Readlink("/proc/self")
	if err != nil {
		return strconv.Itoa(os.Getpid())
	}
	return pid
}

// versions makes each parent another one: a version never has two contents.
var versions atomic.Int64

func parent(do string) core.Object {
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default", UID: "u-p", ResourceVersion: core.FormatRevision(versions.Add(1)), Annotations: map[string]string{"do": do}},
	}
}

func selfPlugin(t testing.TB, name string, kinds ...string) Plugin {
	t.Helper()
	return rolePlugin(t, "plugin", name, kinds...)
}

func rolePlugin(t testing.TB, role, name string, kinds ...string) Plugin {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Plugin{Name: name, Command: self, Env: []string{"WEFT_TEST_ROLE=" + role}, Kinds: kinds}
}

// start runs a host until the test ends and returns it with its controllers.
// Its plugins have guards, where they cannot have namespaces.
func start(t *testing.T, c Config, want int) *Host {
	t.Helper()
	c.Guard = guarded()
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	h, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1) // the one result
	go func() { done <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	await(t, h, want)
	return h
}

func await(t *testing.T, h *Host, want int) []core.Controller {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		controllers, changed := h.Controllers()
		if len(controllers) == want {
			return controllers
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("%d controllers, want %d: %+v", len(controllers), want, h.Status())
		}
	}
}

func decide(t *testing.T, c core.Controller, do string) (core.Decision, error) {
	t.Helper()
	p := parent(do)
	relations := c.Relate(p)
	d, err := c.Decide(t.Context(), core.Observation{Now: time.Unix(1, 0), Parent: p, Children: []core.Object{p}})
	if err == nil && len(relations) != 1 {
		t.Errorf("decided with the relations %v", relations)
	}
	return d, err
}

func pid(t *testing.T, c core.Controller) int {
	t.Helper()
	d, err := decide(t, c, "")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(d.Annotations["pid"])
	if err != nil || d.Annotations["children"] != "1" || d.Memory == nil {
		t.Fatalf("got %+v", d)
	}
	return n
}

func TestKilledPluginComesBack(t *testing.T) {
	h := start(t, Config{Plugins: []Plugin{selfPlugin(t, "a")}}, 1)
	controllers, _ := h.Controllers()
	first := pid(t, controllers[0])
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for {
		d, err := decide(t, controllers[0], "")
		if _, ok := errors.AsType[*core.SetAsideError](err); ok {
			continue // asked in the moment it died
		}
		if err != nil {
			t.Fatal(err)
		}
		if d.Annotations["pid"] == strconv.Itoa(first) {
			t.Fatal("a dead process answered")
		}
		return
	}
}

func TestFailures(t *testing.T) {
	h := start(t, Config{Plugins: []Plugin{selfPlugin(t, "a")}, DecideTimeout: time.Second}, 1)
	controllers, _ := h.Controllers()
	c := controllers[0]
	cases := []struct{ do, want string }{
		{"fail", "it cannot be done"},
		{"panic", "controller scripted panicked: no"},
		{"spin", "did not answer within 1s; its process is restarted"},
		{"die", "ended while it was asked"},
	}
	for _, tc := range cases {
		t.Run(tc.do, func(t *testing.T) {
			_, err := decide(t, c, tc.do)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			timeout := time.After(20 * time.Second)
			for { // the process is back for others
				if d, err := decide(t, c, ""); err == nil && d.Annotations["pid"] != "" {
					return
				}
				select {
				case <-timeout:
					t.Fatal("it did not come back")
				default:
				}
			}
		})
	}
}

func TestKindsChoose(t *testing.T) {
	h := start(t, Config{Plugins: []Plugin{selfPlugin(t, "first"), selfPlugin(t, "chosen", "configmaps")}}, 1)
	for { // both run
		if s := h.Status(); s[0].Running && s[1].Running {
			break
		}
		_, changed := h.Controllers()
		select {
		case <-changed:
		case <-time.After(10 * time.Millisecond):
		}
	}
	controllers, _ := h.Controllers()
	if got := controllers[0].(*proxy).process.plugin.Name; len(controllers) != 1 || got != "chosen" {
		t.Errorf("%d controllers, served by %s", len(controllers), got)
	}
}

func TestFolder(t *testing.T) {
	folder := t.TempDir()
	h := start(t, Config{Folder: folder}, 0)
	drop(t, folder, "one")
	first := pid(t, await(t, h, 1)[0])

	drop(t, folder, "one") // another version takes its place
	timeout := time.After(30 * time.Second)
	for {
		controllers, changed := h.Controllers()
		if len(controllers) == 1 {
			if p := controllers[0].(*proxy); p.process.status().Running && pid(t, p) != first {
				break
			}
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatal("the replaced plugin was not started")
		}
	}
	if err := os.Remove(filepath.Join(folder, "one")); err != nil {
		t.Fatal(err)
	}
	await(t, h, 0)
}

// drop puts a script that runs this test binary as a plugin into the folder.
func drop(t *testing.T, folder, name string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\n# %d\nWEFT_TEST_ROLE=plugin exec %s\n", time.Now().UnixNano(), self)
	temporary := filepath.Join(folder, "."+name)
	if err := os.WriteFile(temporary, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temporary, filepath.Join(folder, name)); err != nil {
		t.Fatal(err)
	}
}

func TestPluginDiesWithHost(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			cmd, logs := startHost(t, "plugin")
			plugin := logged(t, logs, "plugin ", 1)
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			gone(t, plugin)
		})
	}
}

// startHost runs a host in a process of its own, with one plugin of a role. It
// logs "plugin PID" when that serves.
func startHost(t *testing.T, role string, env ...string) (*exec.Cmd, *safeBuffer) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	logs := &safeBuffer{}
	cmd := exec.Command(self)
	cmd.Env = append(append(os.Environ(), "WEFT_TEST_ROLE=host", "WEFT_TEST_PLUGIN="+role), env...)
	cmd.Stderr = logs
	cmd.WaitDelay = time.Second // whoever is left may hold it
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }) // it has ended, if all went well
	return cmd, logs
}

// alive tells whether a process runs; one that nobody has waited for does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func hostMain() {
	self, err := os.Executable()
	if err != nil {
		os.Exit(2)
	}
	h, err := New(Config{
		Plugins: []Plugin{{Name: "a", Command: self, Env: []string{"WEFT_TEST_ROLE=" + os.Getenv("WEFT_TEST_PLUGIN")}}},
		Guard:   guarded(),
		Logger:  slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		os.Exit(2)
	}
	go func() { _ = h.Run(context.Background()) }()
	for {
		controllers, changed := h.Controllers()
		if len(controllers) == 1 {
			d, err := controllers[0].Decide(context.Background(), core.Observation{Now: time.Unix(1, 0), Parent: parent("")})
			if err != nil {
				os.Exit(2)
			}
			fmt.Fprintf(os.Stderr, "text=\"plugin %s\"\n", d.Annotations["pid"])
			select {}
		}
		<-changed
	}
}
