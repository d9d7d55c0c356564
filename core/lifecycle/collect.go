package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
)

// noticeOwnership makes tasks of what a change means to owners and dependents.
func (l *Lifecycle) noticeOwnership(c *core.Change) {
	if c.Deleted {
		l.enqueueDependents(c.Object.GetUID())
		l.enqueueDeletingOwners(c.Object)
		return
	}
	deleting := c.Object.GetDeletionTimestamp() != nil
	if len(c.Object.GetOwnerReferences()) > 0 && (c.Old == nil || !sameOwners(c.Old, c.Object)) {
		l.queue.add(task{collect, c.Key}, 0)
		if c.Old != nil {
			l.enqueueDeletingOwners(c.Old) // it may block them no longer
		}
	}
	if deleting && (hasFinalizer(c.Object, metav1.FinalizerDeleteDependents) || hasFinalizer(c.Object, metav1.FinalizerOrphanDependents)) {
		l.queue.add(task{collect, c.Key}, 0)
	}
}

func sameOwners(a, b core.Object) bool {
	return slices.EqualFunc(a.GetOwnerReferences(), b.GetOwnerReferences(), func(x, y metav1.OwnerReference) bool {
		return x.UID == y.UID && blocks(&x) == blocks(&y)
	})
}

func blocks(r *metav1.OwnerReference) bool {
	return r.BlockOwnerDeletion != nil && *r.BlockOwnerDeletion
}

func hasFinalizer(o core.Object, name string) bool { return slices.Contains(o.GetFinalizers(), name) }

func (l *Lifecycle) enqueueDependents(uid types.UID) {
	for key := range l.client.Snapshot().Indexed(core.ByOwner, string(uid)) {
		l.queue.add(task{collect, key}, 0)
	}
}

// enqueueDeletingOwners wakes owners that wait for their dependents.
func (l *Lifecycle) enqueueDeletingOwners(o core.Object) {
	owners := o.GetOwnerReferences()
	if len(owners) == 0 {
		return
	}
	snapshot := l.client.Snapshot()
	for i := range owners {
		for key, owner := range snapshot.Indexed(core.ByUID, string(owners[i].UID)) {
			if owner.GetDeletionTimestamp() != nil {
				l.queue.add(task{collect, key}, 0)
			}
		}
	}
}

// collect does with an object what its owners' and its own state ask for.
func (l *Lifecycle) collect(ctx context.Context, key core.Key) error {
	snapshot := l.client.Snapshot()
	object, ok := snapshot.Get(key)
	if !ok {
		return nil
	}
	if abandoned(snapshot, object) {
		if err := l.dropFinalizer(ctx, key, object, batchv1.JobTrackingFinalizer); err != nil {
			return err
		}
		l.queue.add(task{collect, key}, 0) // it may have no owner left
		return nil
	}
	if object.GetDeletionTimestamp() != nil {
		switch {
		case hasFinalizer(object, metav1.FinalizerOrphanDependents):
			return l.orphanDependents(ctx, snapshot, key, object)
		case hasFinalizer(object, metav1.FinalizerDeleteDependents):
			return l.deleteDependents(ctx, snapshot, key, object)
		default:
			return nil
		}
	}
	solid, gone, waiting := l.classify(snapshot, key, object)
	switch {
	case solid > 0 && len(gone)+len(waiting) > 0:
		maps.Copy(gone, waiting)
		return l.dropOwners(ctx, key, object, gone)
	case solid > 0 || len(gone)+len(waiting) == 0:
		return nil
	}
	policy := metav1.DeletePropagationBackground
	switch {
	case len(waiting) > 0 && l.hasDependents(snapshot, object):
		policy = metav1.DeletePropagationForeground
	case hasFinalizer(object, metav1.FinalizerOrphanDependents):
		policy = metav1.DeletePropagationOrphan
	case hasFinalizer(object, metav1.FinalizerDeleteDependents):
		policy = metav1.DeletePropagationForeground
	}
	return l.removeUnowned(ctx, key, object, policy)
}

// abandoned tells whether a pod waits to be counted by a Job that is gone: one
// that was forced away, for otherwise its controller has let its pods go.
func abandoned(snapshot core.Snapshot, object core.Object) bool {
	if !hasFinalizer(object, batchv1.JobTrackingFinalizer) {
		return false
	}
	if _, isPod := object.(*corev1.Pod); !isPod {
		return false
	}
	job := object.GetLabels()[batchv1.ControllerUidLabel]
	if owner := metav1.GetControllerOfNoCopy(object); owner != nil {
		if owner.Kind != "Job" || groupOf(owner.APIVersion) != core.Jobs.Group {
			return false
		}
		job = string(owner.UID)
	}
	if job == "" {
		return false
	}
	for range snapshot.Indexed(core.ByUID, job) {
		return false
	}
	return true
}

// removeUnowned deletes an object in the very state in which it had no owner:
// one may have adopted it since.
func (l *Lifecycle) removeUnowned(ctx context.Context, key core.Key, object core.Object, policy metav1.DeletionPropagation) error {
	uid, revision := object.GetUID(), object.GetResourceVersion()
	_, _, err := l.client.Delete(ctx, key, core.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &revision}, Propagation: &policy,
	})
	if err != nil {
		return fmt.Errorf("collect %s: %w", key, err)
	}
	return nil
}

// classify sorts an object's owners: solid ones exist, gone ones do not, and
// waiting ones are being deleted and wait for their dependents. An owner of a
// kind that is not served may exist: it counts as solid.
func (l *Lifecycle) classify(snapshot core.Snapshot, key core.Key, object core.Object) (solid int, gone, waiting map[types.UID]struct{}) {
	gone, waiting = map[types.UID]struct{}{}, map[types.UID]struct{}{}
	owners := object.GetOwnerReferences()
	for i := range owners {
		ref := &owners[i]
		kind, served := l.client.KindNamed(schema.GroupKind{Group: groupOf(ref.APIVersion), Kind: ref.Kind})
		if !served || (kind.Namespaced && key.Namespace == "") {
			solid++
			continue
		}
		ownerKey := core.Key{Group: kind.Group, Resource: kind.Resource, Name: ref.Name}
		if kind.Namespaced {
			ownerKey.Namespace = key.Namespace
		}
		owner, exists := snapshot.Get(ownerKey)
		switch {
		case !exists || owner.GetUID() != ref.UID:
			gone[ref.UID] = struct{}{}
		case owner.GetDeletionTimestamp() != nil && hasFinalizer(owner, metav1.FinalizerDeleteDependents):
			waiting[ref.UID] = struct{}{}
		default:
			solid++
		}
	}
	return solid, gone, waiting
}

func groupOf(apiVersion string) string {
	group, _, found := strings.Cut(apiVersion, "/")
	if !found {
		return ""
	}
	return group
}

func (l *Lifecycle) hasDependents(snapshot core.Snapshot, object core.Object) bool {
	for range snapshot.Indexed(core.ByOwner, string(object.GetUID())) {
		return true
	}
	return false
}

// errAnother says that the object is not the one that was decided about.
var errAnother = errors.New("it is another object now")

// change mutates an object that must still be the one seen.
func (l *Lifecycle) change(ctx context.Context, key core.Key, uid types.UID, subresource string, f func(core.Object)) error {
	_, err := l.client.Mutate(ctx, key, func(o core.Object) error {
		if o.GetUID() != uid {
			return errAnother
		}
		f(o)
		return nil
	}, core.WriteOptions{Subresource: subresource})
	if err != nil && !errors.Is(err, errAnother) {
		return fmt.Errorf("change %s: %w", key, err)
	}
	return nil
}

func (l *Lifecycle) dropOwners(ctx context.Context, key core.Key, object core.Object, uids map[types.UID]struct{}) error {
	return l.change(ctx, key, object.GetUID(), "", func(o core.Object) {
		o.SetOwnerReferences(slices.DeleteFunc(slices.Clone(o.GetOwnerReferences()), func(r metav1.OwnerReference) bool {
			_, drop := uids[r.UID]
			return drop
		}))
	})
}

func (l *Lifecycle) dropFinalizer(ctx context.Context, key core.Key, object core.Object, name string) error {
	return l.change(ctx, key, object.GetUID(), "", func(o core.Object) {
		o.SetFinalizers(slices.DeleteFunc(slices.Clone(o.GetFinalizers()), func(f string) bool { return f == name }))
	})
}

// orphanDependents lets the dependents of a deleted owner go.
func (l *Lifecycle) orphanDependents(ctx context.Context, snapshot core.Snapshot, key core.Key, owner core.Object) error {
	uid := map[types.UID]struct{}{owner.GetUID(): {}}
	for child, object := range snapshot.Indexed(core.ByOwner, string(owner.GetUID())) {
		if child.GroupResource() == core.Memories {
			continue // what a controller remembers goes with its parent
		}
		if err := l.dropOwners(ctx, child, object, uid); err != nil {
			return err
		}
	}
	return l.dropFinalizer(ctx, key, owner, metav1.FinalizerOrphanDependents)
}

// deleteDependents deletes an owner's dependents, and lets it go when none is
// left that blocks it.
func (l *Lifecycle) deleteDependents(ctx context.Context, snapshot core.Snapshot, key core.Key, owner core.Object) error {
	blocked := false
	for child, object := range snapshot.Indexed(core.ByOwner, string(owner.GetUID())) {
		for i := range object.GetOwnerReferences() {
			if r := &object.GetOwnerReferences()[i]; r.UID == owner.GetUID() && blocks(r) {
				blocked = true
			}
		}
		if object.GetDeletionTimestamp() == nil {
			l.queue.add(task{collect, child}, 0)
		}
	}
	if blocked {
		return nil // the last one's end wakes this owner
	}
	return l.dropFinalizer(ctx, key, owner, metav1.FinalizerDeleteDependents)
}

func reference(o core.Object) corev1.ObjectReference {
	gvk := o.GetObjectKind().GroupVersionKind()
	return corev1.ObjectReference{
		APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind,
		Namespace: o.GetNamespace(), Name: o.GetName(), UID: o.GetUID(),
	}
}
