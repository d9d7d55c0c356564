package main

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

func template(module, app string, restart corev1.RestartPolicy) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}},
		Spec: corev1.PodSpec{
			RestartPolicy: restart,
			Containers:    []corev1.Container{{Name: "main", Image: "file:" + module}},
		},
	}
}

// events hands each event about a pod to see, until it says that all is done.
func events(ctx context.Context, w watch.Interface, see func(watch.EventType, *corev1.Pod) (done bool)) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case event, ok := <-w.ResultChan():
			if !ok {
				return fmt.Errorf("watch pods: it ended")
			}
			if event.Type == watch.Error {
				return fmt.Errorf("watch pods: %v", event.Object)
			}
			if pod, ok := event.Object.(*corev1.Pod); ok && see(event.Type, pod) {
				return nil
			}
		case <-timer.C:
			return fmt.Errorf("watch pods: not what was waited for within %s", patience)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// steps are the times since its request was sent at which a pod was seen on
// its way.
type steps struct{ answered, added, bound, running time.Duration }

// measurePods starts pods one after the other.
func measurePods(ctx context.Context, b *bench) error {
	b.group = fmt.Sprintf("one warm pod, %d one after the other", b.pods)
	w, err := b.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("watch pods: %w", err)
	}
	defer w.Stop()
	if _, err := b.startPod(ctx, w, "warm-up"); err != nil { // compiles the module
		return err
	}
	var seen []steps
	_, err = b.costs("CPU", func() error {
		for i := range b.pods {
			s, err := b.startPod(ctx, w, fmt.Sprintf("warm-%d", i))
			if err != nil {
				return err
			}
			seen = append(seen, s)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, step := range []struct {
		name    string
		ceiling float64
		of      func(steps) time.Duration
	}{
		{"create answered", 0, func(s steps) time.Duration { return s.answered }},
		{"seen added", 0, func(s steps) time.Duration { return s.added }},
		{"seen bound to its node", 0, func(s steps) time.Duration { return s.bound }},
		{"seen Running", 20, func(s steps) time.Duration { return s.running }},
	} {
		var values []float64
		for _, s := range seen {
			values = append(values, milliseconds(step.of(s)))
		}
		b.add(step.name+", p50", "ms", step.ceiling, quantile(values, 0.5))
		b.add(step.name+", p99", "ms", 0, quantile(values, 0.99))
	}
	return nil
}

func (c *cluster) startPod(ctx context.Context, w watch.Interface, name string) (steps, error) {
	t := template("park.wasm", name, corev1.RestartPolicyAlways)
	begin := time.Now()
	_, err := c.CoreV1().Pods("default").Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: t.Labels}, Spec: t.Spec,
	}, metav1.CreateOptions{})
	if err != nil {
		return steps{}, fmt.Errorf("create pod %s: %w", name, err)
	}
	s := steps{answered: time.Since(begin)}
	first := func(at *time.Duration, is bool) {
		if is && *at == 0 {
			*at = time.Since(begin)
		}
	}
	err = events(ctx, w, func(_ watch.EventType, pod *corev1.Pod) bool {
		if pod.Name != name {
			return false
		}
		first(&s.added, true)
		first(&s.bound, pod.Spec.NodeName != "")
		first(&s.running, pod.Status.Phase == corev1.PodRunning)
		return s.running > 0
	})
	return s, err
}

// measureReplicas applies a Deployment, waits until all run, and deletes it.
func measureReplicas(ctx context.Context, b *bench) error {
	b.group = fmt.Sprintf("%d replicas", b.replicas)
	replicas := int32(b.replicas)
	t := template("park.wasm", "park", corev1.RestartPolicyAlways)
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "park"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: t.Labels}, Template: t,
		},
	}
	w, err := b.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("watch pods: %w", err)
	}
	defer w.Stop()
	took, err := b.costs("CPU until all run", func() error {
		if _, err := b.AppsV1().Deployments("default").Create(ctx, deployment, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create deployment: %w", err)
		}
		running := map[string]bool{}
		return events(ctx, w, func(_ watch.EventType, pod *corev1.Pod) bool {
			if pod.Status.Phase == corev1.PodRunning {
				running[pod.Name] = true
			}
			return len(running) == b.replicas
		})
	})
	if err != nil {
		return err
	}
	b.add("apply to all seen Running", "s", 3, took.Seconds())
	if err := b.awaitDeployment(ctx, replicas); err != nil {
		return err
	}
	if err := pause(ctx, 10*time.Second); err != nil {
		return err
	}
	group := b.group
	b.group = fmt.Sprintf("memory, %d replicas for 10 s", b.replicas)
	if err := b.memory(0); err != nil {
		return err
	}
	b.group = group
	if err := b.deleteReplicas(ctx, w); err != nil {
		return err
	}
	if err := pause(ctx, 10*time.Second); err != nil {
		return err
	}
	b.group = fmt.Sprintf("memory, 10 s after %d replicas are gone", b.replicas)
	return b.memory(0)
}

func (b *bench) awaitDeployment(ctx context.Context, replicas int32) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		d, err := b.AppsV1().Deployments("default").Get(ctx, "park", metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("get deployment: %w", err)
		}
		if d.Status.ReadyReplicas == replicas {
			return nil
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("wait for the deployment, %d of %d are ready: %w", d.Status.ReadyReplicas, replicas, err)
		}
	}
}

func (b *bench) deleteReplicas(ctx context.Context, w watch.Interface) error {
	took, err := b.costs("CPU until all are gone", func() error {
		background := metav1.DeletePropagationBackground
		err := b.AppsV1().Deployments("default").Delete(ctx, "park", metav1.DeleteOptions{PropagationPolicy: &background})
		if err != nil {
			return fmt.Errorf("delete deployment: %w", err)
		}
		gone := 0
		return events(ctx, w, func(kind watch.EventType, _ *corev1.Pod) bool {
			if kind == watch.Deleted {
				gone++
			}
			return gone == b.replicas
		})
	})
	b.add("delete to all gone", "s", 0, took.Seconds())
	return err
}

// measureJob runs a Job of tasks that end at once.
func measureJob(ctx context.Context, b *bench) error {
	b.group = fmt.Sprintf("job of %d completions, %d at a time", b.completions, max(b.completions/10, 1))
	completions := int32(b.completions)
	parallelism := max(completions/10, 1)
	run := func(name string, completions int32) (time.Duration, error) {
		job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: batchv1.JobSpec{
			Completions: &completions, Parallelism: &parallelism, Template: template("done.wasm", name, corev1.RestartPolicyNever),
		}}
		begin := time.Now()
		if _, err := b.BatchV1().Jobs("default").Create(ctx, job, metav1.CreateOptions{}); err != nil {
			return 0, fmt.Errorf("create job: %w", err)
		}
		return b.awaitJob(ctx, name, begin)
	}
	if _, err := run("warm-up", 1); err != nil { // compiles the module
		return err
	}
	var took time.Duration
	_, err := b.costs("CPU", func() error {
		var err error
		took, err = run("done", completions)
		return err
	})
	b.add("apply to complete", "s", 4, took.Seconds())
	return err
}

func (b *bench) awaitJob(ctx context.Context, name string, begin time.Time) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	w, err := b.BatchV1().Jobs("default").Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		return 0, fmt.Errorf("watch job %s: %w", name, err)
	}
	defer w.Stop()
	succeeded := int32(0)
	for event := range w.ResultChan() {
		job, ok := event.Object.(*batchv1.Job)
		if !ok {
			continue
		}
		succeeded = job.Status.Succeeded
		for _, c := range job.Status.Conditions {
			if c.Type == batchv1.JobComplete && c.Status == corev1.ConditionTrue {
				return time.Since(begin), nil
			}
			if c.Type == batchv1.JobFailed && c.Status == corev1.ConditionTrue {
				return 0, fmt.Errorf("job %s: %s: %s", name, c.Reason, c.Message)
			}
		}
	}
	return 0, fmt.Errorf("wait for job %s, %d have succeeded: %w", name, succeeded, context.Cause(ctx))
}
