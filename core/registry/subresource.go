package registry

import (
	"context"
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftrun/weft/core"
)

// Scale returns the scale subresource of the committed object at key.
func (r *Registry) Scale(key core.Key) (*autoscalingv1.Scale, error) {
	e, err := r.entryOf(key)
	if err != nil {
		return nil, err
	}
	object, ok := r.store.Snapshot().Get(key)
	if !ok {
		return nil, apierrors.NewNotFound(e.resource, key.Name)
	}
	return e.scaleOf(object)
}

func (e *entry) scaleOf(object core.Object) (*autoscalingv1.Scale, error) {
	if e.Scale == nil {
		return nil, noSubresource(e, object, "scale")
	}
	spec, status, selector := e.Scale.Replicas(object)
	return &autoscalingv1.Scale{
		TypeMeta: metav1.TypeMeta{APIVersion: "autoscaling/v1", Kind: "Scale"},
		ObjectMeta: metav1.ObjectMeta{
			Name: object.GetName(), Namespace: object.GetNamespace(), UID: object.GetUID(),
			ResourceVersion: object.GetResourceVersion(), CreationTimestamp: object.GetCreationTimestamp(),
		},
		Spec:   autoscalingv1.ScaleSpec{Replicas: spec},
		Status: autoscalingv1.ScaleStatus{Replicas: status, Selector: selector},
	}, nil
}

// editable is a copy of old, or of its subresource, for the caller to change.
func (e *entry) editable(old core.Object, o *request) (core.Object, error) {
	if o.Subresource == "scale" {
		return e.scaleOf(old)
	}
	object, err := e.fromStorage(old, o.Version)
	if err != nil || object != old {
		return object, err
	}
	return core.Copy(old), nil
}

// wantedScale is old with the replicas that f's Scale has.
func (e *entry) wantedScale(old core.Object, f changeFunc) (core.Object, error) {
	if e.Scale == nil {
		return nil, noSubresource(e, old, "scale")
	}
	wanted, err := f(old)
	if err != nil {
		return nil, err
	}
	scale, ok := wanted.(*autoscalingv1.Scale)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the scale of %s is an autoscaling/v1 Scale, not a %s", e.resource, wanted.GetObjectKind().GroupVersionKind()))
	}
	if err := e.preconditions(old, scale); err != nil {
		return nil, err
	}
	if n := scale.Spec.Replicas; n < 0 {
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: autoscalingv1.GroupName, Kind: "Scale"}, old.GetName(),
			field.ErrorList{field.Invalid(field.NewPath("spec", "replicas"), n, "must be greater than or equal to 0")})
	}
	object := core.Copy(old)
	e.Scale.Set(object, scale.Spec.Replicas)
	return object, nil
}

// createSubresource is a POST to a subresource whose object names its parent:
// a pod's binding or eviction.
func (r *Registry) createSubresource(ctx context.Context, object core.Object, o core.WriteOptions) (core.Object, error) {
	if o.Subresource != "binding" && o.Subresource != "eviction" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the subresource %q cannot be created", o.Subresource))
	}
	return r.Update(ctx, core.KeyFor(core.Pods, object), object, o)
}
