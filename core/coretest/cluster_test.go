package coretest_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/memory"
	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/coretest"
	"github.com/weftrun/weft/core/events"
	"github.com/weftrun/weft/core/lifecycle"
	"github.com/weftrun/weft/core/reconcile"
	"github.com/weftrun/weft/core/registry"
	"github.com/weftrun/weft/core/scheduler"
	"github.com/weftrun/weft/core/store"
	"github.com/weftrun/weft/workloads/deployment"
	"github.com/weftrun/weft/workloads/job"
	"github.com/weftrun/weft/workloads/replicaset"
)

type builtin []core.Controller

func (b builtin) Controllers() ([]core.Controller, <-chan struct{}) { return b, nil }

// join starts a whole core over a bus in memory: the real store, registry,
// controllers, scheduler and lifecycle.
func join(t testing.TB) *coretest.Cluster {
	t.Helper()
	return joinWith(t, builtin{replicaset.New(), deployment.New(), job.New()})
}

func joinWith(t testing.TB, controllers builtin) *coretest.Cluster {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	strategies := registry.Builtin()
	durability := map[core.GroupResource]core.Durability{}
	for _, s := range strategies {
		durability[s.Kind.GroupResource()] = s.Kind.Durability
	}
	b := memory.New().Connect(bus.Identity{Role: bus.RoleCore, Name: "core"})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	wal, err := b.OpenLog(t.Context(), "WAL")
	must(err)
	snapshots, err := b.OpenLog(t.Context(), "SNAPSHOTS")
	must(err)
	key, err := store.NewKey(bytes.Repeat([]byte{7}, 32))
	must(err)
	kept, err := store.Open(t.Context(), store.Config{
		Log: wal, Snapshots: snapshots, Key: key, Logger: log,
		Durability: func(r core.GroupResource) core.Durability { return durability[r] },
	})
	must(err)
	client, err := registry.New(registry.Config{Store: kept, Strategies: strategies, Logger: log})
	must(err)
	recorder, err := events.New(events.Config{Client: client, Logger: log})
	must(err)
	reconciler, err := reconcile.New(reconcile.Config{
		Client: client, Logger: log, Events: recorder,
		Source: controllers,
	})
	must(err)
	placer, err := scheduler.New(scheduler.Config{Client: client, Logger: log, Events: recorder})
	must(err)
	ender, err := lifecycle.New(lifecycle.Config{Client: client, Logger: log, Events: recorder})
	must(err)
	c := coretest.New(t, coretest.Config{
		Client: client,
		Last: []func(context.Context) error{func(ctx context.Context) error {
			err := kept.Run(ctx)
			_ = b.Close() // the test is over
			return err
		}},
		Run: []func(context.Context) error{recorder.Run, reconciler.Run, placer.Run, ender.Run},
	})
	if _, inBubble := t.(*testing.T); inBubble {
		c.Settle(time.Second)
	} else {
		until(t, func() bool { return c.Get(core.Key{Resource: "namespaces", Name: "kube-node-lease"}) != nil })
	}
	return c
}

func template(script string, policy corev1.RestartPolicy) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}, Annotations: map[string]string{coretest.ScriptAnnotation: script}},
		Spec:       corev1.PodSpec{RestartPolicy: policy, Containers: []corev1.Container{{Name: "c", Image: "x.wasm"}}},
	}
}

func newDeployment(replicas int32) *appsv1.Deployment {
	return &appsv1.Deployment{
		TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
			Template: template("", corev1.RestartPolicyAlways),
		},
	}
}

var (
	webKey = core.Key{Group: "apps", Resource: "deployments", Namespace: "default", Name: "web"}
	jobKey = core.Key{Group: "batch", Resource: "jobs", Namespace: "default", Name: "pi"}
)

func newJob(script string, policy corev1.RestartPolicy, completions, parallelism, backoff int32) *batchv1.Job {
	return &batchv1.Job{
		TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "pi"},
		Spec: batchv1.JobSpec{Completions: &completions, Parallelism: &parallelism, BackoffLimit: &backoff, Template: template(script, policy)},
	}
}

func condition(j *batchv1.Job) (batchv1.JobConditionType, string) {
	for _, c := range j.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return c.Type, c.Reason
		}
	}
	return "", ""
}

func TestJobCompletes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := join(t)
		c.AddNode("a", 8, 8, 100)
		c.Create(newJob("run 10s exit 0", corev1.RestartPolicyNever, 20, 4, 6))
		c.Settle(2 * time.Minute)
		j := c.Get(jobKey).(*batchv1.Job)
		if kind, _ := condition(j); kind != batchv1.JobComplete || j.Status.Succeeded != 20 {
			t.Errorf("status %+v", j.Status)
		}
	})
}

func TestJobFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := join(t)
		c.AddNode("a", 8, 8, 100)
		c.Create(newJob("run 1s exit 7", corev1.RestartPolicyNever, 1, 1, 2))
		c.Settle(10 * time.Minute)
		j := c.Get(jobKey).(*batchv1.Job)
		if kind, reason := condition(j); kind != batchv1.JobFailed || reason != "BackoffLimitExceeded" || j.Status.Failed != 3 {
			t.Errorf("status %+v", j.Status)
		}
	})
}

func TestDeploymentIsKeptScaledRolledAndCollected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := join(t)
		c.AddNode("a", 8, 8, 100)
		c.Create(newDeployment(3))
		c.Settle(5 * time.Second)
		if n := len(c.Pods(coretest.Running)); n != 3 {
			t.Fatalf("%d pods run", n)
		}
		c.Delete(core.KeyFor(core.Pods, c.Pods(nil)[0]), metav1.DeletePropagationBackground)
		c.Mutate(webKey, func(o core.Object) { o.(*appsv1.Deployment).Spec.Replicas = new(int32(5)) })
		c.Settle(5 * time.Second)
		if n := len(c.Pods(coretest.Running)); n != 5 {
			t.Errorf("%d pods run after scaling", n)
		}
		c.Mutate(webKey, func(o core.Object) { o.(*appsv1.Deployment).Spec.Template.Spec.Containers[0].Image = "y.wasm" })
		c.Settle(time.Minute)
		fresh := c.Pods(func(p *corev1.Pod) bool { return coretest.Running(p) && p.Spec.Containers[0].Image == "y.wasm" })
		if len(fresh) != 5 || len(c.Pods(nil)) != 5 {
			t.Errorf("%d new pods of %d", len(fresh), len(c.Pods(nil)))
		}
		c.Delete(webKey, metav1.DeletePropagationForeground)
		c.Settle(10 * time.Second)
		if n := len(c.Pods(nil)); n != 0 || c.Get(webKey) != nil || c.Client.Snapshot().Count(core.ReplicaSets) != 0 {
			t.Errorf("%d pods and %v are left", n, c.Get(webKey))
		}
		if n := c.Client.Snapshot().Count(core.Memories); n != 0 {
			t.Errorf("%d memories are left", n)
		}
	})
}

func TestLostNodeIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := join(t)
		a := c.AddNode("a", 8, 8, 100)
		c.AddNode("b", 8, 8, 100)
		c.Create(newDeployment(6))
		c.Settle(5 * time.Second)
		onA := c.Pods(func(p *corev1.Pod) bool { return p.Spec.NodeName == "a" })
		if len(onA) != 3 {
			t.Fatalf("%d of 6 pods on a", len(onA))
		}
		a.Off()
		c.Settle(6 * time.Minute)
		onB := c.Pods(func(p *corev1.Pod) bool { return p.Spec.NodeName == "b" && coretest.Running(p) })
		if len(onB) != 6 {
			t.Errorf("%d of 6 pods run on b", len(onB))
		}
	})
}

func TestNothingIsWrittenAtRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := join(t)
		c.Create(newDeployment(3))
		c.Settle(2 * time.Minute) // nobody runs them: they wait
		before := c.Client.Snapshot().Revision()
		c.Settle(5 * time.Minute)
		if after := c.Client.Snapshot().Revision(); after != before {
			t.Errorf("%d writes at rest", after-before)
		}
		var told bool
		for _, o := range c.Client.Snapshot().List(core.Events, "") {
			e := o.(*corev1.Event)
			told = told || (e.Reason == "FailedScheduling" && strings.Contains(e.Message, "no nodes available") && e.Source.Component == "default-scheduler")
		}
		if !told {
			t.Error("no event tells why the pods wait")
		}
	})
}

func TestDeletedNamespaceTakesItsWorkloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := join(t)
		c.AddNode("a", 8, 8, 100)
		c.Create(&corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: "shop"}})
		d := newDeployment(4)
		d.Namespace = "shop"
		c.Create(d)
		c.Settle(5 * time.Second)
		key := core.Key{Resource: "namespaces", Name: "shop"}
		c.Delete(key, metav1.DeletePropagationBackground)
		c.Settle(30 * time.Second)
		if c.Get(key) != nil || len(c.Pods(nil)) != 0 {
			t.Errorf("left: %v and %d pods", c.Get(key), len(c.Pods(nil)))
		}
	})
}

// held is a controller that writes all of its parent that one may in each
// decision.
type held struct{}

func (held) Describe() core.Description {
	return core.Description{
		Name: "held", Kind: schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "ReplicaSet"}, Resource: core.ReplicaSets,
	}
}
func (held) Relate(core.Object) []core.Relation { return nil }

func (held) Decide(_ context.Context, seen core.Observation) (core.Decision, error) {
	rs := core.Copy(seen.Parent.(*appsv1.ReplicaSet))
	rs.Status.ObservedGeneration = rs.Generation
	rs.Status.Replicas = 7
	d := core.Decision{Status: rs, Memory: []byte("m"), Annotations: map[string]string{"held/seen": fmt.Sprint(rs.Generation)}, Finalizers: []string{"held/here"}}
	if seen.Finalizing {
		d.Finalizers, d.Memory = []string{}, []byte{}
	}
	return d, nil
}

// TestDecisionIsOneRecord: annotations, finalizers, status and memory of a
// decision are seen together or not at all, over the real store and registry.
func TestDecisionIsOneRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := joinWith(t, builtin{held{}})
		d := newDeployment(7)
		rs := &appsv1.ReplicaSet{
			TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "ReplicaSet"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
			Spec: appsv1.ReplicaSetSpec{Replicas: d.Spec.Replicas, Selector: d.Spec.Selector, Template: d.Spec.Template},
		}
		watch, err := c.Client.Watch(core.ReplicaSets, "default", c.Client.Snapshot().Revision())
		if err != nil {
			t.Fatal(err)
		}
		defer watch.Close()
		key := core.KeyFor(core.ReplicaSets, c.Create(rs))
		c.Settle(time.Second)
		c.Mutate(key, func(o core.Object) { o.(*appsv1.ReplicaSet).Spec.Replicas = new(int32(3)) })
		c.Settle(time.Second)
		c.Delete(key, metav1.DeletePropagationBackground)
		c.Settle(time.Second)
		if o := c.Get(key); o != nil {
			t.Errorf("it is left with %v", o.GetFinalizers())
		}
		if n := c.Client.Snapshot().Count(core.Memories); n != 0 {
			t.Errorf("%d memories are left", n)
		}
		changes, err := watch.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, change := range changes {
			o := change.Object.(*appsv1.ReplicaSet)
			seen := o.Annotations["held/seen"]
			if (seen == "") != (o.Status.ObservedGeneration == 0) || (seen != "" && seen != fmt.Sprint(o.Status.ObservedGeneration)) {
				t.Errorf("revision %d: annotation %q with status of generation %d", change.Revision, seen, o.Status.ObservedGeneration)
			}
		}
		// Created, decided, scaled, decided, deleted, let go.
		if n := len(changes); n != 6 {
			t.Errorf("%d changes, want 6", n)
		}
	})
}
