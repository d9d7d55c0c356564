package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// The rollout and the Job that live through their plugin's replacement.
const (
	rollReplicas    = 10
	rollSurge       = 2
	rollUnavailable = 1
	rollReady       = 2 * time.Second // minReadySeconds: a wave of three each
	countWanted     = 30
	countParallel   = 5
)

// rolling is a Deployment that rolls out once more for each other argument.
func rolling(argument string) string {
	return fmt.Sprintf(`apiVersion = "apps/v1"
kind = "Deployment"
metadata.name = "web"
[spec]
replicas = %d
minReadySeconds = %d
strategy.rollingUpdate = { maxSurge = %d, maxUnavailable = %d }
selector.matchLabels.app = "web"
[spec.template]
metadata.labels.app = "web"
[spec.template.spec]
containers = [{ name = "park", image = "file:src/park/park.wasm", args = [%q] }]
`, rollReplicas, int(rollReady.Seconds()), rollSurge, rollUnavailable, argument)
}

// counting is a Job each of whose pods takes as long as the module does.
func counting(module string) string {
	return fmt.Sprintf(`apiVersion = "batch/v1"
kind = "Job"
metadata.name = "count"
[spec]
completions = %d
parallelism = %d
template.metadata.labels.app = "count"
[spec.template.spec]
restartPolicy = "Never"
containers = [{ name = "nap", image = "file://%s" }]
`, countWanted, countParallel, module)
}

// witness follows all pods of a namespace and keeps what it has seen go wrong.
type witness struct {
	client kubernetes.Interface

	mu        sync.Mutex
	pods      map[types.UID]*corev1.Pod
	counted   map[types.UID]bool // pods of the Job there ever were, and whether each succeeded
	wrong     []string
	most      int // pods of the Deployment at once
	available int // of them, the fewest at once
}

// watchPods has a witness look on from now until the test ends.
func (c *cluster) watchPods() *witness {
	t := c.t
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
	w := &witness{client: client, pods: map[types.UID]*corev1.Pod{}, counted: map[types.UID]bool{}, available: rollReplicas}
	list, err := client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range list.Items {
		w.pods[list.Items[i].UID] = &list.Items[i]
	}
	follow, err := client.CoreV1().Pods("default").Watch(t.Context(), metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for event := range follow.ResultChan() {
			w.see(event)
		}
	})
	t.Cleanup(func() {
		follow.Stop()
		group.Wait()
	})
	return w
}

func (w *witness) see(event watch.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	pod, ok := event.Object.(*corev1.Pod)
	if !ok {
		w.wrong = append(w.wrong, fmt.Sprintf("the watch says %s %+v", event.Type, event.Object))
		return
	}
	if event.Type == watch.Deleted {
		delete(w.pods, pod.UID)
	} else {
		w.pods[pod.UID] = pod
	}
	if pod.Labels["app"] == "count" {
		w.counted[pod.UID] = w.counted[pod.UID] || pod.Status.Phase == corev1.PodSucceeded
	}
	there, available, working := w.census(time.Now())
	w.most, w.available = max(w.most, there), min(w.available, available)
	if there > rollReplicas+rollSurge || available < rollReplicas-rollUnavailable || working > countParallel {
		w.wrong = append(w.wrong, fmt.Sprintf("after %s %s: %d pods of the Deployment, %d available; %d of the Job",
			event.Type, pod.Name, there, available, working))
	}
}

// census counts the Deployment's pods that are not going, those of them that
// are available, and the Job's pods that have not ended.
func (w *witness) census(now time.Time) (there, available, working int) {
	for _, pod := range w.pods {
		ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		switch {
		case ended || pod.DeletionTimestamp != nil:
		case pod.Labels["app"] == "count":
			working++
		default:
			there++
			for _, c := range pod.Status.Conditions {
				if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && now.Sub(c.LastTransitionTime.Time) >= rollReady {
					available++
				}
			}
		}
	}
	return there, available, working
}

// succeeded is how many of the Job's pods are known to have succeeded.
func (w *witness) succeeded() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, done := range w.counted {
		if done {
			n++
		}
	}
	return n
}

// stage is how far the rollout and the Job are.
func (w *witness) stage(t *testing.T) (updated, succeeded int32) {
	t.Helper()
	d, err := w.client.AppsV1().Deployments("default").Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	j, err := w.client.BatchV1().Jobs("default").Get(t.Context(), "count", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if d.Status.ObservedGeneration == d.Generation {
		updated = d.Status.UpdatedReplicas
	}
	return updated, j.Status.Succeeded
}

// midway waits until both are further than they were, and checks that neither
// has ended.
func (c *cluster) midway(w *witness, updated, succeeded int32) (nowUpdated, nowSucceeded int32) {
	c.t.Helper()
	c.await("the rollout and the job to go on", func() bool {
		nowUpdated, nowSucceeded = w.stage(c.t)
		return nowUpdated > updated && nowSucceeded > succeeded
	})
	if nowUpdated >= rollReplicas || nowSucceeded >= countWanted {
		c.t.Fatalf("too late: %d pods are updated, %d have succeeded", nowUpdated, nowSucceeded)
	}
	c.t.Logf("%d pods are updated, %d have succeeded", nowUpdated, nowSucceeded)
	return nowUpdated, nowSucceeded
}

// other waits until one process runs the plugin of the folder, and it is not
// that of before.
func (c *cluster) other(before int) (other process) {
	c.t.Helper()
	c.await("another process of the plugin", func() bool {
		now := c.running("plugin --kinds=deployment,job")
		if len(now) != 1 || now[0].pid == before {
			return false
		}
		other = now[0]
		return true
	})
	return other
}

// TestPluginIsReplacedInMidRollout replaces and kills the plugin of Deployments
// and Jobs while one of each is under way.
func TestPluginIsReplacedInMidRollout(t *testing.T) {
	c := startUpIn(t, newData(t, "[plugins]\nbuiltin = [\"replicaset\"]\n"))
	program := func(version int) []byte {
		return fmt.Appendf(nil, "#!/bin/sh\n# version %d\nexec %s plugin --kinds=deployment,job\n", version, weftBinary(t))
	}
	c.drop("workloads", program(1))
	plugin := c.other(0)
	c.apply(rolling("1"))
	c.available("web", rollReplicas)

	w := c.watchPods()
	c.apply(rolling("2"))
	c.apply(counting(filepath.Join(root(t), "wasm/wasmtest/modules/nap.wasm")))
	updated, succeeded := c.midway(w, 0, 0)
	c.drop("workloads", program(10))
	plugin = c.other(plugin.pid)
	// That nothing serves them is untrue, and that the plugin has ended while it
	// was asked is nobody's concern.
	if out := c.out.String(); strings.Contains(out, "no controller serves") || strings.Contains(out, "round failed") {
		t.Error("the replacement was noticed")
	}
	c.midway(w, updated, succeeded)
	c.kill9(plugin)
	c.other(plugin.pid)
	c.rolled(w)
}

// rolled waits for the end of the rollout and of the Job, and checks all that
// the witness has seen.
func (c *cluster) rolled(w *witness) {
	c.t.Helper()
	c.must("rollout", "status", "deployment/web", "--timeout=60s")
	c.must("wait", "--for=condition=Complete", "job/count", "--timeout=60s")
	c.available("web", rollReplicas)
	if updated, succeeded := w.stage(c.t); updated != rollReplicas || succeeded != countWanted {
		c.t.Errorf("%d pods are updated, and %d have succeeded by the Job's status", updated, succeeded)
	}
	c.await("the witness to have seen all", func() bool { return w.succeeded() >= countWanted })
	w.mu.Lock()
	defer w.mu.Unlock()
	c.t.Logf("at most %d pods of the Deployment, at least %d available; %d of the Job", w.most, w.available, len(w.counted))
	if len(w.counted) != countWanted {
		c.t.Errorf("the Job has had %d pods, want %d", len(w.counted), countWanted)
	}
	if len(w.wrong) > 0 {
		c.t.Errorf("the witness has seen:\n%s", strings.Join(w.wrong, "\n"))
	}
}
