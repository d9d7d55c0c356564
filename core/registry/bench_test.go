package registry

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
)

func benchPod(name string) *corev1.Pod {
	return &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "default", Labels: map[string]string{"app": "web", "pod-template-hash": "abc"},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web", UID: "4f8a5f0e-6f0d-4f9c-8a49-3f6e0f1f0a11",
				Controller: new(true), BlockOwnerDeletion: new(true),
			}},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "main", Image: "store/web@sha256:aa", Args: []string{"serve", "--port=80"},
			Env: []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}},
			Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{"cpu": resource.MustParse("100m"), "memory": resource.MustParse("32Mi")},
				Limits:   corev1.ResourceList{"memory": resource.MustParse("64Mi")},
			},
		}}},
	}
}

// The benchmarks run dry: the path alone, without the store.

func BenchmarkCreatePod(b *testing.B) {
	r, _ := open(b)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		if _, err := r.Create(b.Context(), benchPod(fmt.Sprintf("web-%07d", n)), core.WriteOptions{DryRun: true}); err != nil {
			b.Fatal(err)
		}
	}
}

func podKey(name string) core.Key {
	return core.Key{Resource: "pods", Namespace: "default", Name: name}
}

func BenchmarkMutateStatus(b *testing.B) {
	r, _ := open(b)
	mustCreate(b, r, benchPod("web"), core.WriteOptions{})
	o := core.WriteOptions{Subresource: "status", DryRun: true}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		_, err := r.Mutate(b.Context(), podKey("web"), func(o core.Object) error {
			p := o.(*corev1.Pod)
			p.Status.Phase = corev1.PodRunning
			p.Status.PodIP = fmt.Sprintf("10.0.%d.%d", n>>8&255, n&255)
			p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
			return nil
		}, o)
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPatch(b *testing.B) {
	bodies := map[string]core.Patch{
		"strategic": {Type: types.StrategicMergePatchType, Data: []byte(`{"metadata":{"labels":{"x":"%d"}}}`)},
		"merge":     {Type: types.MergePatchType, Data: []byte(`{"metadata":{"labels":{"x":"%d"}}}`)},
		"json":      {Type: types.JSONPatchType, Data: []byte(`[{"op":"add","path":"/metadata/labels/x","value":"%d"}]`)},
		"apply":     {Type: types.ApplyYAMLPatchType, Data: []byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","labels":{"x":"%d"}}}`)},
	}
	for name, p := range bodies {
		for _, manager := range []string{"", "kubectl-patch"} {
			if name == "apply" && manager == "" {
				continue
			}
			b.Run(name+"/manager="+manager, func(b *testing.B) {
				r, _ := open(b)
				mustCreate(b, r, benchPod("web"), core.WriteOptions{FieldManager: manager})
				b.ReportAllocs()
				n := 0
				for b.Loop() {
					n++
					body := core.Patch{Type: p.Type, Data: fmt.Appendf(nil, string(p.Data), n)}
					if _, err := r.Patch(b.Context(), podKey("web"), body, core.WriteOptions{DryRun: true, FieldManager: manager}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkCreateTrackedPod(b *testing.B) {
	r, _ := open(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Create(b.Context(), benchPod("web"), core.WriteOptions{DryRun: true, FieldManager: "kubectl"}); err != nil {
			b.Fatal(err)
		}
	}
}
