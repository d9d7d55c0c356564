package registry

import (
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/weftrun/weft/core"
)

// Convert returns object, which may be shared and is not changed, in a version
// of its kind; empty means the storage version. It is object itself when that
// is its version already.
func (r *Registry) Convert(object core.Object, version string) (core.Object, error) {
	e, err := r.entryFor(object)
	if err != nil {
		return nil, err
	}
	if version == "" {
		version = e.kind.Storage
	}
	return e.convert(object, version)
}

// convert returns object in another version, and never changes it.
func (e *entry) convert(object core.Object, version string) (core.Object, error) {
	from := object.GetObjectKind().GroupVersionKind()
	if from.Version == version {
		return object, nil
	}
	if !e.serves(version) {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("%s has no version %q", e.resource, version))
	}
	if e.Convert != nil {
		converted, err := e.Convert(object, version)
		if err != nil {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("convert %s %q to %s: %v", e.kind.Kind, object.GetName(), version, err))
		}
		return converted, nil
	}
	converted := core.Copy(object)
	converted.GetObjectKind().SetGroupVersionKind(e.kind.GroupVersionKind(version))
	return converted, nil
}

// toStorage brings an object that the caller gave into the storage version.
func (e *entry) toStorage(object core.Object, o *request) (core.Object, error) {
	version := o.Version
	if version == "" {
		version = e.kind.Storage
	}
	gvk := object.GetObjectKind().GroupVersionKind()
	want := e.kind.GroupVersionKind(version)
	if gvk.Empty() {
		object.GetObjectKind().SetGroupVersionKind(want)
	} else if gvk != want {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the object is a %s, %s was expected", gvk, want))
	}
	if e.custom != nil {
		if err := e.custom.accept(object, version, o); err != nil {
			return nil, err
		}
	}
	return e.convert(object, e.kind.Storage)
}

// fromStorage returns a kept object as the caller wants it.
func (e *entry) fromStorage(object core.Object, version string) (core.Object, error) {
	if version == "" {
		return object, nil
	}
	return e.convert(object, version)
}
