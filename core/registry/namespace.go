package registry

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftrun/weft/core"
)

func namespaceStrategy() *Strategy {
	return typed[*corev1.Namespace]{
		kind: core.Kind{
			Kind: "Namespace", ListKind: "NamespaceList", Resource: core.Namespaces.Resource, Singular: "namespace",
			ShortNames: []string{"ns"}, Storage: "v1", Verbs: singleVerbs,
			Subresources: []string{"finalize", "status"},
		},
		create: func() *corev1.Namespace { return &corev1.Namespace{} },
		columns: []metav1.TableColumnDefinition{
			nameColumn(), column("Status", "string", "Active, or Terminating while it is being emptied."), ageColumn(),
		},
		cells: func(n *corev1.Namespace, now time.Time) []any {
			return []any{n.Name, string(n.Status.Phase), age(n.CreationTimestamp, now)}
		},
		fields: func(n *corev1.Namespace) map[string]string {
			return map[string]string{"status.phase": string(n.Status.Phase), "name": n.Name}
		},
		defaults:      defaultNamespace,
		prepareCreate: prepareNamespace,
		prepareUpdate: func(n, old *corev1.Namespace) {
			n.Spec.Finalizers = old.Spec.Finalizers
			n.Status = old.Status
		},
		validate: validateNamespace,
		validateUpdate: func(n, old *corev1.Namespace) field.ErrorList {
			return validateMetaUpdate(&n.ObjectMeta, &old.ObjectMeta)
		},
		copyStatus:     func(dst, src *corev1.Namespace) { dst.Status = src.Status },
		validateStatus: validateNamespaceStatus,
		subresources:   map[string]SubresourceFunc{"finalize": finalizeNamespace},
		deleting:       func(n *corev1.Namespace) { n.Status.Phase = corev1.NamespaceTerminating },
		held:           func(n *corev1.Namespace) bool { return len(n.Spec.Finalizers) > 0 },
	}.strategy()
}

func defaultNamespace(n *corev1.Namespace) {
	if n.Name != "" {
		if n.Labels == nil {
			n.Labels = map[string]string{}
		}
		n.Labels[corev1.LabelMetadataName] = n.Name
	}
	if n.Status.Phase == "" {
		n.Status.Phase = corev1.NamespaceActive
	}
}

// prepareNamespace gives the finalizer that keeps a namespace until it is
// empty.
func prepareNamespace(n *corev1.Namespace) {
	n.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
	if slices.Contains(n.Spec.Finalizers, corev1.FinalizerKubernetes) {
		return
	}
	n.Spec.Finalizers = append(n.Spec.Finalizers, corev1.FinalizerKubernetes)
}

func validateNamespace(n *corev1.Namespace) field.ErrorList {
	errs := apivalidation.ValidateObjectMeta(&n.ObjectMeta, false, apivalidation.ValidateNamespaceName, metadataPath)
	return append(errs, validateNamespaceFinalizers(n)...)
}

func validateNamespaceFinalizers(n *corev1.Namespace) field.ErrorList {
	var errs field.ErrorList
	for i, f := range n.Spec.Finalizers {
		if f == corev1.FinalizerKubernetes {
			continue
		}
		errs = append(errs, apivalidation.ValidateFinalizerName(string(f), specPath.Child("finalizers").Index(i))...)
	}
	return errs
}

func validateNamespaceStatus(n, old *corev1.Namespace) field.ErrorList {
	errs := validateMetaUpdate(&n.ObjectMeta, &old.ObjectMeta)
	if n.DeletionTimestamp.IsZero() {
		if n.Status.Phase != corev1.NamespaceActive {
			errs = append(errs, field.Invalid(statusPath.Child("phase"), n.Status.Phase,
				"may only be 'Active' if `deletionTimestamp` is empty"))
		}
	} else if n.Status.Phase != corev1.NamespaceTerminating {
		errs = append(errs, field.Invalid(statusPath.Child("phase"), n.Status.Phase,
			"may only be 'Terminating' if `deletionTimestamp` is not empty"))
	}
	return errs
}

// finalizeNamespace replaces the finalizers of a namespace's spec by body's.
func finalizeNamespace(_ context.Context, object, body core.Object) error {
	n, ok := object.(*corev1.Namespace)
	if !ok {
		return fmt.Errorf("finalize %T: not a namespace", object)
	}
	b, ok := body.(*corev1.Namespace)
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("finalize namespace %q: the body is a %T, a Namespace is wanted", n.Name, body))
	}
	if errs := validateNamespaceFinalizers(b); len(errs) > 0 {
		return apierrors.NewInvalid(n.GroupVersionKind().GroupKind(), n.Name, errs)
	}
	n.Spec.Finalizers = append([]corev1.FinalizerName(nil), b.Spec.Finalizers...)
	return nil
}
