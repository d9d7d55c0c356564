package registry

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
)

func mustCreate(t testing.TB, r *Registry, object core.Object, o core.WriteOptions) core.Object {
	t.Helper()
	made, err := r.Create(t.Context(), object, o)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestPatchKinds(t *testing.T) {
	tests := map[string]struct {
		kind types.PatchType
		body string
		want map[string]string
		code int32
		text string
	}{
		"merge":          {types.MergePatchType, `{"data":{"a":null,"b":"2"}}`, map[string]string{"b": "2"}, 0, ""},
		"strategic":      {types.StrategicMergePatchType, `{"data":{"a":null,"b":"2"}}`, map[string]string{"b": "2"}, 0, ""},
		"json":           {types.JSONPatchType, `[{"op":"replace","path":"/data/a","value":"3"}]`, map[string]string{"a": "3"}, 0, ""},
		"json test":      {types.JSONPatchType, `[{"op":"test","path":"/data/a","value":"3"}]`, nil, 422, ""},
		"json missing":   {types.JSONPatchType, `[{"op":"remove","path":"/data/z"}]`, nil, 422, ""},
		"json null op":   {types.JSONPatchType, `[null]`, nil, 400, "null"},
		"no json":        {types.MergePatchType, `{`, nil, 400, ""},
		"wrong type":     {types.MergePatchType, `{"data":{"a":1}}`, nil, 422, "patch"},
		"null":           {types.StrategicMergePatchType, `null`, nil, 400, "object"},
		"a list":         {types.StrategicMergePatchType, `[]`, nil, 400, ""},
		"unknown type":   {types.PatchType("text/plain"), `{}`, nil, 415, "accepted media types"},
		"stale revision": {types.MergePatchType, `{"metadata":{"resourceVersion":"9999"}}`, nil, 409, "has been modified"},
		"other uid":      {types.MergePatchType, `{"metadata":{"uid":"x"}}`, nil, 409, "UID"},
		"other name":     {types.MergePatchType, `{"metadata":{"name":"x"}}`, nil, 422, "field is immutable"},
		"deep":           {types.MergePatchType, strings.Repeat(`{"a":`, 300) + "1" + strings.Repeat("}", 300), nil, 400, "nested"},
		"long":           {types.MergePatchType, `{"data":{"a":"` + strings.Repeat("x", maxPatchBytes) + `"}}`, nil, 413, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r, _ := open(t)
			mustCreate(t, r, configMap("a", map[string]string{"a": "1"}), core.WriteOptions{})
			got, err := r.Patch(t.Context(), configKey("a"), core.Patch{Type: test.kind, Data: []byte(test.body)}, core.WriteOptions{})
			checkStatus(t, err, test.code, test.text)
			if err == nil && fmt.Sprint(got.(*corev1.ConfigMap).Data) != fmt.Sprint(test.want) {
				t.Errorf("data %v, want %v", got.(*corev1.ConfigMap).Data, test.want)
			}
		})
	}
}

func checkStatus(t *testing.T, err error, code int32, text string) {
	t.Helper()
	if code == 0 {
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Code != code || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v, want status %d with %q", err, code, text)
	}
}

func TestCopyBomb(t *testing.T) {
	r, _ := open(t)
	mustCreate(t, r, configMap("a", map[string]string{"a": strings.Repeat("x", 1000)}), core.WriteOptions{})
	var ops []string
	for i := range 60 {
		ops = append(ops, fmt.Sprintf(`{"op":"copy","from":"/data","path":"/data/c%d"}`, i))
	}
	_, err := r.Patch(t.Context(), configKey("a"), core.Patch{Type: types.JSONPatchType, Data: []byte("[" + strings.Join(ops, ",") + "]")}, core.WriteOptions{})
	checkStatus(t, err, 422, "accumulated size")
}

func TestStrictPatch(t *testing.T) {
	for _, kind := range []types.PatchType{types.MergePatchType, types.StrategicMergePatchType} {
		for body, text := range map[string]string{
			`{"nonsense":1}`:             `unknown field "nonsense"`,
			`{"data":{"a":"1","a":"2"}}`: `duplicate field "data.a"`,
		} {
			r, _ := open(t)
			mustCreate(t, r, configMap("a", nil), core.WriteOptions{})
			p := core.Patch{Type: kind, Data: []byte(body)}
			_, err := r.Patch(t.Context(), configKey("a"), p, core.WriteOptions{FieldValidation: metav1.FieldValidationStrict})
			checkStatus(t, err, 422, text)
			var warned []string
			_, err = r.Patch(t.Context(), configKey("a"), p, core.WriteOptions{
				FieldValidation: metav1.FieldValidationWarn, Warn: func(w string) { warned = append(warned, w) },
			})
			if err != nil || !strings.Contains(strings.Join(warned, "\n"), text) {
				t.Errorf("%s %s: warned of %q, %v", kind, body, warned, err)
			}
		}
	}
}

func apply(r *Registry, t *testing.T, manager, body string, force bool) (core.Object, error) {
	return r.Patch(t.Context(), configKey("a"), core.Patch{Type: types.ApplyYAMLPatchType, Data: []byte(body)},
		core.WriteOptions{FieldManager: manager, Force: force})
}

const applied = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: "

func TestApply(t *testing.T) {
	r, _ := open(t)
	made, err := apply(r, t, "one", applied+`{x: "1", y: "1"}`, false)
	if err != nil {
		t.Fatal(err)
	}
	if made.GetUID() == "" || made.(*corev1.ConfigMap).Data["x"] != "1" || len(made.GetManagedFields()) != 1 {
		t.Fatalf("created by apply: %+v", made)
	}
	same, err := apply(r, t, "one", applied+`{x: "1", y: "1"}`, false)
	if err != nil || same.GetResourceVersion() != made.GetResourceVersion() {
		t.Errorf("the same applied again: revision %s, was %s: %v", same.GetResourceVersion(), made.GetResourceVersion(), err)
	}
	_, err = apply(r, t, "two", applied+`{x: "2"}`, false)
	checkStatus(t, err, 409, `Apply failed with 1 conflict: conflict with "one": .data.x`)
	forced, err := apply(r, t, "two", applied+`{x: "2"}`, true)
	if err != nil || forced.(*corev1.ConfigMap).Data["x"] != "2" {
		t.Fatalf("forced: %v %v", forced, err)
	}
	dropped, err := apply(r, t, "one", applied+`{}`, false)
	if err != nil || fmt.Sprint(dropped.(*corev1.ConfigMap).Data) != "map[x:2]" {
		t.Errorf("what one wants no more has stayed: %v %v", dropped, err)
	}
	_, err = apply(r, t, "", applied+`{}`, false)
	checkStatus(t, err, 422, "fieldManager: Required value: is required for apply patch")
	_, err = apply(r, t, "one", applied+`{}`+"\nnonsense: 1", false)
	checkStatus(t, err, 400, "field not declared in schema")
}

// TestMigrateToApply walks kubectl's way from client-side to server-side
// apply: a JSON patch of managedFields that must meet a 409 when it is late.
func TestMigrateToApply(t *testing.T) {
	r, _ := open(t)
	made := mustCreate(t, r, configMap("a", map[string]string{"x": "1"}), core.WriteOptions{FieldManager: "kubectl-client-side-apply"})
	if f := made.GetManagedFields(); len(f) != 1 || f[0].Operation != metav1.ManagedFieldsOperationUpdate || f[0].Manager != "kubectl-client-side-apply" {
		t.Fatalf("managed fields %+v", f)
	}
	body := func(rv string) core.Patch {
		f := made.GetManagedFields()[0].FieldsV1.String()
		return core.Patch{Type: types.JSONPatchType, Data: fmt.Appendf(nil,
			`[{"op":"replace","path":"/metadata/managedFields","value":[{"manager":"kubectl","operation":"Apply","apiVersion":"v1","time":"2024-01-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":%s}]},{"op":"replace","path":"/metadata/resourceVersion","value":"%s"}]`, f, rv)}
	}
	o := core.WriteOptions{FieldManager: "kubectl"}
	_, err := r.Patch(t.Context(), configKey("a"), body("99"), o)
	checkStatus(t, err, 409, "the object has been modified")
	moved, err := r.Patch(t.Context(), configKey("a"), body(made.GetResourceVersion()), o)
	if err != nil {
		t.Fatal(err)
	}
	if f := moved.GetManagedFields(); len(f) != 1 || f[0].Operation != metav1.ManagedFieldsOperationApply || f[0].Manager != "kubectl" {
		t.Fatalf("managed fields %+v", f)
	}
	gone, err := apply(r, t, "kubectl", applied+`{}`, false)
	if err != nil || len(gone.(*corev1.ConfigMap).Data) != 0 {
		t.Errorf("after the migration the field is not kubectl's: %v %v", gone, err)
	}
}
