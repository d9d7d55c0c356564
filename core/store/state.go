package store

import (
	"maps"
	"slices"
	"strings"

	"github.com/tidwall/btree"
	corev1 "k8s.io/api/core/v1"

	"github.com/weftrun/weft/core"
)

// treeDegree balances the depth of a tree against what a commit copies of it
// because a snapshot shares it.
const treeDegree = 16

// entry is an object as kept. It is immutable.
type entry struct {
	path     string   // namespace, zero byte, name: its place in the table
	key      core.Key // its namespace and name are slices of path
	object   core.Object
	revision int64
	size     int // of the object's encoding in bytes
}

// table holds the entries of one resource by path.
type table = btree.Map[string, *entry]

// posting puts an entry under a value of an index. As a pivot it has no entry
// and stands before all postings of its value.
type posting struct {
	value string
	entry *entry
}

func (p posting) less(o posting) bool {
	if c := strings.Compare(p.value, o.value); c != 0 {
		return c < 0
	}
	if p.entry == nil || o.entry == nil {
		return p.entry == nil && o.entry != nil
	}
	return p.entry.key.Less(o.entry.key)
}

// The indexes, as places in an array.
const (
	ownerIndex = iota
	uidIndex
	nodeIndex
	indexes
)

func indexOf(name core.Index) (int, bool) {
	switch name {
	case core.ByOwner:
		return ownerIndex, true
	case core.ByUID:
		return uidIndex, true
	case core.ByNode:
		return nodeIndex, true
	}
	return 0, false
}

// state is the live trees. It has one owner, the goroutine that applies; what
// others see are the views that it freezes.
type state struct {
	tables  map[core.GroupResource]*table
	indexes [indexes]*btree.BTreeG[posting]
	objects int

	// What has changed since the last freeze, and what that returned.
	dirtyTables  map[core.GroupResource]*table
	dirtyIndexes [indexes]bool
	frozen       *view
}

func newState() *state {
	s := &state{
		tables:      map[core.GroupResource]*table{},
		dirtyTables: map[core.GroupResource]*table{},
		frozen:      &view{tables: map[core.GroupResource]*table{}},
	}
	for i := range s.indexes {
		s.indexes[i] = btree.NewBTreeGOptions(posting.less, btree.Options{NoLocks: true, Degree: treeDegree})
		s.frozen.indexes[i] = s.indexes[i].Copy()
	}
	return s
}

func pathOf(namespace, name string) string { return namespace + "\x00" + name }

// newEntry makes an entry whose strings share memory with each other, and with
// the entry that it replaces, if any.
func newEntry(key core.Key, object core.Object, revision int64, size int, old *entry) *entry {
	if old != nil {
		return &entry{path: old.path, key: old.key, object: object, revision: revision, size: size}
	}
	path := pathOf(key.Namespace, key.Name)
	key.Namespace, key.Name = path[:len(key.Namespace)], path[len(key.Namespace)+1:]
	return &entry{path: path, key: key, object: object, revision: revision, size: size}
}

func (s *state) table(resource core.GroupResource) *table {
	t := s.tables[resource]
	if t == nil {
		t = btree.NewMap[string, *entry](treeDegree)
		s.tables[resource] = t
	}
	s.dirtyTables[resource] = t
	return t
}

// set puts e in the place of old, which is nil for a new object.
func (s *state) set(e, old *entry) {
	s.table(e.key.GroupResource()).Set(e.path, e)
	if old == nil {
		s.objects++
	}
	s.index(e, old)
}

// load is set for new objects in order.
func (s *state) load(e *entry) bool {
	if _, replaced := s.table(e.key.GroupResource()).Load(e.path, e); replaced {
		return false
	}
	s.objects++
	s.index(e, nil)
	return true
}

// remove takes old out.
func (s *state) remove(old *entry) {
	s.table(old.key.GroupResource()).Delete(old.path)
	s.objects--
	s.index(nil, old)
}

func (s *state) get(key core.Key) *entry {
	if t := s.tables[key.GroupResource()]; t != nil {
		e, _ := t.Get(pathOf(key.Namespace, key.Name))
		return e
	}
	return nil
}

func (s *state) index(e, old *entry) {
	var values, before [4]string // most objects have fewer owners
	for i := range s.indexes {
		now, was := indexValues(i, e, values[:0]), indexValues(i, old, before[:0])
		for _, v := range now {
			s.indexes[i].Set(posting{v, e})
		}
		for _, v := range was {
			if !slices.Contains(now, v) {
				s.indexes[i].Delete(posting{v, old})
			}
		}
		s.dirtyIndexes[i] = s.dirtyIndexes[i] || len(now)+len(was) > 0
	}
}

// indexValues appends the values under which index i holds e to values.
func indexValues(i int, e *entry, values []string) []string {
	if e == nil {
		return values
	}
	switch i {
	case ownerIndex:
		for _, o := range e.object.GetOwnerReferences() {
			values = append(values, string(o.UID))
		}
	case uidIndex:
		if uid := e.object.GetUID(); uid != "" {
			values = append(values, string(uid))
		}
	case nodeIndex:
		if pod, ok := e.object.(*corev1.Pod); ok && e.key.GroupResource() == core.Pods {
			values = append(values, pod.Spec.NodeName)
		}
	}
	return values
}

// freeze returns a view of the state as it is now. It costs a few allocations
// for each resource that has changed since the last call.
func (s *state) freeze(revision int64, sequence uint64) *view {
	v := &view{
		revision: revision, sequence: sequence, objects: s.objects,
		tables: s.frozen.tables, indexes: s.frozen.indexes,
	}
	if len(s.dirtyTables) > 0 {
		v.tables = maps.Clone(v.tables)
		for resource, t := range s.dirtyTables {
			v.tables[resource] = t.Copy()
		}
		clear(s.dirtyTables)
	}
	for i, dirty := range s.dirtyIndexes {
		if dirty {
			v.indexes[i] = s.indexes[i].Copy()
			s.dirtyIndexes[i] = false
		}
	}
	s.frozen = v
	return v
}
