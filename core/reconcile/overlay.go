package reconcile

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/tidwall/btree"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
)

// overlay is a core.Client whose writes are seen by itself alone: they are
// tried on the client below without being kept there, and held in memory. It
// is not safe for concurrent use.
type overlay struct {
	base     core.Client
	snap     core.Snapshot
	now      time.Time
	items    *btree.BTreeG[over] // what differs from snap
	revision int64
	names    int
	writes   int
	changes  []core.Change
}

// over is an object over the snapshot; a nil object is deleted.
type over struct {
	key    core.Key
	object core.Object
}

var _ core.Client = (*overlay)(nil)

// trialName is under what an object is tried whose own name is taken where it
// is tried.
const trialName = "planned-elsewhere"

func newOverlay(base core.Client, now time.Time) *overlay {
	snap := base.Snapshot()
	return &overlay{
		base: base, snap: snap, now: now, revision: snap.Revision(),
		items: btree.NewBTreeGOptions(func(a, b over) bool { return a.key.Less(b.key) }, btree.Options{NoLocks: true}),
	}
}

// Kinds implements core.Kinds.
func (o *overlay) Kinds() iter.Seq[*core.Kind] { return o.base.Kinds() }

// KindOf implements core.Kinds.
func (o *overlay) KindOf(r core.GroupResource) (*core.Kind, bool) { return o.base.KindOf(r) }

// KindNamed implements core.Kinds.
func (o *overlay) KindNamed(k schema.GroupKind) (*core.Kind, bool) { return o.base.KindNamed(k) }

// Generation implements core.Kinds.
func (o *overlay) Generation() int64 { return o.base.Generation() }

// Snapshot implements core.Reader.
func (o *overlay) Snapshot() core.Snapshot {
	return &layered{below: o.snap, items: o.items.Copy(), revision: o.revision}
}

// WaitFor implements core.Reader.
func (o *overlay) WaitFor(context.Context, int64) (core.Snapshot, error) { return o.Snapshot(), nil }

// Watch implements core.Reader by refusing: a plan is asked, not watched.
func (o *overlay) Watch(resource core.GroupResource, _ string, _ int64) (core.Watch, error) {
	return nil, apierrors.NewMethodNotSupported(resource, "watch")
}

func (o *overlay) get(key core.Key) (core.Object, bool) {
	if item, ok := o.items.Get(over{key: key}); ok {
		return item.object, item.object != nil
	}
	return o.snap.Get(key)
}

// put holds an object, which it owns; nil deletes.
func (o *overlay) put(key core.Key, object core.Object) {
	old, _ := o.get(key)
	o.revision++
	o.writes++
	change := core.Change{Key: key, Object: object, Old: old, Revision: o.revision}
	if object == nil {
		change.Object, change.Deleted = old, true
	} else {
		object.SetResourceVersion(core.FormatRevision(o.revision))
	}
	o.items.Set(over{key: key, object: object})
	o.changes = append(o.changes, change)
}

func (o *overlay) take() []core.Change {
	changes := o.changes
	o.changes = nil
	return changes
}

// Create implements core.Client.
func (o *overlay) Create(ctx context.Context, object core.Object, w core.WriteOptions) (core.Object, error) {
	kind, ok := o.KindNamed(object.GetObjectKind().GroupVersionKind().GroupKind())
	if !ok {
		return nil, apierrors.NewBadRequest("no kind " + object.GetObjectKind().GroupVersionKind().String() + " is served")
	}
	o.names++
	if object.GetName() == "" {
		object.SetName(fmt.Sprintf("%s%05d", object.GetGenerateName(), o.names))
	}
	key := core.KeyFor(kind.GroupResource(), object)
	if _, exists := o.get(key); exists {
		return nil, apierrors.NewAlreadyExists(key.GroupResource(), key.Name)
	}
	namespace := object.GetNamespace()
	if _, fresh := o.items.Get(over{key: core.Key{Resource: core.Namespaces.Resource, Name: namespace}}); fresh {
		// It can only be tried in a namespace that is there.
		object.SetNamespace(metav1.NamespaceDefault)
		if _, taken := o.snap.Get(core.KeyFor(key.GroupResource(), object)); taken {
			object.SetName(trialName)
		}
	}
	w.DryRun, w.Version = true, ""
	tried, err := o.base.Create(ctx, object, w)
	if err != nil {
		return nil, err
	}
	kept := core.Copy(tried)
	kept.SetNamespace(namespace)
	kept.SetName(key.Name)
	kept.SetUID(types.UID(fmt.Sprintf("planned-%05d", o.names)))
	kept.SetCreationTimestamp(metav1.NewTime(o.now))
	o.put(key, kept)
	return kept, nil
}

// Update implements core.Client.
func (o *overlay) Update(ctx context.Context, key core.Key, object core.Object, w core.WriteOptions) (core.Object, error) {
	return o.Mutate(ctx, key, func(dst core.Object) error { return overwrite(dst, object) }, w)
}

// Patch implements core.Client.
func (o *overlay) Patch(ctx context.Context, key core.Key, p core.Patch, w core.WriteOptions) (core.Object, error) {
	return o.Mutate(ctx, key, func(dst core.Object) error { return patchObject(dst, p) }, w)
}

// Mutate implements core.Client.
func (o *overlay) Mutate(ctx context.Context, key core.Key, change func(core.Object) error, w core.WriteOptions) (core.Object, error) {
	old, ok := o.get(key)
	if !ok {
		return nil, apierrors.NewNotFound(key.GroupResource(), key.Name)
	}
	object := core.Copy(old)
	if err := o.mutateIn(object, w.Subresource, change); err != nil {
		return nil, err
	}
	if equality.Semantic.DeepEqual(object, old) {
		return old, nil
	}
	if below, exists := o.snap.Get(key); exists && below.GetUID() == object.GetUID() && w.Subresource != "status" {
		tried, err := o.base.Mutate(ctx, key, func(dst core.Object) error {
			revision := dst.GetResourceVersion()
			err := overwrite(dst, object)
			dst.SetResourceVersion(revision)
			return err
		}, core.WriteOptions{DryRun: true})
		if err != nil {
			return nil, err
		}
		status := object
		object = core.Copy(tried)
		if _, has := statusOf(object); has {
			if err := setStatus(object, status); err != nil {
				return nil, err
			}
		}
	} else if !sameSpec(object, old) {
		object.SetGeneration(old.GetGeneration() + 1)
	}
	o.put(key, object)
	return object, nil
}

// mutateIn calls change with what a subresource shows of object.
func (o *overlay) mutateIn(object core.Object, subresource string, change func(core.Object) error) error {
	if subresource != "scale" {
		return change(object)
	}
	replicas, ok := replicasOf(object)
	if !ok {
		return fmt.Errorf("scale %s: it has no replicas", object.GetName())
	}
	scale := newScale(object, replicas.Int())
	if err := change(scale); err != nil {
		return err
	}
	replicas.SetInt(int64(scale.Spec.Replicas))
	return nil
}

// Delete implements core.Client. What would take its time is gone at once.
func (o *overlay) Delete(_ context.Context, key core.Key, d core.DeleteOptions) (core.Object, bool, error) {
	old, ok := o.get(key)
	if !ok {
		return nil, false, apierrors.NewNotFound(key.GroupResource(), key.Name)
	}
	if p := d.Preconditions; p != nil && p.UID != nil && *p.UID != old.GetUID() {
		return nil, false, apierrors.NewConflict(key.GroupResource(), key.Name, errors.New("another uid"))
	}
	o.put(key, nil)
	return old, false, nil
}

// Transact implements core.Client. It does not undo: a plan ends with its
// first error, near enough.
func (o *overlay) Transact(ctx context.Context, writes []core.Write) ([]core.Object, error) {
	results := make([]core.Object, len(writes))
	for i := range writes {
		w := &writes[i]
		var err error
		switch {
		case w.Create != nil:
			o.names++
			w.Create.SetUID(types.UID(fmt.Sprintf("planned-%05d", o.names)))
			o.put(w.Key, w.Create)
			results[i] = w.Create
		case w.Delete:
			results[i], _, err = o.Delete(ctx, w.Key, core.DeleteOptions{})
		default:
			results[i], err = o.Mutate(ctx, w.Key, w.Mutate, core.WriteOptions{Subresource: w.Subresource})
		}
		if err != nil {
			return nil, err
		}
	}
	return results, nil
}

// result lists what differs from the snapshot, without what is nobody's
// business: memories and events.
func (o *overlay) result() []PlannedChange {
	var list []PlannedChange
	o.items.Scan(func(item over) bool {
		before, existed := o.snap.Get(item.key)
		if r := item.key.GroupResource(); r == core.Memories || r == core.Events || (!existed && item.object == nil) {
			return true
		}
		c := PlannedChange{Verb: "update", Key: item.key, Before: before, After: item.object}
		switch {
		case !existed:
			c.Verb, c.Before = "create", nil
		case item.object == nil:
			c.Verb, c.After = "delete", nil
		case sameButRevision(before, item.object):
			return true
		}
		list = append(list, c)
		return true
	})
	return list
}

func sameButRevision(a, b core.Object) bool {
	b = core.Copy(b)
	b.SetResourceVersion(a.GetResourceVersion())
	b.SetManagedFields(a.GetManagedFields())
	return equality.Semantic.DeepEqual(a, b)
}

// layered is the snapshot of an overlay.
type layered struct {
	below    core.Snapshot
	items    *btree.BTreeG[over]
	revision int64
}

// Revision implements core.Snapshot.
func (l *layered) Revision() int64 { return l.revision }

// Get implements core.Snapshot.
func (l *layered) Get(key core.Key) (core.Object, bool) {
	if item, ok := l.items.Get(over{key: key}); ok {
		return item.object, item.object != nil
	}
	return l.below.Get(key)
}

// Count implements core.Snapshot.
func (l *layered) Count(resource core.GroupResource) (n int) {
	for range l.List(resource, "") {
		n++
	}
	return n
}

// List implements core.Snapshot.
func (l *layered) List(resource core.GroupResource, namespace string) iter.Seq2[core.Key, core.Object] {
	from := over{key: core.Key{Group: resource.Group, Resource: resource.Resource, Namespace: namespace}}
	var above []over
	l.items.Ascend(from, func(item over) bool {
		if item.key.GroupResource() != resource || (namespace != "" && item.key.Namespace != namespace) {
			return false
		}
		above = append(above, item)
		return true
	})
	return merge(above, l.below.List(resource, namespace))
}

// Indexed implements core.Snapshot.
func (l *layered) Indexed(index core.Index, value string) iter.Seq2[core.Key, core.Object] {
	var above []over
	l.items.Scan(func(item over) bool {
		if item.object == nil || !under(item, index, value) {
			item.object = nil // hides what is below
		}
		above = append(above, item)
		return true
	})
	return merge(above, l.below.Indexed(index, value))
}

func under(item over, index core.Index, value string) bool {
	switch index {
	case core.ByUID:
		return string(item.object.GetUID()) == value
	case core.ByNode:
		pod, ok := item.object.(*corev1.Pod)
		return ok && pod.Spec.NodeName == value
	case core.ByOwner:
		for _, owner := range item.object.GetOwnerReferences() {
			if string(owner.UID) == value {
				return true
			}
		}
	}
	return false
}

// merge yields two orders of objects as one; those above hide those below.
func merge(above []over, below iter.Seq2[core.Key, core.Object]) iter.Seq2[core.Key, core.Object] {
	return func(yield func(core.Key, core.Object) bool) {
		rest := above
		for key, object := range below {
			n := 0
			for n < len(rest) && rest[n].key.Less(key) {
				n++
			}
			if !yieldAll(rest[:n], yield) {
				return
			}
			rest = rest[n:]
			if len(rest) > 0 && rest[0].key == key {
				continue // yielded, or hidden, in its turn
			}
			if !yield(key, object) {
				return
			}
		}
		yieldAll(rest, yield)
	}
}

// yieldAll yields those that were not deleted; false if yield wants no more.
func yieldAll(items []over, yield func(core.Key, core.Object) bool) bool {
	for i := range items {
		if items[i].object != nil && !yield(items[i].key, items[i].object) {
			return false
		}
	}
	return true
}
