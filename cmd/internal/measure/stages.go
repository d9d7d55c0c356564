package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// Histograms that tell what cannot be seen from outside.
const (
	writesName  = "etcd_request_duration_seconds"
	syncsName   = "etcd_disk_wal_fsync_duration_seconds"
	decideName  = "weft_controller_decide_duration_seconds"
	attemptName = "scheduler_scheduling_attempt_duration_seconds"
	workerName  = "kubelet_pod_worker_start_duration_seconds"
	startName   = "kubelet_runtime_operations_duration_seconds"
	podName     = "kubelet_pod_start_duration_seconds"
)

// lookEvery is how often the node is asked how many pods have come so far.
const lookEvery = 5 * time.Millisecond

// measureStages splits the time of 1,000 replicas and of the Job of as many
// completions by the stages of their pods.
func measureStages(ctx context.Context, b *bench) error {
	if err := b.warmStages(ctx); err != nil {
		return err
	}
	replicas := int32(b.replicas)
	t := template("park.wasm", "park", corev1.RestartPolicyAlways)
	err := b.stages(ctx, fmt.Sprintf("stages, %d replicas", b.replicas), b.replicas, 3000,
		func(pod *corev1.Pod) bool { return pod.Status.Phase == corev1.PodRunning },
		func() error {
			_, err := b.AppsV1().Deployments("default").Create(ctx, &appsv1.Deployment{
				ObjectMeta: metav1.ObjectMeta{Name: "park"},
				Spec: appsv1.DeploymentSpec{
					Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: t.Labels}, Template: t,
				},
			}, metav1.CreateOptions{})
			return err
		})
	if err != nil {
		return err
	}
	if err := b.clear(ctx, b.replicas); err != nil {
		return err
	}
	completions, parallelism := int32(b.completions), int32(max(b.completions/10, 1))
	return b.stages(ctx, fmt.Sprintf("stages, job of %d completions, %d at a time", completions, parallelism), b.completions, 4000,
		func(pod *corev1.Pod) bool { return pod.Status.Phase == corev1.PodSucceeded },
		func() error {
			_, err := b.BatchV1().Jobs("default").Create(ctx, &batchv1.Job{
				ObjectMeta: metav1.ObjectMeta{Name: "done"},
				Spec: batchv1.JobSpec{
					Completions: &completions, Parallelism: &parallelism, Template: template("done.wasm", "done", corev1.RestartPolicyNever),
				},
			}, metav1.CreateOptions{})
			return err
		})
}

// warmStages has both modules compiled, and returns when nothing is left of
// that.
func (b *bench) warmStages(ctx context.Context) error {
	w, err := b.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("watch pods: %w", err)
	}
	defer w.Stop()
	for _, module := range []string{"park.wasm", "done.wasm"} {
		t := template(module, "warm-up", corev1.RestartPolicyNever)
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "warm-up"}, Spec: t.Spec}
		if _, err := b.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create pod: %w", err)
		}
		if err := events(ctx, w, func(_ watch.EventType, pod *corev1.Pod) bool {
			return pod.Status.Phase != corev1.PodPending
		}); err != nil {
			return err
		}
		now := int64(0)
		if err := b.CoreV1().Pods("default").Delete(ctx, "warm-up", metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
			return fmt.Errorf("delete pod: %w", err)
		}
		if err := events(ctx, w, func(kind watch.EventType, _ *corev1.Pod) bool { return kind == watch.Deleted }); err != nil {
			return err
		}
	}
	return nil
}

// clear deletes the Deployment and waits until its pods are gone.
func (b *bench) clear(ctx context.Context, pods int) error {
	w, err := b.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{LabelSelector: "app=park"})
	if err != nil {
		return fmt.Errorf("watch pods: %w", err)
	}
	defer w.Stop()
	background := metav1.DeletePropagationBackground
	if err := b.AppsV1().Deployments("default").Delete(ctx, "park", metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
		return fmt.Errorf("delete deployment: %w", err)
	}
	gone := 0
	return events(ctx, w, func(kind watch.EventType, _ *corev1.Pod) bool {
		if kind == watch.Deleted {
			gone++
		}
		return gone == pods
	})
}

// passing is when a pod was seen to have passed a stage, since the request was
// sent; zero: not yet.
type passing struct{ added, bound, over time.Duration }

// stages makes pods by apply, follows them until all are over, and adds how
// long each stage took.
func (b *bench) stages(ctx context.Context, group string, pods int, ceiling float64, over func(*corev1.Pod) bool, apply func() error) error {
	b.group = group
	sockets, err := filepath.Glob(filepath.Join(b.data, "debug", "node-*.sock"))
	if err != nil || len(sockets) != 1 {
		return fmt.Errorf("find the node's socket in %s: %q: %w", b.data, sockets, errors.Join(err, os.ErrNotExist))
	}
	core, node := newAsker(filepath.Join(b.data, "debug", "core.sock")), newAsker(sockets[0])
	defer core.close()
	defer node.close()
	w, err := b.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("watch pods: %w", err)
	}
	defer w.Stop()
	var before, after processCounts
	if before, err = countsOf(ctx, core, node); err != nil {
		return err
	}
	var answered time.Duration
	seen := map[string]*passing{}
	var onNode *nodeCurves
	_, err = b.costs("CPU", func() error {
		begin := time.Now()
		onNode = follow(ctx, node, begin)
		defer onNode.stop()
		if err := apply(); err != nil {
			return fmt.Errorf("apply: %w", err)
		}
		answered = time.Since(begin)
		return events(ctx, w, passes(begin, pods, seen, over))
	})
	if err != nil {
		return err
	}
	if after, err = countsOf(ctx, core, node); err != nil {
		return err
	}
	if onNode.err != nil {
		return onNode.err
	}
	b.add("commit: apply answered", "ms", 0, milliseconds(answered))
	b.addPassings(seen, onNode, ceiling)
	return b.addInside(before, after)
}

// passes notes when each pod passes what a watch shows, and is done when all
// are over.
func passes(begin time.Time, pods int, seen map[string]*passing, over func(*corev1.Pod) bool) func(watch.EventType, *corev1.Pod) bool {
	left := pods
	return func(kind watch.EventType, pod *corev1.Pod) bool {
		if kind == watch.Deleted {
			return false
		}
		now := time.Since(begin)
		p := seen[pod.Name]
		if p == nil {
			p = &passing{added: now}
			seen[pod.Name] = p
		}
		if p.bound == 0 && pod.Spec.NodeName != "" {
			p.bound = now
		}
		if p.over == 0 && over(pod) {
			p.over = now
			left--
		}
		return left == 0
	}
}

// addPassings adds when the pods passed each stage, and how long they were in
// it. Of what only counts tell, the n-th to come in is taken for the n-th to go
// out.
func (b *bench) addPassings(seen map[string]*passing, onNode *nodeCurves, ceiling float64) {
	var added, bound, over, placing []float64
	for _, p := range seen {
		added = append(added, milliseconds(p.added))
		bound = append(bound, milliseconds(p.bound))
		over = append(over, milliseconds(p.over))
		placing = append(placing, milliseconds(p.bound-p.added))
	}
	for _, list := range [][]float64{added, bound, over} {
		slices.Sort(list)
	}
	for _, stage := range []struct {
		name    string
		ceiling float64
		passed  []float64
		inside  []float64
	}{
		{"decide (pod is there)", 0, added, nil},
		{"place (pod is bound)", 0, bound, placing},
		{"publish (node has it)", 0, onNode.received, between(bound, onNode.received)},
		{"start (container runs)", 0, onNode.started, between(onNode.received, onNode.started)},
		{"observe (watch shows it)", ceiling, over, between(onNode.started, over)},
	} {
		for _, q := range []struct {
			name    string
			of      float64
			ceiling float64
		}{{"first", 0, 0}, {"median", 0.5, 0}, {"last", 1, stage.ceiling}} {
			b.add(stage.name+", "+q.name+" pod", "ms", q.ceiling, quantile(stage.passed, q.of))
		}
		if stage.inside != nil {
			b.add(stage.name+", took p50", "ms", 0, quantile(stage.inside, 0.5))
			b.add(stage.name+", took p99", "ms", 0, quantile(stage.inside, 0.99))
		}
	}
}

// between returns the differences of two sorted lists, none below zero: a watch
// may tell later than the node.
func between(in, out []float64) []float64 {
	differences := make([]float64, min(len(in), len(out)))
	for i := range differences {
		differences[i] = max(out[i]-in[i], 0)
	}
	return differences
}

// processCounts is what a core and a node count, as text.
type processCounts struct{ core, node string }

func countsOf(ctx context.Context, core, node *asker) (c processCounts, err error) {
	if c.core, err = core.metrics(ctx); err != nil {
		return c, err
	}
	c.node, err = node.metrics(ctx)
	return c, err
}

// addInside adds what the processes themselves have counted.
func (b *bench) addInside(before, after processCounts) error {
	for _, h := range []struct {
		what, name string
		node       bool
		labels     []string
		count      bool
	}{
		{"commit: a pod's write waits", writesName, false, []string{`type="pods"`}, true},
		{"commit: a record is synced", syncsName, false, nil, true},
		{"decide: a decision", decideName, false, nil, true},
		{"place: an attempt", attemptName, false, nil, false},
		{"start: a keeper begins", workerName, true, nil, false},
		{"start: executor starts it", startName, true, []string{`"start_container"`}, false},
		{"start: known to reported", podName, true, nil, false},
	} {
		texts := [2]string{before.core, after.core}
		if h.node {
			texts = [2]string{before.node, after.node}
		}
		var states [2]buckets
		for i, text := range texts {
			var err error
			if states[i], err = parseHistogram(strings.NewReader(text), h.name, h.labels...); err != nil {
				return err
			}
		}
		now := states[1].since(states[0])
		if now.count() == 0 {
			return fmt.Errorf("%s counts nothing", h.name)
		}
		if h.count {
			b.add(h.what+", how many", "", 0, now.count())
		}
		b.add(h.what+", p50", "ms", 0, 1000*now.quantile(0.5))
		b.add(h.what+", p99", "ms", 0, 1000*now.quantile(0.99))
	}
	return nil
}

// nodeCurves are when pods came to a node, and when their containers had been
// started, since the beginning; in milliseconds, sorted.
type nodeCurves struct {
	received, started []float64
	err               error

	cancel context.CancelFunc
	done   sync.WaitGroup
}

// follow asks a node again and again how far it is, until stop is called.
func follow(ctx context.Context, node *asker, begin time.Time) *nodeCurves {
	c := &nodeCurves{}
	ctx, c.cancel = context.WithCancel(ctx)
	c.done.Go(func() {
		var first [2]float64
		for look, last := 0, false; !last; look++ {
			last = look > 0 && pause(ctx, lookEvery) != nil // once more after the end
			asked := milliseconds(time.Since(begin))
			counts, err := progress(context.WithoutCancel(ctx), node)
			if err != nil {
				c.err = err
				return
			}
			if look == 0 {
				first = counts
			}
			c.received = extend(c.received, counts[0]-first[0], asked)
			c.started = extend(c.started, counts[1]-first[1], asked)
		}
	})
	return c
}

func (c *nodeCurves) stop() {
	c.cancel()
	c.done.Wait()
}

// progress returns how many pods a node has begun to look after, and how many
// containers its executor was asked to start.
func progress(ctx context.Context, node *asker) (counts [2]float64, err error) {
	text, err := node.metrics(ctx)
	if err != nil {
		return counts, err
	}
	for i, name := range []string{workerName, startName} {
		b, err := parseHistogram(strings.NewReader(text), name)
		if err != nil {
			return counts, err
		}
		counts[i] = b.count()
	}
	return counts, nil
}

// extend adds the time to a list until it has as many entries as counted.
func extend(list []float64, counted, at float64) []float64 {
	for float64(len(list)) < counted {
		list = append(list, at)
	}
	return list
}
