package reconcile

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/weftrun/weft/core"
)

// maxName bounds a controller's name: it is part of its memories' names.
const maxName = 63

// entry is a controller in service. It is immutable.
type entry struct {
	core.Controller
	core.Description
	// source is the component that events come from.
	source string
	// children are the declared kinds.
	children map[schema.GroupKind]core.Child
	byChild  map[core.GroupResource]core.Child
}

func newEntry(c core.Controller) (*entry, error) {
	d := c.Describe()
	if d.Name == "" || d.Kind.Kind == "" || d.Resource.Resource == "" {
		return nil, fmt.Errorf("controller %q: name, kind and resource are required", d.Name)
	}
	if msgs := validation.IsDNS1123Subdomain(d.Name); len(msgs) > 0 || len(d.Name) > maxName {
		return nil, fmt.Errorf("controller %q: its name must be a DNS subdomain of at most %d characters", d.Name, maxName)
	}
	if def := d.Definition; def != nil && (def.Spec.Group != d.Kind.Group || def.Spec.Names.Kind != d.Kind.Kind || def.Spec.Names.Plural != d.Resource.Resource) {
		return nil, fmt.Errorf("controller %q: its definition is of %s.%s, its kind is %s", d.Name, def.Spec.Names.Kind, def.Spec.Group, d.Kind.GroupKind())
	}
	e := &entry{
		Controller: c, Description: d, source: d.Name + "-controller",
		children: make(map[schema.GroupKind]core.Child, len(d.Children)),
		byChild:  make(map[core.GroupResource]core.Child, len(d.Children)),
	}
	if strings.HasSuffix(d.Name, "-controller") {
		e.source = d.Name
	}
	for _, child := range d.Children {
		e.children[child.Kind.GroupKind()] = child
		e.byChild[child.Resource] = child
	}
	return e, nil
}

// owns tells whether a finalizer on a parent is this controller's.
func (e *entry) owns(finalizer string) bool {
	domain, _, found := strings.Cut(finalizer, "/")
	return found && (domain == e.Name || (domain != "" && domain == e.Kind.Group))
}

// holds tells whether the object has a finalizer of this controller.
func (e *entry) holds(o core.Object) bool { return slices.ContainsFunc(o.GetFinalizers(), e.owns) }

// parentKey returns the key of the parent that owner names, for a child in
// namespace; false if it is not of this controller's parent kind.
func (e *entry) parentKey(owner *metav1.OwnerReference, namespace string, parentNamespaced bool) (core.Key, bool) {
	if owner.Kind != e.Kind.Kind || groupOf(owner.APIVersion) != e.Kind.Group {
		return core.Key{}, false
	}
	if !parentNamespaced {
		namespace = ""
	}
	return core.Key{Group: e.Resource.Group, Resource: e.Resource.Resource, Namespace: namespace, Name: owner.Name}, true
}

func groupOf(apiVersion string) string {
	group, _, found := strings.Cut(apiVersion, "/")
	if !found {
		return ""
	}
	return group
}

// table is the set of controllers in service. It is immutable.
type table struct {
	byName   map[string]*entry
	byParent map[core.GroupResource][]*entry
	byChild  map[core.GroupResource][]*entry
}

// newTable makes a table of the controllers that can serve; the errors tell
// why others cannot.
func newTable(controllers []core.Controller) (*table, []error) {
	t := &table{
		byName: map[string]*entry{}, byParent: map[core.GroupResource][]*entry{},
		byChild: map[core.GroupResource][]*entry{},
	}
	var errs []error
	for _, c := range controllers {
		e, err := newEntry(c)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if _, taken := t.byName[e.Name]; taken {
			errs = append(errs, fmt.Errorf("controller %q: there are two of that name; the first one serves", e.Name))
			continue
		}
		t.byName[e.Name] = e
		t.byParent[e.Resource] = append(t.byParent[e.Resource], e)
		for resource := range e.byChild {
			t.byChild[resource] = append(t.byChild[resource], e)
		}
	}
	return t, errs
}
