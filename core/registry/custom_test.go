package registry

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/registry/registrytest"
)

const siteDefinition = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: sites.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: sites, singular: site, kind: Site, listKind: SiteList, shortNames: [st], categories: [all]}
  versions:
  - name: v1alpha1
    served: true
    storage: false
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.selector}
    additionalPrinterColumns:
    - {name: Host, type: string, jsonPath: .spec.host}
    - {name: Replicas, type: integer, jsonPath: .spec.replicas}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    selectableFields: [{jsonPath: .spec.host}]
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            required: [host]
            properties:
              host: {type: string, maxLength: 20, pattern: "^[a-z.]+$"}
              mode: {type: string, enum: [fast, slow], default: fast}
              replicas: {type: integer, minimum: 0, default: 1}
              extra: {type: object, x-kubernetes-preserve-unknown-fields: true}
              ports:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [port]
                items:
                  type: object
                  required: [port]
                  properties: {port: {type: integer}, name: {type: string, default: web}}
          status:
            type: object
            properties: {replicas: {type: integer}, selector: {type: string}, ready: {type: boolean}}
`

func definition(t testing.TB, text string) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	d := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict([]byte(text), d); err != nil {
		t.Fatal(err)
	}
	return d
}

func site(t testing.TB, text string) *unstructured.Unstructured {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte("apiVersion: example.com/v1\nkind: Site\nmetadata: {name: a, namespace: default}\n" + text))
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(data); err != nil {
		t.Fatal(err)
	}
	return u
}

var siteKey = core.Key{Group: "example.com", Resource: "sites", Namespace: "default", Name: "a"}

// withDefinitions runs f in a bubble with a registry that follows definitions,
// siteDefinition among them.
func withDefinitions(t *testing.T, f func(t *testing.T, r *Registry)) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := open(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1) // Run's one result
		go func() { done <- r.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		mustCreate(t, r, definition(t, siteDefinition), core.WriteOptions{})
		synctest.Wait()
		f(t, r)
	})
}

func getDefinition(t *testing.T, r *Registry, name string) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	o, ok := r.Snapshot().Get(core.Key{Group: core.Definitions.Group, Resource: core.Definitions.Resource, Name: name})
	if !ok {
		t.Fatalf("no definition %s", name)
	}
	return o.(*apiextensionsv1.CustomResourceDefinition)
}

func conditions(d *apiextensionsv1.CustomResourceDefinition) string {
	var all []string
	for _, c := range d.Status.Conditions {
		all = append(all, fmt.Sprintf("%s=%s/%s", c.Type, c.Status, c.Reason))
	}
	return strings.Join(all, " ")
}

func TestCustomKind(t *testing.T) {
	withDefinitions(t, func(t *testing.T, r *Registry) {
		d := getDefinition(t, r, "sites.example.com")
		if got, want := conditions(d), "NamesAccepted=True/NoConflicts Established=True/InitialNamesAccepted"; got != want {
			t.Fatalf("conditions %q, want %q", got, want)
		}
		kind, ok := r.KindNamed(schema.GroupKind{Group: "example.com", Kind: "Site"})
		if !ok || !kind.Custom || kind.Storage != "v1" || kind.Versions[0].Name != "v1" {
			t.Fatalf("kind %+v", kind)
		}
		before := r.Generation()
		made := mustCreate(t, r, site(t, `
spec: {host: a.b, nonsense: 1, extra: {any: thing}, ports: [{port: 1}]}
status: {ready: true}`), core.WriteOptions{})
		spec := content(made)["spec"]
		if got, want := fmt.Sprint(spec), "map[extra:map[any:thing] host:a.b mode:fast ports:[map[name:web port:1]] replicas:1]"; got != want {
			t.Errorf("spec %s, want %s", got, want)
		}
		if content(made)["status"] != nil || made.GetGeneration() != 1 {
			t.Errorf("a creator has set status: %v", made)
		}
		if got := kind.Versions[0].Cells(made, made.GetCreationTimestamp().Add(90*time.Second)); fmt.Sprint(got) != "[a a.b 1 90s]" {
			t.Errorf("cells %v", got)
		}
		if got := kind.Fields(made); got["spec.host"] != "a.b" {
			t.Errorf("fields %v", got)
		}
		ready, err := r.Mutate(t.Context(), siteKey, func(o core.Object) error {
			content(o)["status"] = map[string]any{"ready": true}
			content(o)["spec"] = map[string]any{}
			return nil
		}, core.WriteOptions{Subresource: "status"})
		if err != nil || ready.GetGeneration() != 1 || fmt.Sprint(content(ready)["spec"]) != fmt.Sprint(spec) {
			t.Errorf("status: %v %v", ready, err)
		}
		scaled, err := r.Patch(t.Context(), siteKey, core.Patch{Type: types.MergePatchType, Data: []byte(`{"spec":{"replicas":3}}`)},
			core.WriteOptions{Subresource: "scale"})
		if err != nil || scaled.GetObjectKind().GroupVersionKind().Kind != "Scale" {
			t.Fatalf("scale: %v %v", scaled, err)
		}
		scale, err := r.Scale(siteKey)
		if err != nil || scale.Spec.Replicas != 3 {
			t.Errorf("scale: %+v %v", scale, err)
		}
		_, err = r.Patch(t.Context(), siteKey, core.Patch{Type: types.StrategicMergePatchType, Data: []byte(`{}`)}, core.WriteOptions{})
		checkStatus(t, err, 415, "merge-patch+json")
		if r.Generation() != before {
			t.Error("the catalogue has changed with its objects")
		}
	})
}

func TestCustomValidation(t *testing.T) {
	withDefinitions(t, func(t *testing.T, r *Registry) {
		for text, want := range map[string]string{
			`spec: {}`:                                       "spec.host: Required value",
			`spec: {host: 1}`:                                "spec.host: Invalid value",
			`spec: {host: UPPER}`:                            "spec.host: Invalid value",
			`spec: {host: a, mode: x}`:                       `spec.mode: Unsupported value: "x": supported values: "fast", "slow"`,
			`spec: {host: a, replicas: -1}`:                  "spec.replicas",
			`spec: {host: aaaaaaaaaaaaaaaaaaaaaa}`:           "spec.host: Too long",
			`spec: {host: a, ports: [{port: 1}, {port: 1}]}`: "Duplicate value",
			`{}`: "spec: Required value",
		} {
			if text == "{}" {
				text = ""
			}
			_, err := r.Create(t.Context(), site(t, text), core.WriteOptions{})
			if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v, want %q", text, err, want)
			}
		}
		_, err := r.Create(t.Context(), site(t, `spec: {host: a, nonsense: 1}`), core.WriteOptions{FieldValidation: "Strict"})
		checkStatus(t, err, 400, `unknown field "spec.nonsense"`)
		if _, err := r.Create(t.Context(), site(t, `spec: {host: a, mode: null, nonsense: null}`), core.WriteOptions{}); err != nil {
			t.Errorf("null for absent: %v", err)
		}
	})
}

func TestCustomVersions(t *testing.T) {
	withDefinitions(t, func(t *testing.T, r *Registry) {
		old := site(t, `spec: {host: a}`)
		old.SetAPIVersion("example.com/v1alpha1")
		made := mustCreate(t, r, old, core.WriteOptions{Version: "v1alpha1"})
		if made.GetObjectKind().GroupVersionKind().Version != "v1alpha1" {
			t.Errorf("returned as %v", made.GetObjectKind().GroupVersionKind())
		}
		kept, _ := r.Snapshot().Get(siteKey)
		if kept.GetObjectKind().GroupVersionKind().Version != "v1" {
			t.Errorf("kept as %v", kept.GetObjectKind().GroupVersionKind())
		}
		if _, err := r.Convert(kept, "v9"); !apierrors.IsBadRequest(err) {
			t.Errorf("converted to v9: %v", err)
		}
	})
}

func TestCustomApply(t *testing.T) {
	withDefinitions(t, func(t *testing.T, r *Registry) {
		apply := func(manager, spec string, force bool) (core.Object, error) {
			return r.Patch(t.Context(), siteKey, core.Patch{Type: types.ApplyYAMLPatchType,
				Data: []byte("apiVersion: example.com/v1\nkind: Site\nmetadata: {name: a, labels: {x: z}}\nspec: " + spec)},
				core.WriteOptions{FieldManager: manager, Force: force, Version: "v1"})
		}
		if _, err := apply("one", "{host: a, ports: [{port: 1, name: one}]}", false); err != nil {
			t.Fatal(err)
		}
		both, err := apply("two", "{ports: [{port: 2, name: two}]}", false)
		if err != nil {
			t.Fatal(err)
		}
		ports, _, _ := unstructured.NestedSlice(content(both), "spec", "ports")
		if len(ports) != 2 {
			t.Errorf("ports %v: lists are not merged by their keys", ports)
		}
		_, err = apply("two", "{host: b}", false)
		checkStatus(t, err, 409, `conflict with "one": .spec.host`)
	})
}

func TestDefinitionDeleted(t *testing.T) {
	withDefinitions(t, func(t *testing.T, r *Registry) {
		object := site(t, `spec: {host: a}`)
		object.SetFinalizers([]string{"example.com/hold"})
		mustCreate(t, r, object, core.WriteOptions{})
		key := core.Key{Group: core.Definitions.Group, Resource: core.Definitions.Resource, Name: "sites.example.com"}
		_, live, err := r.Delete(t.Context(), key, core.DeleteOptions{})
		if err != nil || !live {
			t.Fatalf("deleted at once: %v %v", live, err)
		}
		time.Sleep(time.Minute)
		another := site(t, `spec: {host: a}`)
		another.SetName("b")
		if _, err := r.Create(t.Context(), another, core.WriteOptions{}); !apierrors.IsMethodNotSupported(err) {
			t.Errorf("created while the definition goes: %v", err)
		}
		if _, ok := r.Snapshot().Get(siteKey); !ok {
			t.Fatal("the object went without its finalizer")
		}
		_, err = r.Mutate(t.Context(), siteKey, func(o core.Object) error { o.SetFinalizers(nil); return nil }, core.WriteOptions{})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if _, ok := r.Snapshot().Get(key); ok {
			t.Error("the definition has stayed")
		}
		if _, ok := r.KindOf(siteKey.GroupResource()); ok {
			t.Error("the kind is still served")
		}
	})
}

func TestNamesConflict(t *testing.T) {
	withDefinitions(t, func(t *testing.T, r *Registry) {
		other := definition(t, strings.NewReplacer("plural: sites", "plural: places", "sites.example.com", "places.example.com").Replace(siteDefinition))
		time.Sleep(time.Second)
		mustCreate(t, r, other, core.WriteOptions{})
		synctest.Wait()
		d := getDefinition(t, r, "places.example.com")
		if got, want := conditions(d), "NamesAccepted=False/ListKindConflict Established=False/NotAccepted"; got != want {
			t.Errorf("conditions %q, want %q", got, want)
		}
		first := core.Key{Group: core.Definitions.Group, Resource: core.Definitions.Resource, Name: "sites.example.com"}
		if _, _, err := r.Delete(t.Context(), first, core.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		d = getDefinition(t, r, "places.example.com")
		if got, want := conditions(d), "NamesAccepted=True/NoConflicts Established=True/InitialNamesAccepted"; got != want {
			t.Errorf("conditions %q once the names are free, want %q", got, want)
		}
	})
}

func TestRefusedDefinitions(t *testing.T) {
	r, _ := open(t)
	for change, want := range map[string][2]string{
		"rules":      {"required: [host]", "required: [host]\n            x-kubernetes-validations: [{rule: 'true'}]"},
		"structure":  {"host: {type: string,", "host: {"},
		"conversion": {"scope: Namespaced", "scope: Namespaced\n  conversion: {strategy: Webhook}"},
		"columns":    {"jsonPath: .spec.host}\n", "jsonPath: '.spec[' }\n"},
	} {
		t.Run(change, func(t *testing.T) {
			text := strings.Replace(siteDefinition, want[0], want[1], 1)
			if text == siteDefinition {
				t.Fatal("nothing is changed")
			}
			_, err := r.Create(t.Context(), definition(t, text), core.WriteOptions{})
			if !apierrors.IsInvalid(err) {
				t.Errorf("accepted: %v", err)
			}
		})
	}
}

// TestKindsFromTheStart: a registry over a store that has definitions serves
// them before it runs.
func TestKindsFromTheStart(t *testing.T) {
	store := registrytest.NewStore()
	d := definition(t, siteDefinition)
	d.UID, d.CreationTimestamp = "u", metav1.Now()
	key := core.Key{Group: core.Definitions.Group, Resource: core.Definitions.Resource, Name: d.Name}
	if _, err := store.Commit(t.Context(), store.Epoch(), []core.Op{{Key: key, Object: d}}); err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{Store: store, Strategies: builtinAndDefinitions()})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := r.KindOf(siteKey.GroupResource()); !ok {
		t.Error("the kind is not served")
	}
}
