package registry

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftrun/weft/core"
)

// keepMeta puts back what an update cannot say: what it left out, and what it
// may not decide.
func keepMeta(old, object core.Object) {
	object.SetGeneration(old.GetGeneration())
	object.SetSelfLink("")
	object.SetResourceVersion(old.GetResourceVersion())
	if object.GetUID() == "" {
		object.SetUID(old.GetUID())
	}
	object.SetCreationTimestamp(old.GetCreationTimestamp())
	if t := old.GetDeletionTimestamp(); t != nil {
		object.SetDeletionTimestamp(t.DeepCopy())
	}
	if s := old.GetDeletionGracePeriodSeconds(); s != nil && object.GetDeletionGracePeriodSeconds() == nil {
		object.SetDeletionGracePeriodSeconds(new(*s))
	}
}

// validateMetaChange says what is wrong with the metadata of an update, with
// Kubernetes' rules and words. What has not changed is not looked at: this is
// on the path of every status write.
func validateMetaChange(object, old core.Object) field.ErrorList {
	var errs field.ErrorList
	path := metadataPath
	immutable := func(name string, value any, equal bool) {
		if !equal {
			errs = append(errs, field.Invalid(path.Child(name), value, validation.FieldImmutableErrorMsg))
		}
	}
	immutable("name", object.GetName(), object.GetName() == old.GetName())
	immutable("namespace", object.GetNamespace(), object.GetNamespace() == old.GetNamespace())
	immutable("uid", object.GetUID(), object.GetUID() == old.GetUID())
	immutable("deletionTimestamp", object.GetDeletionTimestamp(), object.GetDeletionTimestamp().Equal(old.GetDeletionTimestamp()))
	immutable("deletionGracePeriodSeconds", object.GetDeletionGracePeriodSeconds(),
		equalPointers(object.GetDeletionGracePeriodSeconds(), old.GetDeletionGracePeriodSeconds()))

	if f := object.GetFinalizers(); !slices.Equal(f, old.GetFinalizers()) {
		if old.GetDeletionTimestamp() != nil {
			errs = append(errs, validation.ValidateNoNewFinalizers(f, old.GetFinalizers(), path.Child("finalizers"))...)
		}
		errs = append(errs, validation.ValidateFinalizers(f, path.Child("finalizers"))...)
	}
	if l := object.GetLabels(); !maps.Equal(l, old.GetLabels()) {
		errs = append(errs, metav1validation.ValidateLabels(l, path.Child("labels"))...)
	}
	if a := object.GetAnnotations(); !maps.Equal(a, old.GetAnnotations()) {
		errs = append(errs, validation.ValidateAnnotations(a, path.Child("annotations"))...)
	}
	if refs := object.GetOwnerReferences(); !sameOwners(refs, old.GetOwnerReferences()) {
		errs = append(errs, validation.ValidateOwnerReferences(refs, path.Child("ownerReferences"))...)
	}
	return errs
}

func equalPointers[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

func sameOwners(a, b []metav1.OwnerReference) bool {
	return slices.EqualFunc(a, b, func(x, y metav1.OwnerReference) bool {
		return x.APIVersion == y.APIVersion && x.Kind == y.Kind && x.Name == y.Name && x.UID == y.UID &&
			equalPointers(x.Controller, y.Controller) && equalPointers(x.BlockOwnerDeletion, y.BlockOwnerDeletion)
	})
}

// unique drops errors that say the same again: the kind and the write path
// both look at metadata.
func unique(errs field.ErrorList) field.ErrorList {
	if len(errs) < 2 {
		return errs
	}
	seen := make(map[string]bool, len(errs))
	return slices.DeleteFunc(errs, func(e *field.Error) bool {
		text := e.Error()
		again := seen[text]
		seen[text] = true
		return again
	})
}
