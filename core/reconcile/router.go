package reconcile

import (
	"maps"
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/weftrun/weft/core"
)

// router finds the subjects that a change concerns. It is safe for concurrent
// use.
type router struct {
	kinds core.Kinds

	mu    sync.RWMutex
	table *table
	// held are the relations of each subject; named and selected find them.
	held     map[subject]relations
	named    map[core.Key]map[subject]struct{}
	selected map[core.GroupResource]map[subject]struct{}
	// orphans are the adoptable objects that no controller owns, by resource
	// and namespace.
	orphans map[place]map[core.Key]struct{}
}

type place struct {
	resource  core.GroupResource
	namespace string
}

// relations is what a controller wants to see for one subject.
type relations struct {
	signature string
	list      []core.Relation
}

func newRouter(kinds core.Kinds, t *table) *router {
	return &router{
		kinds: kinds, table: t, held: map[subject]relations{},
		named: map[core.Key]map[subject]struct{}{}, selected: map[core.GroupResource]map[subject]struct{}{},
		orphans: map[place]map[core.Key]struct{}{},
	}
}

func (r *router) current() *table {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.table
}

func (r *router) replace(t *table) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.table = t
}

// resources returns all resources that must be watched.
func (r *router) resources() map[core.GroupResource]struct{} {
	r.mu.RLock()
	defer r.mu.RUnlock()
	wanted := map[core.GroupResource]struct{}{}
	for resource := range r.table.byParent {
		wanted[resource] = struct{}{}
	}
	for resource := range r.table.byChild {
		wanted[resource] = struct{}{}
	}
	for resource := range r.selected {
		wanted[resource] = struct{}{}
	}
	for key := range r.named {
		wanted[key.GroupResource()] = struct{}{}
	}
	return wanted
}

// route calls yield for each subject that c may concern, some perhaps twice.
func (r *router) route(c *core.Change, snapshot core.Snapshot, yield func(subject)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	resource := c.Key.GroupResource()
	for _, e := range r.table.byParent[resource] {
		yield(subject{controller: e.Name, key: c.Key})
	}
	for _, e := range r.table.byChild[resource] {
		r.routeChild(e, c, snapshot, yield)
	}
	for s := range r.named[c.Key] {
		yield(s)
	}
	for s := range r.selected[resource] {
		if r.concerns(r.held[s].list, c) {
			yield(s)
		}
	}
}

func (r *router) routeChild(e *entry, c *core.Change, snapshot core.Snapshot, yield func(subject)) {
	namespaced := true
	if kind, ok := r.kinds.KindOf(e.Resource); ok {
		namespaced = kind.Namespaced
	}
	owner := metav1.GetControllerOfNoCopy(c.Object)
	if owner != nil {
		if key, ok := e.parentKey(owner, c.Key.Namespace, namespaced); ok {
			yield(subject{controller: e.Name, key: key})
		}
	}
	if c.Old != nil {
		before := metav1.GetControllerOfNoCopy(c.Old)
		if before != nil && (owner == nil || before.UID != owner.UID) {
			if key, ok := e.parentKey(before, c.Key.Namespace, namespaced); ok {
				yield(subject{controller: e.Name, key: key})
			}
		}
	}
	if owner != nil || c.Deleted || !e.byChild[c.Key.GroupResource()].Adopt || !strayed(c) {
		return
	}
	namespace := c.Key.Namespace
	if !namespaced {
		namespace = ""
	}
	set := labels.Set(c.Object.GetLabels())
	for key, parent := range snapshot.List(e.Resource, namespace) {
		if selectorOf(parent).Matches(set) {
			yield(subject{controller: e.Name, key: key})
		}
	}
}

// strayed tells whether an object without a controller has become one that
// somebody may want to adopt.
func strayed(c *core.Change) bool {
	return c.Old == nil || metav1.GetControllerOfNoCopy(c.Old) != nil || !maps.Equal(c.Old.GetLabels(), c.Object.GetLabels())
}

// concerns tells whether a change of an object, as it is or was, is one that
// the relations want to see.
func (r *router) concerns(list []core.Relation, c *core.Change) bool {
	for i := range list {
		if relates(&list[i], c.Key, c.Object) || (c.Old != nil && relates(&list[i], c.Key, c.Old)) {
			return true
		}
	}
	return false
}

func relates(rel *core.Relation, key core.Key, o core.Object) bool {
	if rel.Resource != key.GroupResource() || (rel.Namespace != "" && rel.Namespace != key.Namespace) {
		return false
	}
	if rel.Name != "" {
		return rel.Name == key.Name && rel.Namespace == key.Namespace
	}
	return rel.Selector == nil || rel.Selector.Matches(labels.Set(o.GetLabels()))
}

// relate makes list the relations of s. It returns the resources that it
// names, if anything has changed.
func (r *router) relate(s subject, list []core.Relation) (changed bool) {
	signature := sign(list)
	r.mu.RLock()
	same := r.held[s].signature == signature
	r.mu.RUnlock()
	if same {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unrelate(s)
	if len(list) == 0 {
		return true
	}
	r.held[s] = relations{signature: signature, list: slices.Clone(list)}
	for i := range list {
		if rel := &list[i]; rel.Name != "" {
			insert(r.named, nameKey(rel), s)
		} else {
			insert(r.selected, rel.Resource, s)
		}
	}
	return true
}

// forget drops what is known of s.
func (r *router) forget(s subject) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unrelate(s)
}

func (r *router) unrelate(s subject) {
	for i := range r.held[s].list {
		if rel := &r.held[s].list[i]; rel.Name != "" {
			remove(r.named, nameKey(rel), s)
		} else {
			remove(r.selected, rel.Resource, s)
		}
	}
	delete(r.held, s)
}

func nameKey(rel *core.Relation) core.Key {
	return core.Key{Group: rel.Resource.Group, Resource: rel.Resource.Resource, Namespace: rel.Namespace, Name: rel.Name}
}

func sign(list []core.Relation) string {
	var b strings.Builder
	for i := range list {
		rel := &list[i]
		b.WriteString(rel.Resource.String() + "\x00" + rel.Namespace + "\x00" + rel.Name + "\x00")
		if rel.Selector != nil {
			b.WriteString(rel.Selector.String())
		}
		b.WriteByte(1)
	}
	return b.String()
}

// note keeps the set of orphans up to date.
func (r *router) note(c *core.Change) {
	r.mu.RLock()
	adoptable := r.adoptable(c.Key.GroupResource())
	r.mu.RUnlock()
	if !adoptable {
		return
	}
	orphan := !c.Deleted && metav1.GetControllerOfNoCopy(c.Object) == nil
	was := c.Old != nil && metav1.GetControllerOfNoCopy(c.Old) == nil
	if !orphan && !was && (c.Old != nil || !c.Deleted) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if at := (place{c.Key.GroupResource(), c.Key.Namespace}); orphan {
		insert(r.orphans, at, c.Key)
	} else {
		remove(r.orphans, at, c.Key)
	}
}

func (r *router) adoptable(resource core.GroupResource) bool {
	return slices.ContainsFunc(r.table.byChild[resource], func(e *entry) bool { return e.byChild[resource].Adopt })
}

// strays returns the orphans of a resource in a namespace (empty: in all).
func (r *router) strays(resource core.GroupResource, namespace string) []core.Key {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if namespace != "" {
		return slices.Collect(maps.Keys(r.orphans[place{resource, namespace}]))
	}
	var keys []core.Key
	for at, set := range r.orphans {
		if at.resource == resource {
			keys = slices.AppendSeq(keys, maps.Keys(set))
		}
	}
	return keys
}

func insert[K, V comparable](m map[K]map[V]struct{}, k K, v V) {
	set := m[k]
	if set == nil {
		set = map[V]struct{}{}
		m[k] = set
	}
	set[v] = struct{}{}
}

func remove[K, V comparable](m map[K]map[V]struct{}, k K, v V) {
	delete(m[k], v)
	if len(m[k]) == 0 {
		delete(m, k)
	}
}

// resetOrphans forgets the orphans of a resource, before all are noted anew.
func (r *router) resetOrphans(resource core.GroupResource) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for at := range r.orphans {
		if at.resource == resource {
			delete(r.orphans, at)
		}
	}
}
