package registry

import (
	"context"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weftrun/weft/core"
)

// Delete implements core.Client.
func (r *Registry) Delete(ctx context.Context, key core.Key, o core.DeleteOptions) (object core.Object, live bool, err error) {
	defer r.firm(ctx, r.store.Epoch(), &err)
	e, err := r.entryOf(key)
	if err != nil {
		return nil, false, err
	}
	if err := validateDeletion(&o); err != nil {
		return nil, false, err
	}
	fixed := o.Preconditions != nil && o.Preconditions.ResourceVersion != nil
	object, p, err := r.write(ctx, o.DryRun, fixed, func() (plan, error) {
		return r.planDelete(ctx, r.store, e, key, &o)
	})
	if err != nil {
		return nil, false, err
	}
	return object, !p.removed, nil
}

func validateDeletion(o *core.DeleteOptions) error {
	errs := metav1validation.ValidateDeleteOptions(&metav1.DeleteOptions{PropagationPolicy: o.Propagation})
	if len(errs) > 0 {
		return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "DeleteOptions"}, "", errs)
	}
	return nil
}

func (r *Registry) planDelete(ctx context.Context, v view, e *entry, key core.Key, o *core.DeleteOptions) (plan, error) {
	old, ok := v.Latest(key)
	if !ok {
		return plan{}, apierrors.NewNotFound(e.resource, key.Name)
	}
	if err := deletePreconditions(e, old, o.Preconditions); err != nil {
		return plan{}, err
	}
	if e.resource == core.Namespaces && undying(key.Name) {
		return plan{}, apierrors.NewForbidden(e.resource, key.Name, fmt.Errorf("this namespace may not be deleted"))
	}
	a := Attributes{Operation: OperationDelete, Kind: e.kind, Key: key, Old: old}
	if _, err := r.admit(ctx, v, a, &request{WriteOptions: core.WriteOptions{DryRun: o.DryRun}}); err != nil {
		return plan{}, err
	}
	return e.deletion(key, old, o), nil
}

// deletion is what a permitted deletion does to old.
func (e *entry) deletion(key core.Key, old core.Object, o *core.DeleteOptions) plan {
	p := plan{key: key, old: old, object: old}
	grace, pending := e.grace(old, o.GracePeriodSeconds)
	if pending {
		return p
	}
	finalizers, changed := deletionFinalizers(e, old.GetFinalizers(), o.Propagation)
	held := e.Held != nil && e.Held(old)
	if grace == 0 && len(finalizers) == 0 && !held {
		p.removed = true
		return p
	}
	if !changed && old.GetDeletionTimestamp() != nil && grace == graceOf(old) {
		return p
	}
	p.object = core.Copy(old)
	if changed {
		p.object.SetFinalizers(finalizers)
	}
	e.markDeleting(p.object, grace)
	return p
}

// grace is how long the deletion waits for a node. pending says that one is
// under way already which this one does not shorten.
func (e *entry) grace(old core.Object, requested *int64) (seconds int64, pending bool) {
	if requested != nil && *requested < 0 {
		requested = new(int64(1)) // as in Kubernetes
	}
	if old.GetDeletionTimestamp() == nil {
		if e.Grace == nil {
			return 0, false
		}
		return max(e.Grace(old, requested), 0), false
	}
	left := graceOf(old)
	switch {
	case left == 0:
		return 0, false
	case requested == nil || *requested >= left:
		return left, true
	default:
		return *requested, false
	}
}

func graceOf(object core.Object) int64 {
	if s := object.GetDeletionGracePeriodSeconds(); s != nil {
		return max(*s, 0)
	}
	return 0
}

// seconds converts a grace period, which may be more than a Duration holds: a
// century is as good as for ever.
func seconds(n int64) time.Duration {
	const century = 100 * 365 * 24 * time.Hour
	return time.Duration(min(n, int64(century/time.Second))) * time.Second
}

// markDeleting begins a deletion, or shortens one that has begun.
func (e *entry) markDeleting(object core.Object, grace int64) {
	stamp := now()
	if before := object.GetDeletionTimestamp(); before != nil {
		began := before.Add(-seconds(graceOf(object)))
		if end := began.Add(seconds(grace)); end.After(stamp.Time) {
			stamp = metav1.NewTime(end)
		} else if grace > 0 {
			grace = 1 // long over, but the node still has the last word
		}
		if before.Before(&stamp) {
			stamp = *before.DeepCopy()
		}
	} else {
		stamp = metav1.NewTime(stamp.Add(seconds(grace)))
		if object.GetGeneration() > 0 {
			object.SetGeneration(object.GetGeneration() + 1)
		}
		if e.Deleting != nil {
			e.Deleting(object)
		}
	}
	object.SetDeletionTimestamp(&stamp)
	object.SetDeletionGracePeriodSeconds(&grace)
}

// deletionFinalizers are the finalizers with those of the garbage collector as
// the propagation policy wants them. Without a policy they stay.
func deletionFinalizers(e *entry, have []string, policy *metav1.DeletionPropagation) (want []string, changed bool) {
	if policy == nil || e.kind.Durability != core.Durable {
		return have, false
	}
	wanted := ""
	switch *policy {
	case metav1.DeletePropagationForeground:
		wanted = metav1.FinalizerDeleteDependents
	case metav1.DeletePropagationOrphan:
		wanted = metav1.FinalizerOrphanDependents
	}
	for _, f := range have {
		if f == wanted || (f != metav1.FinalizerDeleteDependents && f != metav1.FinalizerOrphanDependents) {
			want = append(want, f)
		}
	}
	if wanted != "" && !slices.Contains(want, wanted) {
		want = append(want, wanted)
	}
	return want, !slices.Equal(have, want)
}

func deletePreconditions(e *entry, old core.Object, p *metav1.Preconditions) error {
	if p == nil {
		return nil
	}
	if p.UID != nil && *p.UID != old.GetUID() {
		return apierrors.NewConflict(e.resource, old.GetName(),
			fmt.Errorf("the UID in the precondition (%s) does not match the UID in record (%s). The object might have been deleted and then recreated", *p.UID, old.GetUID()))
	}
	if p.ResourceVersion != nil && *p.ResourceVersion != old.GetResourceVersion() {
		return apierrors.NewConflict(e.resource, old.GetName(),
			fmt.Errorf("the ResourceVersion in the precondition (%s) does not match the ResourceVersion in record (%s). The object might have been modified", *p.ResourceVersion, old.GetResourceVersion()))
	}
	return nil
}
