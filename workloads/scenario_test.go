package workloads_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/reconcile"
	"github.com/weftrun/weft/core/registry"
	"github.com/weftrun/weft/core/registry/registrytest"
	"github.com/weftrun/weft/workloads/deployment"
	"github.com/weftrun/weft/workloads/job"
	"github.com/weftrun/weft/workloads/replicaset"
	"github.com/weftrun/weft/workloads/workloadstest"
)

// sources serves the controllers under test.
type sources []core.Controller

func (s sources) Controllers() ([]core.Controller, <-chan struct{}) { return s, nil }

// cluster is the real write path and reconciler over a store in memory. Its
// only node is the test: exit tells how a container of an image ends, and who
// is not named runs for ever.
type cluster struct {
	t      *testing.T
	client core.Client
	exit   map[string]int32
}

// inCluster runs a test in a bubble.
func inCluster(t *testing.T, test func(*cluster)) {
	synctest.Test(t, func(t *testing.T) {
		client, err := registry.New(registry.Config{Store: registrytest.NewStore(), Strategies: registry.Builtin()})
		if err != nil {
			t.Fatal(err)
		}
		r, err := reconcile.New(reconcile.Config{
			Client: client, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
			Source: sources{replicaset.New(), deployment.New(), job.New()},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		c := &cluster{t: t, client: client, exit: make(map[string]int32)}
		c.create(&corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: "default"}})
		test(c)
	})
}

func (c *cluster) create(o core.Object) core.Key {
	c.t.Helper()
	kind, ok := c.client.KindNamed(o.GetObjectKind().GroupVersionKind().GroupKind())
	if !ok {
		c.t.Fatalf("no kind %s", o.GetObjectKind().GroupVersionKind())
	}
	if kind.Namespaced {
		o.SetNamespace("default")
	}
	kept, err := c.client.Create(c.t.Context(), o, core.WriteOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return core.KeyFor(kind.GroupResource(), kept)
}

func get[T core.Object](c *cluster, key core.Key) (object T) {
	found, _ := c.client.Snapshot().Get(key)
	object, _ = found.(T)
	return object
}

func (c *cluster) mutate(key core.Key, subresource string, change func(core.Object)) {
	c.t.Helper()
	_, err := c.client.Mutate(c.t.Context(), key, func(o core.Object) error { change(o); return nil }, core.WriteOptions{Subresource: subresource})
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) delete(key core.Key) {
	c.t.Helper()
	if _, _, err := c.client.Delete(c.t.Context(), key, core.DeleteOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) pods() (list []*corev1.Pod) {
	for _, o := range c.client.Snapshot().List(core.Pods, "") {
		list = append(list, o.(*corev1.Pod))
	}
	return list
}

// run lets nodes and controllers work for some time, a second a step.
func (c *cluster) run(d time.Duration) {
	c.t.Helper()
	for range d / time.Second {
		time.Sleep(time.Second)
		synctest.Wait()
		for _, pod := range c.pods() {
			c.runPod(pod)
		}
	}
	synctest.Wait()
}

func (c *cluster) runPod(pod *corev1.Pod) {
	key := core.KeyFor(core.Pods, pod)
	code, ends := c.exit[pod.Spec.Containers[0].Image]
	now := metav1.Now()
	switch {
	case pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded:
	case pod.Status.Phase == corev1.PodRunning && !ends:
	case pod.Status.Phase == corev1.PodRunning:
		c.mutate(key, "status", func(o core.Object) {
			s := &o.(*corev1.Pod).Status
			s.Phase = corev1.PodSucceeded
			if code != 0 {
				s.Phase = corev1.PodFailed
			}
			s.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: now}}
			s.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{
				Terminated: &corev1.ContainerStateTerminated{ExitCode: code, FinishedAt: now},
			}}}
		})
	default:
		c.mutate(key, "status", func(o core.Object) {
			s := &o.(*corev1.Pod).Status
			s.Phase = corev1.PodRunning
			s.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: now}}
		})
	}
}

func newJob(name string, completions, parallelism int32) *batchv1.Job {
	template := workloadstest.Template(name)
	template.Spec.RestartPolicy = corev1.RestartPolicyNever
	return &batchv1.Job{
		TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       batchv1.JobSpec{Completions: &completions, Parallelism: &parallelism, Template: template},
	}
}

func newDeployment(replicas int32) *appsv1.Deployment {
	return &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Template: workloadstest.Template("web:1"),
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
		},
	}
}

func jobCondition(j *batchv1.Job, kind batchv1.JobConditionType) bool {
	return slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool {
		return c.Type == kind && c.Status == corev1.ConditionTrue
	})
}

func TestJobInCluster(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.exit["pi"] = 0
		key := c.create(newJob("pi", 30, 7))
		c.run(20 * time.Second)
		j := get[*batchv1.Job](c, key)
		if j.Status.Succeeded != 30 || j.Status.Failed != 0 || !jobCondition(j, batchv1.JobComplete) || len(j.Finalizers) > 0 {
			t.Errorf("job %v, finalizers %v", j.Status, j.Finalizers)
		}
		for _, pod := range c.pods() {
			if len(pod.Finalizers) > 0 {
				t.Errorf("pod %s has finalizers %v", pod.Name, pod.Finalizers)
			}
		}
		if n := len(c.pods()); n != 30 {
			t.Errorf("%d pods", n)
		}
	})
}

func TestFailingJobInCluster(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.exit["bad"] = 3
		j := newJob("bad", 1, 1)
		limit := int32(2)
		j.Spec.BackoffLimit = &limit
		key := c.create(j)
		c.run(2 * time.Minute)
		j = get[*batchv1.Job](c, key)
		if j.Status.Failed != 3 || !jobCondition(j, batchv1.JobFailed) || len(c.pods()) != 3 {
			t.Errorf("job %v, %d pods", j.Status, len(c.pods()))
		}
	})
}

func TestDeletedJobInCluster(t *testing.T) {
	inCluster(t, func(c *cluster) {
		key := c.create(newJob("long", 9, 3))
		c.run(3 * time.Second)
		c.delete(key)
		c.run(3 * time.Second)
		if get[*batchv1.Job](c, key) != nil {
			t.Error("the job is still there")
		}
		for _, pod := range c.pods() {
			if len(pod.Finalizers) > 0 {
				t.Errorf("pod %s is stuck with %v", pod.Name, pod.Finalizers)
			}
		}
	})
}

func TestDeploymentInCluster(t *testing.T) {
	inCluster(t, func(c *cluster) {
		key := c.create(newDeployment(3))
		c.run(10 * time.Second)
		want := func(when string, images ...string) {
			t.Helper()
			var got []string
			for _, pod := range c.pods() {
				if pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodRunning {
					got = append(got, pod.Spec.Containers[0].Image)
				}
			}
			slices.Sort(got)
			d := get[*appsv1.Deployment](c, key)
			if !slices.Equal(got, images) || int(d.Status.AvailableReplicas) != len(images) || d.Status.ObservedGeneration != d.Generation {
				t.Errorf("%s: running %v, want %v; generation %d, status %+v", when, got, images, d.Generation, d.Status)
			}
		}
		want("created", "web:1", "web:1", "web:1")
		c.delete(core.KeyFor(core.Pods, c.pods()[0]))
		c.run(5 * time.Second)
		want("after a pod was deleted", "web:1", "web:1", "web:1")
		c.mutate(key, "", func(o core.Object) { o.(*appsv1.Deployment).Spec.Template.Spec.Containers[0].Image = "web:2" })
		c.run(20 * time.Second)
		want("rolled out", "web:2", "web:2", "web:2")
		c.mutate(key, "", func(o core.Object) { o.(*appsv1.Deployment).Spec.Replicas = new(int32(5)) })
		c.run(10 * time.Second)
		want("scaled", "web:2", "web:2", "web:2", "web:2", "web:2")
		c.mutate(key, "", func(o core.Object) { o.(*appsv1.Deployment).Spec.Template.Spec.Containers[0].Image = "web:1" })
		c.run(20 * time.Second)
		want("rolled back", "web:1", "web:1", "web:1", "web:1", "web:1")
		if got := get[*appsv1.Deployment](c, key).Annotations["deployment.kubernetes.io/revision"]; got != "3" {
			t.Errorf("revision %q, want 3", got)
		}
	})
}
