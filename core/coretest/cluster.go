// Package coretest is a cluster in memory for scenarios in synctest bubbles:
// the parts that are passed in, run until the test ends, and nodes that only
// pretend to run pods, as the pods' own annotations script it. It must not be
// used outside tests, and imports no part itself: tests join them.
package coretest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
)

// Config holds the parts of a cluster.
type Config struct {
	// Client is where everything is written; required.
	Client core.Client
	// Run are the parts that run until the test ends; they return nil when
	// their context does.
	Run []func(context.Context) error
	// Last are parts that the others need, such as the store: they run before
	// Run, and are stopped when those have ended.
	Last []func(context.Context) error
}

// Cluster is a running cluster. Its methods fail the test when they cannot do
// what they say.
type Cluster struct {
	Client core.Client

	t       testing.TB
	ctx     context.Context //nolint:containedctx // it is the test's: ends with the cluster
	running sync.WaitGroup
	nodes   map[string]*Node
}

// New starts a cluster within the bubble of the test; it stops with it.
func New(t testing.TB, config Config) *Cluster {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	c := &Cluster{Client: config.Client, t: t, ctx: ctx, nodes: map[string]*Node{}}
	base, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var below sync.WaitGroup
	start := func(ctx context.Context, wg *sync.WaitGroup, parts []func(context.Context) error) {
		for _, run := range parts {
			wg.Go(func() {
				if err := run(ctx); err != nil {
					t.Errorf("a part ended: %v", err)
				}
			})
		}
	}
	start(base, &below, config.Last)
	start(ctx, &c.running, config.Run)
	t.Cleanup(func() {
		cancel()
		c.running.Wait()
		stop()
		below.Wait()
	})
	return c
}

// Settle lets time pass.
func (c *Cluster) Settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// Create creates an object; it keeps none of the caller's memory.
func (c *Cluster) Create(o core.Object) core.Object {
	c.t.Helper()
	kept, err := c.Client.Create(c.ctx, core.Copy(o), core.WriteOptions{})
	if err != nil {
		c.t.Fatalf("create %s: %v", o.GetName(), err)
	}
	return kept
}

// Mutate changes an object.
func (c *Cluster) Mutate(key core.Key, change func(core.Object)) core.Object {
	c.t.Helper()
	kept, err := c.Client.Mutate(c.ctx, key, func(o core.Object) error { change(o); return nil }, core.WriteOptions{})
	if err != nil {
		c.t.Fatalf("mutate %s: %v", key, err)
	}
	return kept
}

// Delete begins the deletion of an object.
func (c *Cluster) Delete(key core.Key, policy metav1.DeletionPropagation) {
	c.t.Helper()
	if _, _, err := c.Client.Delete(c.ctx, key, core.DeleteOptions{Propagation: &policy}); err != nil {
		c.t.Fatalf("delete %s: %v", key, err)
	}
}

// Get returns an object, or nil.
func (c *Cluster) Get(key core.Key) core.Object {
	o, ok := c.Client.Snapshot().Get(key)
	if !ok {
		return nil
	}
	return o
}

// Pods returns the pods that are not being deleted and of which want says so.
func (c *Cluster) Pods(want func(*corev1.Pod) bool) (pods []*corev1.Pod) {
	for _, o := range c.Client.Snapshot().List(core.Pods, "") {
		if pod, ok := o.(*corev1.Pod); ok && pod.DeletionTimestamp == nil && (want == nil || want(pod)) {
			pods = append(pods, pod)
		}
	}
	return pods
}

// Running tells that a pod runs and is ready.
func Running(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodRunning && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}
