package apiserver

import (
	"fmt"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/weftrun/weft/core"
)

// selector says which objects of a kind are asked for.
type selector struct {
	labels labels.Selector // nil: all
	fields fields.Selector // nil: all
	name   string          // what fields demand of metadata.name, "" for anything
	node   string          // what fields demand of spec.nodeName of pods
	of     func(core.Object) map[string]string
}

// all tells that nothing is left out.
func (s *selector) all() bool { return s.labels == nil && s.fields == nil }

// parseSelector reads labelSelector and fieldSelector.
func parseSelector(query url.Values, kind *core.Kind, version string) (selector, error) {
	s := selector{of: kind.Fields}
	if text := query.Get("labelSelector"); text != "" {
		parsed, err := labels.Parse(text)
		if err != nil {
			return s, apierrors.NewBadRequest(fmt.Sprintf("unable to parse requirement in labelSelector %q: %v", text, err))
		}
		if !parsed.Empty() {
			s.labels = parsed
		}
	}
	text := query.Get("fieldSelector")
	if text == "" {
		return s, nil
	}
	parsed, err := fields.ParseSelector(text)
	if err != nil {
		return s, apierrors.NewBadRequest(fmt.Sprintf("unable to parse fieldSelector %q: %v", text, err))
	}
	if parsed.Empty() {
		return s, nil
	}
	s.fields = parsed
	known := knownFields(kind, version)
	for _, r := range parsed.Requirements() {
		if !known[r.Field] {
			return s, apierrors.NewBadRequest("field label not supported: " + r.Field)
		}
	}
	s.name, _ = parsed.RequiresExactMatch("metadata.name")
	if kind.Group == "" && kind.Resource == "pods" {
		s.node, _ = parsed.RequiresExactMatch("spec.nodeName")
	}
	return s, nil
}

// knownFields are the field labels of a kind: those of an empty object.
func knownFields(kind *core.Kind, version string) map[string]bool {
	known := map[string]bool{"metadata.name": true}
	if kind.Namespaced {
		known["metadata.namespace"] = true
	}
	if kind.Fields == nil {
		return known
	}
	var empty core.Object = &unstructured.Unstructured{Object: map[string]any{}}
	if !kind.Custom {
		object, err := newObject(kind.GroupVersionKind(kind.Storage))
		if err != nil {
			return known
		}
		empty = object
	}
	empty.GetObjectKind().SetGroupVersionKind(kind.GroupVersionKind(version))
	for label := range kind.Fields(empty) {
		known[label] = true
	}
	return known
}

// matches tells whether object is asked for.
func (s *selector) matches(object core.Object) bool {
	if s.name != "" && object.GetName() != s.name {
		return false
	}
	if s.labels != nil && !s.labels.Matches(labels.Set(object.GetLabels())) {
		return false
	}
	return s.fields == nil || s.fields.Matches(objectFields{object: object, of: s.of})
}

// objectFields shows an object's fields to a field selector. It is built
// anew for each object but calls Fields only for fields that need it.
type objectFields struct {
	object core.Object
	of     func(core.Object) map[string]string
}

func (f objectFields) Has(field string) bool { return f.Get(field) != "" }

func (f objectFields) Get(field string) string {
	switch {
	case field == "metadata.name":
		return f.object.GetName()
	case field == "metadata.namespace":
		return f.object.GetNamespace()
	case f.of == nil:
		return ""
	}
	return f.of(f.object)[field]
}
