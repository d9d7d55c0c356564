package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
)

// errTaken says that another controller was quicker.
var errTaken = errors.New("it has a controller already")

// claim adopts orphans that match the parent's selector and releases children
// that no longer do, of the kinds that are declared so. A parent that is being
// deleted claims nothing, and an orphan that is being deleted is left alone.
// It returns whether anything was written.
func (e *engine) claim(ctx context.Context, c *entry, seen *observation, state *parentState) (bool, error) {
	if seen.Parent.GetDeletionTimestamp() != nil {
		return false, nil
	}
	run := claiming{engine: e, seen: seen, state: state}
	for _, child := range c.Children {
		if !child.Adopt {
			continue
		}
		if run.selector == nil {
			run.selector = selectorOf(seen.Parent)
		}
		run.releaseFrom(ctx, child.Resource)
		run.adoptFrom(ctx, c, child.Resource)
	}
	if err := errors.Join(run.errs...); err != nil {
		return run.moved, &refusal{reason: reasonApply, err: err}
	}
	return run.moved, nil
}

// claiming is the adoptions and releases of one round.
type claiming struct {
	*engine
	seen     *observation
	state    *parentState
	selector labels.Selector
	moved    bool
	errs     []error
}

func (r *claiming) releaseFrom(ctx context.Context, resource core.GroupResource) {
	for i, object := range r.seen.Children {
		if r.seen.keys[i].GroupResource() == resource && !r.selector.Matches(labels.Set(object.GetLabels())) {
			r.write(ctx, r.seen.keys[i], object.GetUID(), release(r.seen.Parent.GetUID()))
		}
	}
}

func (r *claiming) adoptFrom(ctx context.Context, c *entry, resource core.GroupResource) {
	for _, key := range r.router.strays(resource, r.seen.Parent.GetNamespace()) {
		object, ok := r.seen.snapshot.Get(key)
		if !ok || object.GetDeletionTimestamp() != nil || metav1.GetControllerOfNoCopy(object) != nil {
			continue
		}
		if r.selector.Matches(labels.Set(object.GetLabels())) {
			r.write(ctx, key, object.GetUID(), adopt(c, r.seen.Parent))
		}
	}
}

func (r *claiming) write(ctx context.Context, key core.Key, uid types.UID, change func(core.Object) error) {
	objects, err := r.client.Transact(ctx, []core.Write{{Key: key, UID: uid, Mutate: change}})
	switch {
	case err == nil:
		r.moved = true
		r.state.note(objects...)
	case lostRace(err) || errors.Is(err, errTaken):
	default:
		r.errs = append(r.errs, fmt.Errorf("adopt or release %s: %w", key, err))
	}
}

// adopt makes parent the controller of an object that has none.
func adopt(c *entry, parent core.Object) func(core.Object) error {
	return func(o core.Object) error {
		if metav1.GetControllerOfNoCopy(o) != nil || o.GetDeletionTimestamp() != nil {
			return errTaken
		}
		owners := slices.DeleteFunc(slices.Clone(o.GetOwnerReferences()), func(r metav1.OwnerReference) bool { return r.UID == parent.GetUID() })
		o.SetOwnerReferences(append(owners, ownerReference(c, parent)))
		return nil
	}
}

// release ends an object's ownership by the parent of that UID.
func release(uid types.UID) func(core.Object) error {
	return func(o core.Object) error {
		o.SetOwnerReferences(slices.DeleteFunc(slices.Clone(o.GetOwnerReferences()), func(r metav1.OwnerReference) bool { return r.UID == uid }))
		return nil
	}
}

func ownerReference(c *entry, parent core.Object) metav1.OwnerReference {
	yes := true
	return metav1.OwnerReference{
		APIVersion: c.Kind.GroupVersion().String(), Kind: c.Kind.Kind,
		Name: parent.GetName(), UID: parent.GetUID(), Controller: &yes, BlockOwnerDeletion: &yes,
	}
}
