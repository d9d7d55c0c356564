package reconcile

import (
	"reflect"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/weftrun/weft/core"
)

// replicasOf returns the settable spec.replicas of a typed object.
func replicasOf(o core.Object) (reflect.Value, bool) {
	v := reflect.ValueOf(o).Elem()
	if v.Kind() != reflect.Struct {
		return reflect.Value{}, false
	}
	spec := v.FieldByName("Spec")
	if !spec.IsValid() {
		return reflect.Value{}, false
	}
	replicas := spec.FieldByName("Replicas")
	if !replicas.IsValid() || replicas.Kind() != reflect.Pointer || replicas.Type().Elem().Kind() != reflect.Int32 {
		return reflect.Value{}, false
	}
	if replicas.IsNil() {
		replicas.Set(reflect.ValueOf(new(int32(1))))
	}
	return replicas.Elem(), true
}

func newScale(o core.Object, replicas int64) *autoscalingv1.Scale {
	return &autoscalingv1.Scale{
		TypeMeta:   metav1.TypeMeta{APIVersion: "autoscaling/v1", Kind: "Scale"},
		ObjectMeta: metav1.ObjectMeta{Namespace: o.GetNamespace(), Name: o.GetName(), UID: o.GetUID(), ResourceVersion: o.GetResourceVersion()},
		Spec:       autoscalingv1.ScaleSpec{Replicas: int32(replicas)}, //nolint:gosec // it was an int32
	}
}

func sameSpec(a, b core.Object) bool {
	ua, oka := a.(*unstructured.Unstructured)
	ub, okb := b.(*unstructured.Unstructured)
	if oka && okb {
		return equality.Semantic.DeepEqual(ua.Object["spec"], ub.Object["spec"])
	}
	sa, sb := reflect.ValueOf(a).Elem().FieldByName("Spec"), reflect.ValueOf(b).Elem().FieldByName("Spec")
	return !sa.IsValid() || !sb.IsValid() || equality.Semantic.DeepEqual(sa.Interface(), sb.Interface())
}
