package store

import (
	"iter"
	"strings"

	"github.com/tidwall/btree"

	"github.com/weftrun/weft/core"
)

// view implements core.Snapshot over trees that nobody changes any more.
type view struct {
	revision int64
	sequence uint64 // the newest record of the log that it contains
	objects  int
	tables   map[core.GroupResource]*table
	indexes  [indexes]*btree.BTreeG[posting]
}

var _ core.Snapshot = (*view)(nil)

// Revision implements core.Snapshot.
func (v *view) Revision() int64 { return v.revision }

// Count implements core.Snapshot.
func (v *view) Count(resource core.GroupResource) int {
	if t := v.tables[resource]; t != nil {
		return t.Len()
	}
	return 0
}

// Get implements core.Snapshot.
func (v *view) Get(key core.Key) (core.Object, bool) {
	if e := v.get(key); e != nil {
		return e.object, true
	}
	return nil, false
}

func (v *view) get(key core.Key) *entry {
	t := v.tables[key.GroupResource()]
	if t == nil {
		return nil
	}
	e, _ := t.Get(pathOf(key.Namespace, key.Name))
	return e
}

// List implements core.Snapshot.
func (v *view) List(resource core.GroupResource, namespace string) iter.Seq2[core.Key, core.Object] {
	return func(yield func(core.Key, core.Object) bool) {
		t := v.tables[resource]
		if t == nil {
			return
		}
		if namespace == "" {
			t.Scan(func(_ string, e *entry) bool { return yield(e.key, e.object) })
			return
		}
		t.Ascend(pathOf(namespace, ""), func(_ string, e *entry) bool {
			return e.key.Namespace == namespace && yield(e.key, e.object)
		})
	}
}

// Indexed implements core.Snapshot.
func (v *view) Indexed(index core.Index, value string) iter.Seq2[core.Key, core.Object] {
	return func(yield func(core.Key, core.Object) bool) {
		i, ok := indexOf(index)
		if !ok {
			return
		}
		v.indexes[i].Ascend(posting{value: value}, func(p posting) bool {
			return p.value == value && yield(p.entry.key, p.entry.object)
		})
	}
}

// all yields every entry, ordered by resource and path within it.
func (v *view) all(resources []core.GroupResource, yield func(*entry) bool) {
	for _, resource := range resources {
		more := true
		v.tables[resource].Scan(func(_ string, e *entry) bool {
			more = yield(e)
			return more
		})
		if !more {
			return
		}
	}
}

// resources returns the resources that ever had objects, in order.
func (v *view) resources() []core.GroupResource {
	all := make([]core.GroupResource, 0, len(v.tables))
	for resource := range v.tables {
		all = append(all, resource)
	}
	sortResources(all)
	return all
}

func hasNamespace(t *table, namespace string) bool {
	found := false
	t.Ascend(pathOf(namespace, ""), func(path string, _ *entry) bool {
		found = strings.HasPrefix(path, pathOf(namespace, ""))
		return false
	})
	return found
}
