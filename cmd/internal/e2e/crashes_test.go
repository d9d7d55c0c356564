package e2e

import (
	"strings"
	"syscall"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

const neverJob = `apiVersion = "batch/v1"
kind = "Job"
metadata.name = "never"
[spec.template]
metadata.labels.app = "never"
[spec.template.spec]
restartPolicy = "Never"
containers = [{ name = "park", image = "file:src/park/park.wasm" }]
`

// TestKilledParts kills the parts of a running cluster, one after the other.
func TestKilledParts(t *testing.T) {
	t.Parallel()
	data := newData(t, "")
	c := member(t, data, "up")
	c.said("Ctrl-C stops")
	c.apply(park("web", 2, ""))
	c.apply(neverJob)
	c.pods("app=web", ready(2))
	c.pods("app=never", ready(1))

	t.Log("the plugin")
	c.kill9(c.only("weft plugin"))
	c.must("scale", "deployment", "web", "--replicas=3")
	c.pods("app=web", ready(3))

	t.Log("the executor")
	c.kill9(c.only("weft executor"))
	pods := c.pods("app=web", func(pods []corev1.Pod) bool {
		for i := range pods {
			if s := pods[i].Status.ContainerStatuses; len(s) != 1 || s[0].RestartCount == 0 {
				return false
			}
		}
		return ready(3)(pods)
	})
	for _, p := range pods {
		last := p.Status.ContainerStatuses[0].LastTerminationState.Terminated
		if last == nil || last.Reason == "" || last.Message == "" || last.ExitCode == 0 {
			t.Errorf("pod %s does not say why it was restarted: %+v", p.Name, last)
		}
	}
	never := c.pods("app=never", func(pods []corev1.Pod) bool { return len(pods) == 2 })
	for _, p := range never {
		if p.Status.Phase == corev1.PodFailed && !strings.Contains(p.Status.ContainerStatuses[0].State.Terminated.Message, "executor") {
			t.Errorf("pod %s does not say why it failed: %+v", p.Name, p.Status)
		}
	}
	c.await("the job to count its failure", func() bool {
		job, err := get[batchv1.Job](c, "job", "never")
		return err == nil && job.Status.Failed == 1 && job.Status.Active == 1
	})

	t.Log("the node")
	node := c.only("weft node")
	c.kill9(node)
	c.await("another node process", func() bool { p := c.only("weft node"); return p.pid != node.pid })
	c.eventually("condition met", "wait", "--for=condition=Ready", "node/one", "--timeout=5s")
	c.pods("app=web", ready(3))
	c.must("scale", "deployment", "web", "--replicas=4")
	c.pods("app=web", ready(4))

	t.Log("all")
	if err := c.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.gone()
	noneLeft(t, data)
}
