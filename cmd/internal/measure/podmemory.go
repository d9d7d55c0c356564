package main

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// settleTime is how long a cluster is left alone before its memory is read: in
// that time processes give back what a burst has left.
const settleTime = 12 * time.Second

// measurePodMemory says what a small pod takes in each process: of those of a
// Deployment that no scheduler takes, which are in the core and, as children
// that a controller is to know, in the plugin; and of those that run.
func measurePodMemory(ctx context.Context, b *bench) error {
	for i, c := range []struct {
		name, scheduler string
		pods            int
	}{
		{"kept, not placed", "nobody", b.objects},
		{"running", "", b.replicas},
	} {
		// A Deployment of one first: what only the first costs counts for
		// the empty cluster.
		first, park := fmt.Sprint("first-", i), fmt.Sprint("park-", i)
		if err := b.park(ctx, first, c.scheduler, 1); err != nil {
			return err
		}
		if err := pause(ctx, settleTime); err != nil {
			return err
		}
		empty, err := b.writtenBy()
		if err != nil {
			return err
		}
		if err := b.park(ctx, park, c.scheduler, c.pods); err != nil {
			return err
		}
		if err := pause(ctx, settleTime); err != nil {
			return err
		}
		full, err := b.writtenBy()
		if err != nil {
			return err
		}
		b.group = fmt.Sprintf("memory of a pod, %d %s", c.pods, c.name)
		each := func(role string) float64 { return (full[role] - empty[role]) * 1024 / float64(c.pods) }
		for _, role := range []string{"core", "plugin", "node", "executor"} {
			b.add(role, "KB", 0, each(role))
		}
		b.add("core and plugin", "KB", 0, each("core")+each("plugin"))
		if err := b.unpark(ctx, park, first); err != nil {
			return err
		}
	}
	return nil
}

// writtenBy returns how many MB each role's processes alone have written to.
func (b *bench) writtenBy() (map[string]float64, error) {
	processes, err := tree(b.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	out := map[string]float64{}
	for _, p := range processes {
		m, err := readMemory(p.pid)
		if err != nil {
			return nil, err
		}
		out[p.role] += m.private
	}
	return out, nil
}

// park makes a Deployment of park, and waits until all of its pods are there,
// and run unless another scheduler is to take them.
func (b *bench) park(ctx context.Context, name, scheduler string, pods int) error {
	t := template("park.wasm", name, corev1.RestartPolicyAlways)
	t.Spec.SchedulerName = scheduler
	replicas := int32(pods)
	_, err := b.AppsV1().Deployments("default").Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: t.Labels}, Template: t,
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create deployment %s: %w", name, err)
	}
	return b.awaitStatus(ctx, name, func(s *appsv1.DeploymentStatus) bool {
		return s.Replicas == replicas && (scheduler != "" || s.ReadyReplicas == replicas)
	})
}

// unpark deletes Deployments and waits until no pod is left.
func (b *bench) unpark(ctx context.Context, names ...string) error {
	foreground := metav1.DeletePropagationForeground
	for _, name := range names {
		if err := b.AppsV1().Deployments("default").Delete(ctx, name, metav1.DeleteOptions{PropagationPolicy: &foreground}); err != nil {
			return fmt.Errorf("delete deployment %s: %w", name, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		pods, err := b.CoreV1().Pods("default").List(ctx, metav1.ListOptions{Limit: 1})
		if err != nil {
			return fmt.Errorf("list pods: %w", err)
		}
		if len(pods.Items) == 0 {
			return nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("wait until all pods are gone: %w", err)
		}
	}
}

// awaitStatus waits until the status of a Deployment is as it should be.
func (b *bench) awaitStatus(ctx context.Context, name string, as func(*appsv1.DeploymentStatus) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		d, err := b.AppsV1().Deployments("default").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("get deployment %s: %w", name, err)
		}
		if as(&d.Status) {
			return nil
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("wait for deployment %s, which has %d pods of which %d are ready: %w",
				name, d.Status.Replicas, d.Status.ReadyReplicas, err)
		}
	}
}
