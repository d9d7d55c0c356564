package wire

import (
	"encoding/json"
	"fmt"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/weftrun/weft/core"
)

func kindTo(gvk schema.GroupVersionKind, resource core.GroupResource) *Kind {
	return &Kind{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind, Resource: resource.Resource}
}

func (k *Kind) to() (schema.GroupVersionKind, core.GroupResource) {
	return schema.GroupVersionKind{Group: k.GetGroup(), Version: k.GetVersion(), Kind: k.GetKind()},
		core.GroupResource{Group: k.GetGroup(), Resource: k.GetResource()}
}

// FromDescription converts what a controller says of itself.
func FromDescription(d core.Description) (*Description, error) {
	out := &Description{Name: d.Name, Kind: kindTo(d.Kind, d.Resource)}
	if d.Definition != nil {
		definition, err := json.Marshal(d.Definition)
		if err != nil {
			return nil, fmt.Errorf("encode definition of %s: %w", d.Name, err)
		}
		out.Definition = definition
	}
	for _, child := range d.Children {
		out.Children = append(out.Children, &Child{Kind: kindTo(child.Kind, child.Resource), Adopt: child.Adopt})
	}
	return out, nil
}

// ToDescription converts and checks what a plugin says of a controller.
func ToDescription(d *Description) (core.Description, error) {
	out := core.Description{Name: d.GetName()}
	out.Kind, out.Resource = d.GetKind().to()
	if problems := validation.IsDNS1123Label(out.Name); len(problems) > 0 {
		return out, fmt.Errorf("controller %.100q: name: %s", out.Name, problems[0])
	}
	if err := checkKind(d.GetKind()); err != nil {
		return out, fmt.Errorf("controller %s: %w", out.Name, err)
	}
	if n := len(d.GetDefinition()); n > maxObject {
		return out, fmt.Errorf("controller %s: a definition of %d bytes is too large: it may have at most %d", out.Name, n, maxObject)
	}
	if len(d.GetDefinition()) > 0 {
		out.Definition = &apiextensionsv1.CustomResourceDefinition{}
		if err := json.Unmarshal(d.GetDefinition(), out.Definition); err != nil {
			return out, fmt.Errorf("controller %s: definition: %w", out.Name, err)
		}
		if s := out.Definition.Spec; s.Group != out.Kind.Group || s.Names.Kind != out.Kind.Kind || s.Names.Plural != out.Resource.Resource {
			return out, fmt.Errorf("controller %s: its definition is of %s in group %q, not of its own kind %s", out.Name, s.Names.Kind, s.Group, out.Kind)
		}
	}
	if n := len(d.GetChildren()); n > maxChildren {
		return out, fmt.Errorf("controller %s: children: %d kinds are too many: at most %d are allowed", out.Name, n, maxChildren)
	}
	for i, child := range d.GetChildren() {
		if err := checkKind(child.GetKind()); err != nil {
			return out, fmt.Errorf("controller %s: children[%d]: %w", out.Name, i, err)
		}
		c := core.Child{Adopt: child.GetAdopt()}
		c.Kind, c.Resource = child.GetKind().to()
		out.Children = append(out.Children, c)
	}
	return out, nil
}

func checkKind(k *Kind) error {
	if k.GetVersion() == "" || k.GetKind() == "" || k.GetResource() == "" {
		return fmt.Errorf("kind %q: version, kind and resource must all be given", k.GetKind())
	}
	return nil
}

// FromRelations converts what a controller wants to see.
func FromRelations(relations []core.Relation) []*Relation {
	var out []*Relation
	for _, r := range relations {
		w := &Relation{Group: r.Resource.Group, Resource: r.Resource.Resource, Namespace: r.Namespace, Name: r.Name}
		if r.Selector != nil {
			w.Selector, w.Selects = r.Selector.String(), true
		}
		out = append(out, w)
	}
	return out
}

// ToRelations converts and checks what a plugin wants to see.
func ToRelations(relations []*Relation) ([]core.Relation, error) {
	var out []core.Relation
	for i, w := range relations {
		r := core.Relation{
			Resource:  core.GroupResource{Group: w.GetGroup(), Resource: w.GetResource()},
			Namespace: w.GetNamespace(), Name: w.GetName(),
		}
		if w.GetSelects() == (w.GetName() != "") || w.GetResource() == "" {
			return nil, fmt.Errorf("relations[%d]: a resource and either a name or a selector must be given", i)
		}
		if w.GetSelects() {
			selector, err := labels.Parse(w.GetSelector())
			if err != nil {
				return nil, fmt.Errorf("relations[%d].selector: %w", i, err)
			}
			r.Selector = selector
		}
		out = append(out, r)
	}
	return out, nil
}
