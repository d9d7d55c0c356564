package mapstore

import (
	"fmt"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/weftrun/weft/core"
)

// assign makes dst what src is; a Binding binds a pod.
func assign(dst, src core.Object) error {
	if binding, ok := src.(*corev1.Binding); ok {
		pod, ok := dst.(*corev1.Pod)
		if !ok {
			return fmt.Errorf("bind a %T", dst)
		}
		pod.Spec.NodeName = binding.Target.Name
		return nil
	}
	d, s := reflect.ValueOf(dst), reflect.ValueOf(core.Copy(src))
	if d.Type() != s.Type() {
		return fmt.Errorf("assign a %T to a %T", src, dst)
	}
	d.Elem().Set(s.Elem())
	return nil
}

func specDiffers(a, b core.Object) bool {
	ua, oka := a.(*unstructured.Unstructured)
	ub, okb := b.(*unstructured.Unstructured)
	if oka && okb {
		return !equality.Semantic.DeepEqual(ua.Object["spec"], ub.Object["spec"])
	}
	sa, sb := reflect.ValueOf(a).Elem().FieldByName("Spec"), reflect.ValueOf(b).Elem().FieldByName("Spec")
	return sa.IsValid() && sb.IsValid() && !equality.Semantic.DeepEqual(sa.Interface(), sb.Interface())
}

func nodeOf(o core.Object) string {
	if pod, ok := o.(*corev1.Pod); ok {
		return pod.Spec.NodeName
	}
	return ""
}
