package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// member runs one process of a cluster whose parts run apart, or a cluster
// that a test ends in its own way. Unlike launch it marks all processes that
// come of it, so that none can hide: see marked.
func member(t *testing.T, data string, args ...string) *cluster {
	t.Helper()
	return memberBy(t, data, exec.Command(weftBinary(t), args...))
}

// memberBy is member with a command that leads to weft.
func memberBy(t *testing.T, data string, cmd *exec.Cmd) *cluster {
	t.Helper()
	c := &cluster{t: t, daemon: &daemon{data: data, cmd: cmd, out: &lockedBuffer{}, ended: make(chan struct{})}}
	// Every process of Weft is given TMPDIR, and none needs anything there.
	c.cmd.Dir, c.cmd.Env = data, append(append(c.environment(), "TMPDIR="+data), cmd.Env...)
	c.cmd.Stdout, c.cmd.Stderr = c.out, c.out
	c.cmd.SysProcAttr = endWithThisProcess()
	c.cmd.WaitDelay = time.Second
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		c.status = c.cmd.Wait()
		close(c.ended)
	}()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("weft %s said:\n%s", strings.Join(cmd.Args[1:], " "), c.out)
		}
		_ = c.cmd.Process.Kill() // it may have ended
		c.gone()
		for _, p := range marked(t, data) {
			_ = syscall.Kill(p.pid, syscall.SIGKILL) // it may have ended
		}
	})
	return c
}

// marked returns the processes that member started with a data folder, and
// all that came of them.
func marked(t *testing.T, data string) []process {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	var all []process
	for _, path := range paths {
		environment, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(environment, []byte("TMPDIR="+data+"\x00")) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		if p, ok := readProcess(pid); ok && !p.ended {
			all = append(all, p)
		}
	}
	return all
}

// noneLeft checks that all marked processes end within 5 s.
func noneLeft(t *testing.T, data string) {
	t.Helper()
	var left []process
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); pause() {
		if left = marked(t, data); len(left) == 0 {
			return
		}
	}
	for _, p := range left {
		t.Errorf("process %d is left: %s", p.pid, p.command)
	}
}

// only returns the one marked process whose command line contains text.
func (c *cluster) only(text string) process {
	c.t.Helper()
	var found []process
	c.awaitOr(func() bool {
		found = slices.DeleteFunc(marked(c.t, c.data), func(p process) bool { return !strings.Contains(p.command, text) })
		return len(found) == 1
	}, func() string { return fmt.Sprintf("one process %q is wanted, not %v", text, found) })
	return found[0]
}

// kill9 kills one marked process and waits until it has ended.
func (c *cluster) kill9(p process) {
	c.t.Helper()
	if err := syscall.Kill(p.pid, syscall.SIGKILL); err != nil {
		c.t.Fatalf("kill %s: %v", p.command, err)
	}
	c.await("the end of "+p.command, func() bool { return !p.alive() })
}

// said waits until the process has printed text.
func (c *cluster) said(text string) {
	c.t.Helper()
	c.await("it to say "+strconv.Quote(text), func() bool { return strings.Contains(c.out.String(), text) })
}

// endsWith waits for the process's end, by itself, with an exit code.
func (c *cluster) endsWith(code int, texts ...string) {
	c.t.Helper()
	select {
	case <-c.ended:
	case <-time.After(waitAtMost):
		c.t.Fatalf("it does not end")
	}
	if got := c.cmd.ProcessState.ExitCode(); got != code {
		c.t.Errorf("exit code %d, want %d", got, code)
	}
	for _, text := range texts {
		if !strings.Contains(c.out.String(), text) {
			c.t.Errorf("%q is not in what it said:\n%s", text, c.out)
		}
	}
}

// get decodes the answer of "weft get args -o json".
func get[T any](c *cluster, args ...string) (T, error) {
	var out T
	text, err := c.weft(append([]string{"get", "-o", "json"}, args...)...)
	if err != nil {
		return out, fmt.Errorf("%w: %s", err, text)
	}
	return out, json.Unmarshal([]byte(text), &out)
}

// pods waits until the pods with a label are as wanted, and returns them.
func (c *cluster) pods(selector string, want func([]corev1.Pod) bool) []corev1.Pod {
	c.t.Helper()
	var list corev1.PodList
	var err error
	c.awaitOr(func() bool {
		list, err = get[corev1.PodList](c, "pods", "-l", selector)
		return err == nil && want(list.Items)
	}, func() string {
		text, _ := json.MarshalIndent(list.Items, "", " ")
		return fmt.Sprintf("pods %s are not as wanted: %v %s", selector, err, text)
	})
	return list.Items
}

// ready says whether there are n pods, all ready and none going.
func ready(n int) func([]corev1.Pod) bool {
	return func(pods []corev1.Pod) bool {
		return len(pods) == n && !slices.ContainsFunc(pods, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil || !isReady(&p) })
	}
}

func isReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// park is a Deployment of pods that run and do nothing. tolerations are in
// TOML.
func park(name string, replicas int, tolerations string) string {
	return fmt.Sprintf(`apiVersion = "apps/v1"
kind = "Deployment"
metadata.name = %[1]q
[spec]
replicas = %[2]d
selector.matchLabels.app = %[1]q
[spec.template]
metadata.labels.app = %[1]q
[spec.template.spec]
containers = [{ name = "park", image = "file:src/park/park.wasm" }]
%[3]s
`, name, replicas, tolerations)
}

// available waits until a Deployment is as its spec wants it.
func (c *cluster) available(name string, replicas int32) {
	c.t.Helper()
	c.await(fmt.Sprintf("%d of deployment %s", replicas, name), func() bool {
		d, err := get[appsv1.Deployment](c, "deployment", name)
		return err == nil && d.Status.ObservedGeneration >= d.Generation && d.Status.AvailableReplicas == replicas && d.Status.Replicas == replicas
	})
}

// same checks that pods are the ones from before, and that none was restarted.
func same(t *testing.T, before, after []corev1.Pod) {
	t.Helper()
	type life struct {
		container string
		restarts  int32
	}
	lives := map[string]life{}
	for _, p := range before {
		lives[string(p.UID)] = life{p.Status.ContainerStatuses[0].ContainerID, p.Status.ContainerStatuses[0].RestartCount}
	}
	for _, p := range after {
		was, ok := lives[string(p.UID)]
		if now := (life{p.Status.ContainerStatuses[0].ContainerID, p.Status.ContainerStatuses[0].RestartCount}); !ok || now != was {
			t.Errorf("pod %s on %s: %+v, was %+v", p.Name, p.Spec.NodeName, now, was)
		}
	}
	if len(before) != len(after) {
		t.Errorf("%d pods, were %d", len(after), len(before))
	}
}
