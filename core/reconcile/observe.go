package reconcile

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
)

// MemoryDatum is the one datum of a memory's Secret.
const MemoryDatum = "memory"

// observation is what one round knows.
type observation struct {
	core.Observation
	key      core.Key
	snapshot core.Snapshot
	// keys are those of Observation.Children; related of Observation.Related.
	keys    []core.Key
	related []core.Key
	// memory is the object that holds Observation.Memory; nil if there is none.
	memory *corev1.Secret
	// skip says that there is nothing to decide: the parent is being deleted
	// and does not wait for its controller.
	skip bool
}

// observe collects what the controller is to see. It returns nil if the
// parent does not exist. It never changes state, except that it adopts and
// releases children, and then looks again.
func (e *engine) observe(ctx context.Context, c *entry, s subject, state *parentState) (*observation, error) {
	snapshot := e.client.Snapshot()
	if snapshot.Revision() < state.atLeast {
		var err error
		if snapshot, err = e.client.WaitFor(ctx, state.atLeast); err != nil {
			return nil, fmt.Errorf("wait for own writes of %s: %w", s.key, err)
		}
	}
	parent, ok := snapshot.Get(s.key)
	if !ok {
		e.router.forget(s)
		return nil, nil //nolint:nilnil // nil says that there is none
	}
	if state.uid != string(parent.GetUID()) {
		*state = parentState{uid: string(parent.GetUID()), atLeast: state.atLeast}
	}
	seen := &observation{key: s.key, snapshot: snapshot}
	if seen.skip = parent.GetDeletionTimestamp() != nil && !c.holds(parent); seen.skip {
		return seen, nil
	}
	seen.Parent, seen.Now = parent, e.now()
	seen.Finalizing = parent.GetDeletionTimestamp() != nil
	if err := e.look(c, s, seen); err != nil {
		return nil, err
	}
	moved, err := e.claim(ctx, c, seen, state)
	if err != nil {
		return nil, err
	}
	if moved {
		if seen.snapshot, err = e.client.WaitFor(ctx, state.atLeast); err != nil {
			return nil, fmt.Errorf("wait for adoptions of %s: %w", s.key, err)
		}
		seen.collectChildren(c)
	}
	seen.Failures = state.failures
	seen.recall(c.Name)
	seen.seed()
	return seen, nil
}

// look reads children and related objects.
func (e *engine) look(c *entry, s subject, seen *observation) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &refusal{reason: reasonDecide, err: fmt.Errorf("controller %s panicked: %v", c.Name, p)}
		}
	}()
	list := c.Relate(seen.Parent)
	if len(list) > maxRelations {
		return &refusal{reason: reasonInvalid, err: fmt.Errorf("controller %s names %d relations, at most %d are allowed", c.Name, len(list), maxRelations)}
	}
	if e.router.relate(s, list) {
		// What changed before it was watched for may be newer than the
		// snapshot: take one that cannot miss it.
		if e.watch != nil {
			for i := range list {
				e.watch(list[i].Resource)
			}
		}
		seen.snapshot = e.client.Snapshot()
		if parent, ok := seen.snapshot.Get(s.key); ok && parent.GetUID() == seen.Parent.GetUID() {
			seen.Parent = parent
			seen.Finalizing = parent.GetDeletionTimestamp() != nil
		}
	}
	seen.collectChildren(c)
	seen.collectRelated(list)
	return nil
}

func (o *observation) collectChildren(c *entry) {
	uid := o.Parent.GetUID()
	o.Children, o.keys = o.Children[:0], o.keys[:0]
	for key, child := range o.snapshot.Indexed(core.ByOwner, string(uid)) {
		if _, declared := c.byChild[key.GroupResource()]; !declared {
			continue
		}
		if owner := metav1.GetControllerOfNoCopy(child); owner != nil && owner.UID == uid {
			o.Children, o.keys = append(o.Children, child), append(o.keys, key)
		}
	}
}

func (o *observation) collectRelated(list []core.Relation) {
	type found struct {
		key    core.Key
		object core.Object
	}
	var all []found
	for i := range list {
		rel := &list[i]
		if rel.Name != "" {
			key := nameKey(rel)
			if object, ok := o.snapshot.Get(key); ok {
				all = append(all, found{key, object})
			}
			continue
		}
		for key, object := range o.snapshot.List(rel.Resource, rel.Namespace) {
			if rel.Selector == nil || rel.Selector.Matches(labels.Set(object.GetLabels())) {
				all = append(all, found{key, object})
			}
		}
	}
	if len(list) > 1 {
		slices.SortFunc(all, func(a, b found) int { return compareKeys(a.key, b.key) })
		all = slices.CompactFunc(all, func(a, b found) bool { return a.key == b.key })
	}
	o.Related, o.related = make([]core.Object, len(all)), make([]core.Key, len(all))
	for i, f := range all {
		o.Related[i], o.related[i] = f.object, f.key
	}
}

func compareKeys(a, b core.Key) int {
	return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// memoryKey is where what a controller remembers about a parent is kept: two
// controllers of one kind do not share it. Memories are namespaced; those of
// cluster-scoped parents lie in kube-system.
func memoryKey(controller, namespace string, uid types.UID) core.Key {
	return core.Key{
		Group: core.Memories.Group, Resource: core.Memories.Resource,
		Namespace: cmp.Or(namespace, metav1.NamespaceSystem), Name: string(uid) + "." + controller,
	}
}

func (o *observation) recall(controller string) {
	held, ok := o.snapshot.Get(memoryKey(controller, o.Parent.GetNamespace(), o.Parent.GetUID()))
	if !ok {
		return
	}
	if secret, ok := held.(*corev1.Secret); ok {
		o.memory, o.Memory = secret, secret.Data[MemoryDatum]
	}
}

// seed derives the observation's randomness from the parent and the highest
// revision among what is observed.
func (o *observation) seed() {
	highest := core.Revision(o.Parent)
	for _, list := range [][]core.Object{o.Children, o.Related} {
		for _, object := range list {
			highest = max(highest, core.Revision(object))
		}
	}
	sum := fnv.New64a()
	_, _ = fmt.Fprintf(sum, "%s/%d", o.Parent.GetUID(), highest) // a hash's Write returns no error
	o.Seed = sum.Sum64()
}
