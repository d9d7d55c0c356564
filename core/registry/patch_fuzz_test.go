package registry

import (
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
)

// FuzzPatch: whatever a patch holds, the answer is an object that is still the
// one it was, or a status below 500.
func FuzzPatch(f *testing.F) {
	kinds := []types.PatchType{types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType, types.ApplyYAMLPatchType}
	for _, seed := range []struct {
		kind byte
		body string
	}{
		{0, `[{"op":"add","path":"/metadata/labels","value":{"a":"b"}}]`},
		{0, `[{"op":"move","from":"/spec/containers/0","path":"/spec/containers/-"}]`},
		{0, `[{"op":"copy","from":"/spec","path":"/spec/containers/0/env/0"},{"op":"test","path":"","value":null}]`},
		{1, `{"spec":{"containers":[{"name":"c"}]}}`},
		{1, `{"metadata":{"managedFields":[{}],"resourceVersion":null}}`},
		{2, `{"spec":{"containers":[{"name":"main","$patch":"delete"}],"$setElementOrder/containers":[{"name":"x"}]}}`},
		{2, `{"spec":{"$retainKeys":["x"],"$deleteFromPrimitiveList/finalizers":["a"]}}`},
		{2, `{"metadata":{"finalizers":{"a":1},"ownerReferences":[{"uid":"x"}]}}`},
		{3, "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {a: b}}\nspec: {containers: [{name: main, image: y}]}"},
		{3, "apiVersion: v1\nkind: Pod\nmetadata: 1"},
		{3, "a: &a [*a, *a]"},
	} {
		f.Add(seed.kind, []byte(seed.body), "", false)
	}
	f.Add(byte(2), []byte(`{"status":{"conditions":[{"type":"Ready","status":"True"}]}}`), "status", true)
	r, _ := open(f)
	mustCreate(f, r, benchPod("web"), core.WriteOptions{FieldManager: "one"})
	before, _ := r.Snapshot().Get(podKey("web"))
	was := core.Copy(before)
	f.Fuzz(func(t *testing.T, kind byte, body []byte, subresource string, strict bool) {
		o := core.WriteOptions{DryRun: true, FieldManager: "two", Subresource: subresource}
		if strict {
			o.FieldValidation = "Strict"
		}
		got, err := r.Patch(t.Context(), podKey("web"), core.Patch{Type: kinds[int(kind)%len(kinds)], Data: body}, o)
		if err != nil {
			var status apierrors.APIStatus
			if !errors.As(err, &status) || status.Status().Code >= 500 {
				t.Fatalf("%T: %v", err, err)
			}
		} else if pod, ok := got.(*corev1.Pod); ok && (pod.Name != "web" || pod.UID != was.GetUID() || pod.Spec.Containers == nil) {
			t.Fatalf("another pod: %v", pod)
		}
		if !same(was, before) {
			t.Fatalf("the shared object has changed: %v", before)
		}
	})
}
