package registry

import (
	"slices"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weftrun/weft/core"
)

// entry is a strategy as the write path uses it.
type entry struct {
	*Strategy
	kind     *core.Kind
	resource core.GroupResource
	custom   *custom // nil for kinds known at build time

	// managers holds a *managedfields.FieldManager by managerKey: each is
	// built when it is first needed, for it is big.
	managers sync.Map

	// owned is the short way to a new object's managedFields, or nil where
	// there is none. It is made when it is first needed.
	ownedOnce sync.Once
	owned     *owned
}

func newEntry(s *Strategy) *entry {
	return &entry{Strategy: s, kind: &s.Kind, resource: s.Kind.GroupResource()}
}

// gvk is the kind's name in its storage version.
func (e *entry) gvk() schema.GroupVersionKind { return e.kind.GroupVersionKind("") }

// serves tells whether version is one of the kind's; empty is the storage one.
func (e *entry) serves(version string) bool {
	return version == "" || version == e.kind.Storage ||
		slices.ContainsFunc(e.kind.Versions, func(v core.Version) bool { return v.Name == version })
}

// catalogue is all that is served at one time; it is immutable.
type catalogue struct {
	generation int64
	ordered    []*entry
	byResource map[core.GroupResource]*entry
	byKind     map[schema.GroupKind]*entry
}

func newCatalogue(generation int64, entries []*entry) *catalogue {
	c := &catalogue{
		generation: generation,
		ordered:    slices.Clone(entries),
		byResource: make(map[core.GroupResource]*entry, len(entries)),
		byKind:     make(map[schema.GroupKind]*entry, len(entries)),
	}
	slices.SortFunc(c.ordered, func(a, b *entry) int {
		if n := strings.Compare(a.resource.Group, b.resource.Group); n != 0 {
			return n
		}
		return strings.Compare(a.resource.Resource, b.resource.Resource)
	})
	for _, e := range c.ordered {
		c.byResource[e.resource] = e
		c.byKind[schema.GroupKind{Group: e.kind.Group, Kind: e.kind.Kind}] = e
	}
	return c
}

// entryOf finds what serves key.
func (r *Registry) entryOf(key core.Key) (*entry, error) {
	e, ok := r.kinds.Load().byResource[key.GroupResource()]
	if !ok {
		return nil, apierrors.NewNotFound(key.GroupResource(), key.Name)
	}
	if e.kind.Namespaced && key.Namespace == "" {
		return nil, apierrors.NewBadRequest("namespace is required for " + e.resource.String())
	}
	if !e.kind.Namespaced && key.Namespace != "" {
		return nil, apierrors.NewBadRequest(e.resource.String() + " are not namespaced")
	}
	return e, nil
}

// entryFor finds what serves the kind of object.
func (r *Registry) entryFor(object core.Object) (*entry, error) {
	gvk := object.GetObjectKind().GroupVersionKind()
	e, ok := r.kinds.Load().byKind[gvk.GroupKind()]
	if !ok {
		return nil, apierrors.NewBadRequest("no kind " + gvk.String() + " is served")
	}
	return e, nil
}
