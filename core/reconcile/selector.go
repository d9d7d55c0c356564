package reconcile

import (
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/weftrun/weft/core"
)

// selectorOf returns a parent's spec.selector; one that is empty, missing or
// malformed selects nothing, so that nothing is adopted by mistake.
func selectorOf(parent core.Object) labels.Selector {
	var s *metav1.LabelSelector
	switch p := parent.(type) {
	case *appsv1.ReplicaSet:
		s = p.Spec.Selector
	case *appsv1.Deployment:
		s = p.Spec.Selector
	case *appsv1.StatefulSet:
		s = p.Spec.Selector
	case *appsv1.DaemonSet:
		s = p.Spec.Selector
	case *batchv1.Job:
		s = p.Spec.Selector
	case *corev1.ReplicationController:
		s = &metav1.LabelSelector{MatchLabels: p.Spec.Selector}
	case *unstructured.Unstructured:
		s = unstructuredSelector(p)
	}
	if s == nil || (len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 0) {
		return labels.Nothing()
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	return selector
}

func unstructuredSelector(u *unstructured.Unstructured) *metav1.LabelSelector {
	raw, found, err := unstructured.NestedMap(u.Object, "spec", "selector")
	if err != nil || !found {
		return nil
	}
	var s metav1.LabelSelector
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &s); err != nil {
		return nil
	}
	return &s
}
