package plugins

import (
	"bytes"
	"encoding/json"
	"fmt"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json" // whole numbers as int64, as elsewhere
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/weftrun/weft/core"
)

// ParseDefinition reads a CustomResourceDefinition in YAML or JSON, such as an
// embedded file. Unknown fields are errors.
func ParseDefinition(data []byte) (*apiextensionsv1.CustomResourceDefinition, error) {
	text, err := yaml.ToJSON(data)
	if err != nil {
		return nil, fmt.Errorf("parse definition: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	d := &apiextensionsv1.CustomResourceDefinition{}
	if err := decoder.Decode(d); err != nil {
		return nil, fmt.Errorf("parse definition: %w", err)
	}
	if d.APIVersion != "apiextensions.k8s.io/v1" || d.Kind != "CustomResourceDefinition" {
		return nil, fmt.Errorf("parse definition: it is a %q of %q, a CustomResourceDefinition of apiextensions.k8s.io/v1 is wanted", d.Kind, d.APIVersion)
	}
	if _, ok := storageVersion(d); !ok || d.Spec.Group == "" || d.Spec.Names.Kind == "" || d.Spec.Names.Plural == "" {
		return nil, fmt.Errorf("parse definition %q: spec.group, spec.names.kind, spec.names.plural and one version with storage: true are required", d.Name)
	}
	return d, nil
}

// Describe describes a controller of a kind that it brings along, decided upon
// in its storage version.
func Describe(name string, definition *apiextensionsv1.CustomResourceDefinition, children ...core.Child) core.Description {
	version, _ := storageVersion(definition)
	return core.Description{
		Name:       name,
		Kind:       schema.GroupVersionKind{Group: definition.Spec.Group, Version: version, Kind: definition.Spec.Names.Kind},
		Resource:   core.GroupResource{Group: definition.Spec.Group, Resource: definition.Spec.Names.Plural},
		Definition: definition, Children: children,
	}
}

func storageVersion(d *apiextensionsv1.CustomResourceDefinition) (string, bool) {
	for i := range d.Spec.Versions {
		if d.Spec.Versions[i].Storage {
			return d.Spec.Versions[i].Name, true
		}
	}
	return "", false
}

// Decode converts an object of a kind that a plugin brings along to a Go type
// of the plugin's own, which it shares nothing with.
func Decode[T any](object core.Object) (*T, error) {
	u, ok := object.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("decode %T %s: it has a Go type", object, object.GetName())
	}
	out := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.DeepCopy().Object, out); err != nil {
		return nil, fmt.Errorf("decode %s %s: %w", u.GetKind(), u.GetName(), err)
	}
	return out, nil
}

// WithStatus returns what a Decision's Status is to be: the parent's identity
// with a status, which is a struct, or a pointer to one, with JSON tags.
func WithStatus(parent core.Object, status any) (core.Object, error) {
	data, err := json.Marshal(status)
	if err != nil {
		return nil, fmt.Errorf("encode status of %s: %w", parent.GetName(), err)
	}
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetGroupVersionKind(parent.GetObjectKind().GroupVersionKind())
	u.SetNamespace(parent.GetNamespace())
	u.SetName(parent.GetName())
	u.SetUID(parent.GetUID())
	fields := map[string]any{}
	if err := utiljson.Unmarshal(data, &fields); err != nil {
		return nil, fmt.Errorf("encode status of %s: %w", parent.GetName(), err)
	}
	u.Object["status"] = fields
	return u, nil
}
