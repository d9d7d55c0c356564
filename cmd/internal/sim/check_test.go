package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/weftrun/weft/core"
)

// identities watches that nothing with an identity runs twice.
type identities struct {
	w     *world
	twice map[string]bool // said already
}

func newIdentities(w *world) *identities { return &identities{w: w, twice: map[string]bool{}} }

func (i *identities) run(ctx context.Context) {
	for ctx.Err() == nil {
		where := map[string]string{}
		for _, m := range i.w.machines {
			for uid, name := range m.running() {
				at := m.who.Name + "/" + uid
				if before, ok := where[name]; ok && strings.HasPrefix(name, "pod-") && !i.twice[name] && !i.w.taken.isVouched(name) {
					i.twice[name] = true
					i.w.t.Errorf("seed %d at %s: pod %s runs twice: %s and %s", i.w.seed, time.Now().Format("04:05.000"), name, before, at)
				}
				where[name] = at
			}
		}
		sleep(ctx, 200*time.Millisecond)
	}
}

// informer keeps a cache of objects as clients do: a list, and then a watch.
type informer struct {
	w *world

	mu    sync.Mutex
	cache map[core.Key]string // the resourceVersion
}

// followed is what the informer keeps.
var followed = core.Pods

func (w *world) newInformer() *informer { return &informer{w: w, cache: map[core.Key]string{}} }

func (i *informer) run(ctx context.Context) {
	for ctx.Err() == nil {
		if c := i.w.current(); c != nil {
			i.follow(ctx, c)
		}
		sleep(ctx, 100*time.Millisecond)
	}
}

func (i *informer) follow(ctx context.Context, c *coreRun) {
	asking, cancel := context.WithTimeout(ctx, requestTime)
	snapshot, err := c.client.WaitFor(asking, 0)
	cancel()
	if err != nil {
		return
	}
	watch, err := c.client.Watch(followed, "", snapshot.Revision())
	if err != nil {
		return
	}
	defer watch.Close()
	i.mu.Lock()
	clear(i.cache)
	for key, o := range snapshot.List(followed, "") {
		i.cache[key] = o.GetResourceVersion()
	}
	i.mu.Unlock()
	for ctx.Err() == nil {
		changes, err := watch.Next(ctx)
		if err != nil {
			return
		}
		i.mu.Lock()
		for j := range changes {
			if changes[j].Deleted {
				delete(i.cache, changes[j].Key)
			} else {
				i.cache[changes[j].Key] = changes[j].Object.GetResourceVersion()
			}
		}
		i.mu.Unlock()
	}
}

func (i *informer) compare(snapshot core.Snapshot) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := 0
	for key, o := range snapshot.List(followed, "") {
		n++
		if i.cache[key] != o.GetResourceVersion() {
			return fmt.Errorf("informer: %s is %q, in the store %q", key, i.cache[key], o.GetResourceVersion())
		}
	}
	if n != len(i.cache) {
		return fmt.Errorf("informer: %d objects, in the store %d", len(i.cache), n)
	}
	return nil
}

// settle waits until everything is as it must be, and says what is not.
func (w *world) settle(c *clients, i *informer) {
	var err error
	for begin := time.Now(); time.Since(begin) < settleFor; {
		time.Sleep(5 * time.Second)
		snapshot := w.current().client.Snapshot()
		if err = errors.Join(w.acknowledged(snapshot, c), w.placed(snapshot), i.compare(snapshot)); err == nil {
			break
		}
	}
	if err != nil {
		w.t.Errorf("seed %d: after %s without a fault:\n%v", w.seed, settleFor, err)
	}
	if err := w.history.Check(10 * time.Second); err != nil {
		w.t.Errorf("seed %d: %v", w.seed, err)
	}
}

// acknowledged compares what clients were told with what is.
func (w *world) acknowledged(snapshot core.Snapshot, c *clients) error {
	var errs []error
	all := map[core.Key]bool{}
	for _, one := range c.all {
		for key, n := range one.wanted {
			all[key] = true
			o, ok := snapshot.Get(key)
			if !ok && w.taken.isAway(key) {
				continue
			}
			if !ok {
				errs = append(errs, fmt.Errorf("%s was acknowledged and is not there", key))
				continue
			}
			errs = append(errs, complete(key, o, n))
		}
	}
	for _, resource := range []core.GroupResource{core.Deployments, core.Jobs} {
		for key := range snapshot.List(resource, "") {
			if !all[key] {
				errs = append(errs, fmt.Errorf("%s was deleted and is still there", key))
			}
		}
	}
	return errors.Join(errs...)
}

// complete tells whether an object has what its spec wants.
func complete(key core.Key, o core.Object, n int32) error {
	switch o := o.(type) {
	case *appsv1.Deployment:
		if s := o.Status; *o.Spec.Replicas != n || s.Replicas != n || s.AvailableReplicas != n || s.ObservedGeneration != o.Generation {
			return fmt.Errorf("%s: %d replicas are wanted; spec %d, status %+v", key, n, *o.Spec.Replicas, s)
		}
	case *batchv1.Job:
		done := false
		for _, c := range o.Status.Conditions {
			done = done || (c.Type == batchv1.JobComplete && c.Status == corev1.ConditionTrue)
		}
		if o.Status.Succeeded != n || !done {
			return fmt.Errorf("%s: %d completions are wanted; status %+v", key, n, o.Status)
		}
	case *corev1.Pod:
		if o.Status.Phase != corev1.PodRunning || o.DeletionTimestamp != nil {
			return fmt.Errorf("%s is to run; phase %s on %q, deleted %v", key, o.Status.Phase, o.Spec.NodeName, o.DeletionTimestamp)
		}
	}
	return nil
}

// placed compares the pods that are to run with those that do, on each node.
func (w *world) placed(snapshot core.Snapshot) error {
	var errs []error
	wanted := map[string]string{} // node/UID
	for key, o := range snapshot.List(core.Pods, "") {
		pod, ok := o.(*corev1.Pod)
		if !ok {
			continue
		}
		if pod.DeletionTimestamp != nil {
			errs = append(errs, fmt.Errorf("%s on %q does not go", key, pod.Spec.NodeName))
		} else if pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			wanted[pod.Spec.NodeName+"/"+string(pod.UID)] = key.Name
		}
	}
	for _, m := range w.machines {
		for uid, name := range m.running() {
			at := m.who.Name + "/" + uid
			if wanted[at] == "" {
				errs = append(errs, fmt.Errorf("pod %s runs on %s and is not to", name, at))
			}
			delete(wanted, at)
		}
	}
	for at, name := range wanted {
		errs = append(errs, fmt.Errorf("pod %s does not run on %q", name, at))
	}
	return errors.Join(errs...)
}
