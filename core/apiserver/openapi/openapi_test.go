package openapi

import (
	"encoding/json"
	"iter"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	kschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/spec3"

	"github.com/weftrun/weft/core"
)

type catalogue struct {
	kinds      []*core.Kind
	generation int64
}

func (c *catalogue) Kinds() iter.Seq[*core.Kind]                    { return slices.Values(c.kinds) }
func (c *catalogue) KindOf(core.GroupResource) (*core.Kind, bool)   { return nil, false }
func (c *catalogue) KindNamed(kschema.GroupKind) (*core.Kind, bool) { return nil, false }
func (c *catalogue) Generation() int64                              { return c.generation }

func kinds() *catalogue {
	return &catalogue{kinds: []*core.Kind{
		{
			Group: "apps", Kind: "Deployment", ListKind: "DeploymentList", Resource: "deployments", Namespaced: true,
			Storage: "v1", Versions: []core.Version{{Name: "v1"}}, Subresources: []string{"status", "scale"},
		},
		{
			Group: "example.com", Kind: "Widget", ListKind: "WidgetList", Resource: "widgets", Namespaced: true, Custom: true,
			Storage: "v1", Versions: []core.Version{{Name: "v1", Schema: &apiextensionsv1.JSONSchemaProps{
				Type: "object", Description: "A Widget.",
				Properties: map[string]apiextensionsv1.JSONSchemaProps{"spec": {Type: "object", Required: []string{"size"}}},
			}}},
		},
		{Kind: "Pod", ListKind: "PodList", Resource: "pods", Namespaced: true, Storage: "v1", Versions: []core.Version{{Name: "v1"}}},
	}}
}

func parse(t *testing.T, d *Documents, path string) *spec3.OpenAPI {
	t.Helper()
	doc, err := d.Document(path)
	if err != nil || doc == nil {
		t.Fatalf("document %s: %v, %v", path, doc, err)
	}
	data, err := doc.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var parsed spec3.OpenAPI
	if err := json.Unmarshal(data, &parsed); err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split(string(data), `"$ref":"#/components/schemas/`)[1:] {
		name, _, _ := strings.Cut(part, `"`)
		if parsed.Components.Schemas[name] == nil {
			t.Fatalf("%s refers to %s, which it does not define", path, name)
		}
	}
	return &parsed
}

func TestBuiltinDocument(t *testing.T) {
	d := New(kinds(), "v1.36.6+weft")
	core := parse(t, d, "api/v1")
	spec := core.Components.Schemas["io.k8s.api.core.v1.PodSpec"]
	if spec == nil || !slices.Equal(spec.Required, []string{"containers"}) {
		t.Fatalf("PodSpec requires %v", spec)
	}
	containers := spec.Properties["containers"]
	if !strings.HasPrefix(containers.Description, "List of containers belonging to the pod") {
		t.Errorf("containers: %q", containers.Description)
	}
	if containers.Extensions["x-kubernetes-patch-merge-key"] != "name" || containers.Extensions["x-kubernetes-patch-strategy"] != "merge" {
		t.Errorf("containers: %v", containers.Extensions)
	}
	for name, want := range map[string]string{
		"io.k8s.apimachinery.pkg.apis.meta.v1.Time": "date-time", "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "int-or-string",
	} {
		if s := core.Components.Schemas[name]; s == nil || s.Format != want {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if core.Components.Schemas["io.k8s.apimachinery.pkg.api.resource.Quantity"] == nil {
		t.Error("no Quantity")
	}
	apps := parse(t, d, "apis/apps/v1")
	patch := apps.Paths.Paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"].Patch
	if patch == nil || patch.Extensions["x-kubernetes-action"] != "patch" {
		t.Fatalf("patch: %+v", patch)
	}
	if !slices.ContainsFunc(patch.Parameters, func(p *spec3.Parameter) bool { return p.Name == "fieldValidation" && p.In == "query" }) {
		t.Error("patch has no fieldValidation")
	}
}

func TestCustomDocument(t *testing.T) {
	d := New(kinds(), "v1")
	doc := parse(t, d, "apis/example.com/v1")
	widget := doc.Components.Schemas["com.example.v1.Widget"]
	if widget == nil || widget.Description != "A Widget." || len(widget.Properties) != 4 {
		t.Fatalf("widget: %+v", widget)
	}
	if spec := widget.Properties["spec"]; !slices.Equal(spec.Required, []string{"size"}) {
		t.Errorf("spec: %+v", spec)
	}
}

func TestHashFollowsTheSchema(t *testing.T) {
	c := kinds()
	d := New(c, "v1")
	before := d.Index()
	c.generation++
	same := d.Index()
	if before["apis/example.com/v1"] != same["apis/example.com/v1"] {
		t.Error("the hash changed without a change")
	}
	custom := *c.kinds[1]
	custom.Versions = []core.Version{{Name: "v1", Schema: &apiextensionsv1.JSONSchemaProps{Type: "object"}}}
	c.kinds[1] = &custom
	c.generation++
	after := d.Index()
	if before["apis/example.com/v1"] == after["apis/example.com/v1"] || before["api/v1"] != after["api/v1"] {
		t.Errorf("before %v, after %v", before, after)
	}
}

func BenchmarkBuild(b *testing.B) {
	c := kinds()
	for b.Loop() {
		data, err := build([]served{{c.kinds[2], &c.kinds[2].Versions[0]}}, "v1")
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(data)))
	}
}
