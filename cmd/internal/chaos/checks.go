package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// settleFor is how long everything may take to be as it must be: a container
// that was lost again and again waits for up to five minutes.
const settleFor = 7 * time.Minute

// slow is how long it may take before it is said what is waited for.
const slow = 30 * time.Second

// settle waits until everything is as it must be, or says what is not.
func (u *users) settle(ctx context.Context) error {
	said := false
	for begin := time.Now(); ; wait(ctx, 200*time.Millisecond) {
		for _, one := range u.all {
			if one.lost != nil {
				return one.lost // nothing brings it back
			}
		}
		err := u.check(ctx)
		if err == nil || ctx.Err() != nil || time.Since(begin) > settleFor {
			return err
		}
		if time.Since(begin) > slow && !said {
			said = true
			fmt.Printf("    after %s: %s\n", slow, strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	}
}

func (u *users) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	return errors.Join(u.checkDeployments(ctx), u.checkJobs(ctx), u.checkPods(ctx), u.checkProcesses(ctx))
}

func (u *users) checkDeployments(ctx context.Context) error {
	list, err := u.client.AppsV1().Deployments(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	wanted := map[string]int32{}
	for _, one := range u.all {
		maps.Copy(wanted, one.deployments)
	}
	var errs []error
	for i := range list.Items {
		d := &list.Items[i]
		n, ok := wanted[d.Name]
		delete(wanted, d.Name)
		if !ok {
			errs = append(errs, fmt.Errorf("deployment %s was deleted and is there", d.Name))
		} else if s := &d.Status; *d.Spec.Replicas != n || s.Replicas != n || s.AvailableReplicas != n || s.ObservedGeneration != d.Generation {
			errs = append(errs, fmt.Errorf("deployment %s: %d replicas are wanted; spec %d, status %d, available %d", d.Name, n, *d.Spec.Replicas, s.Replicas, s.AvailableReplicas))
		}
	}
	for name := range wanted {
		errs = append(errs, fmt.Errorf("deployment %s was acknowledged and is not there", name))
	}
	return errors.Join(errs...)
}

func (u *users) checkJobs(ctx context.Context) error {
	list, err := u.client.BatchV1().Jobs(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	wanted := map[string]int32{}
	for _, one := range u.all {
		maps.Copy(wanted, one.jobs)
	}
	var errs []error
	for i := range list.Items {
		j := &list.Items[i]
		n, ok := wanted[j.Name]
		delete(wanted, j.Name)
		if !ok {
			errs = append(errs, fmt.Errorf("job %s was deleted and is there", j.Name))
		} else if j.Status.Succeeded != n || !complete(j) {
			errs = append(errs, fmt.Errorf("job %s: %d completions are wanted; %d succeeded, %d active, %d failed", j.Name, n, j.Status.Succeeded, j.Status.Active, j.Status.Failed))
		}
	}
	for name := range wanted {
		errs = append(errs, fmt.Errorf("job %s was acknowledged and is not there", name))
	}
	return errors.Join(errs...)
}

func complete(j *batchv1.Job) bool {
	for _, c := range j.Status.Conditions {
		if c.Type == batchv1.JobComplete && c.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}

// checkPods compares the informer's cache with the store, and looks for pods
// that nobody wants.
func (u *users) checkPods(ctx context.Context) error {
	list, err := u.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var errs []error
	for i, informer := range u.pods {
		if err := sameCache(informer, list.Items); err != nil {
			errs = append(errs, fmt.Errorf("the informer at %s: %w", u.c.cores[i].name, err))
		}
	}
	for i := range list.Items {
		pod := &list.Items[i]
		if pod.DeletionTimestamp != nil {
			errs = append(errs, fmt.Errorf("pod %s on %q does not go", pod.Name, pod.Spec.NodeName))
		}
		if len(pod.OwnerReferences) == 0 {
			errs = append(errs, fmt.Errorf("pod %s is nobody's", pod.Name))
		}
	}
	return errors.Join(errs...)
}

// sameCache compares an informer's cache with the pods in the store.
func sameCache(informer cache.SharedIndexInformer, pods []corev1.Pod) error {
	cached := map[string]string{}
	for _, o := range informer.GetStore().List() {
		if pod, ok := o.(*corev1.Pod); ok {
			cached[pod.Name] = pod.ResourceVersion
		}
	}
	var errs []error
	for i := range pods {
		if pod := &pods[i]; cached[pod.Name] != pod.ResourceVersion {
			errs = append(errs, fmt.Errorf("it has pod %s at %q, the store at %s", pod.Name, cached[pod.Name], pod.ResourceVersion))
		}
	}
	if len(cached) != len(pods) {
		errs = append(errs, fmt.Errorf("it has %d pods, the store %d", len(cached), len(pods)))
	}
	return errors.Join(errs...)
}

// checkProcesses tells whether each process is there once.
func (u *users) checkProcesses(ctx context.Context) error {
	var errs []error
	for _, t := range u.c.targets() {
		found := t.processes()
		if len(found) != 1 {
			errs = append(errs, fmt.Errorf("%d processes are %s", len(found), t.name))
		}
	}
	return errors.Join(errs...)
}

// audit checks, while clients rest, that the history so far is linear, and that
// no process holds more than it needs.
func (u *users) audit(ctx context.Context) error {
	if err := u.history.Check(time.Minute); err != nil {
		return err
	}
	for begin := time.Now(); ; wait(ctx, 200*time.Millisecond) {
		now, err := u.c.usages(ctx)
		if err == nil {
			err = grown(u.idle, now, len(u.pods[0].GetStore().List()))
		}
		if err == nil || ctx.Err() != nil || time.Since(begin) > leakPatience {
			return err
		}
	}
}

// finish is the last check: of what has not been given back once all is deleted.
func (u *users) finish(ctx context.Context) error {
	for _, one := range u.all {
		clear(one.deployments)
		clear(one.jobs)
	}
	background := metav1.DeletePropagationBackground
	err := errors.Join(
		u.client.AppsV1().Deployments(namespace).DeleteCollection(ctx, metav1.DeleteOptions{PropagationPolicy: &background}, metav1.ListOptions{}),
		u.client.BatchV1().Jobs(namespace).DeleteCollection(ctx, metav1.DeleteOptions{PropagationPolicy: &background}, metav1.ListOptions{}),
	)
	if err != nil {
		return err
	}
	if err := u.settle(ctx); err != nil {
		return fmt.Errorf("after all was deleted: %w", err)
	}
	if err := u.audit(ctx); err != nil {
		return fmt.Errorf("after all was deleted: %w", err)
	}
	return nil
}

// leakPatience is how long processes may take to give back what they held.
const leakPatience = time.Minute

// What a process at rest may hold more than at its start: connections that are
// kept, and pools.
const (
	moreDescriptors = 40
	moreGoroutines  = 120
)

// grown tells which processes hold more at rest than they did before the work,
// but for what each of so many pods may need in any of them: a log that is open,
// and who looks after it.
func grown(before, after map[string]usage, pods int) error {
	var errs []error
	for name, now := range after {
		was := before[name]
		if now.descriptors > was.descriptors+moreDescriptors+pods || now.goroutines > was.goroutines+moreGoroutines+pods {
			errs = append(errs, fmt.Errorf("%s holds %d descriptors and %d goroutines, at the start %d and %d", name, now.descriptors, now.goroutines, was.descriptors, was.goroutines))
		}
	}
	return errors.Join(errs...)
}
