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
	var selector labels.Selector
	var errs []error
	moved := false
	claim := func(key core.Key, uid types.UID, change func(core.Object) error) {
		objects, err := e.client.Transact(ctx, []core.Write{{Key: key, UID: uid, Mutate: change}})
		switch {
		case err == nil:
			moved = true
			state.note(objects...)
		case lostRace(err) || errors.Is(err, errTaken):
		default:
			errs = append(errs, fmt.Errorf("adopt or release %s: %w", key, err))
		}
	}
	for _, child := range c.Description.Children {
		if !child.Adopt {
			continue
		}
		if selector == nil {
			selector = selectorOf(seen.Parent)
		}
		for i, object := range seen.Children {
			if seen.keys[i].GroupResource() == child.Resource && !selector.Matches(labels.Set(object.GetLabels())) {
				claim(seen.keys[i], object.GetUID(), release(seen.Parent.GetUID()))
			}
		}
		for _, key := range e.router.strays(child.Resource, seen.Parent.GetNamespace()) {
			object, ok := seen.snapshot.Get(key)
			if !ok || object.GetDeletionTimestamp() != nil || metav1.GetControllerOfNoCopy(object) != nil ||
				!selector.Matches(labels.Set(object.GetLabels())) {
				continue
			}
			claim(key, object.GetUID(), adopt(c, seen.Parent))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return moved, &refusal{reason: reasonApply, err: err}
	}
	return moved, nil
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
