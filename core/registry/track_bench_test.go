package registry

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
)

// BenchmarkTrackCreate is what managedFields of a creation cost alone.
func BenchmarkTrackCreate(b *testing.B) {
	r, _ := open(b)
	for name, make := range map[string]func() core.Object{
		"ConfigMap": func() core.Object {
			return &corev1.ConfigMap{
				TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
				ObjectMeta: metav1.ObjectMeta{Name: "c", Namespace: "default", Labels: map[string]string{"app": "web"}, UID: "u", CreationTimestamp: now()},
				Data:       map[string]string{"a": strings.Repeat("x", 1000)},
			}
		},
		"Pod": func() core.Object { return benchPod("web") },
	} {
		b.Run(name, func(b *testing.B) {
			object := make()
			e, err := r.entryFor(object)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				object.SetManagedFields(nil)
				object = r.track(b.Context(), e, nil, object, &request{WriteOptions: core.WriteOptions{FieldManager: "kubectl"}})
			}
		})
	}
}
