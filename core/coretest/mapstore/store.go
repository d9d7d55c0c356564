// Package mapstore is a core.Store in memory for tests: consistent, watchable
// and fast, with the semantics of the real one and nothing durable. It must
// not be used outside tests.
package mapstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"sync"

	"github.com/tidwall/btree"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/weftrun/weft/core"
)

// Store implements core.Store. It is safe for concurrent use.
type Store struct {
	mu       sync.Mutex
	now      *snapshot
	log      []core.Change
	previous map[place]int64
	moved    chan struct{} // closed and replaced with each commit
}

type place struct {
	resource  core.GroupResource
	namespace string
}

type entry struct {
	key    core.Key
	object core.Object
}

type indexed struct {
	index core.Index
	value string
	key   core.Key
}

type snapshot struct {
	revision int64
	objects  *btree.BTreeG[entry]
	index    *btree.BTreeG[indexed]
	counts   map[core.GroupResource]int
}

// New returns an empty Store.
func New() *Store {
	return &Store{
		now: &snapshot{
			// Without locks: snapshots are written by nobody, and whoever reads
			// one may write to the store meanwhile.
			objects: btree.NewBTreeGOptions(func(a, b entry) bool { return a.key.Less(b.key) }, btree.Options{NoLocks: true}),
			index:   btree.NewBTreeGOptions(lessIndexed, btree.Options{NoLocks: true}),
			counts:  map[core.GroupResource]int{},
		},
		previous: map[place]int64{}, moved: make(chan struct{}),
	}
}

func lessIndexed(a, b indexed) bool {
	if a.index != b.index {
		return a.index < b.index
	}
	if a.value != b.value {
		return a.value < b.value
	}
	return a.key.Less(b.key)
}

// Snapshot implements core.Store.
func (s *Store) Snapshot() core.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// WaitFor implements core.Store.
func (s *Store) WaitFor(ctx context.Context, revision int64) (core.Snapshot, error) {
	for {
		s.mu.Lock()
		now, moved := s.now, s.moved
		s.mu.Unlock()
		if now.revision >= revision {
			return now, nil
		}
		select {
		case <-ctx.Done():
			return nil, apierrors.NewTimeoutError(fmt.Sprintf("wait for revision %d", revision), 0)
		case <-moved:
		}
	}
}

// Latest implements core.Store.
func (s *Store) Latest(key core.Key) (core.Object, bool) { return s.Snapshot().Get(key) }

// Epoch implements core.Store: nothing is ever given up.
func (s *Store) Epoch() uint64 { return 0 }

// Settled implements core.Store: what Latest shows is committed.
func (s *Store) Settled(context.Context, uint64) error { return nil }

// Commit implements core.Store.
func (s *Store) Commit(ctx context.Context, _ uint64, ops []core.Op) ([]core.Object, error) {
	if err := ctx.Err(); err != nil {
		return nil, apierrors.NewTimeoutError("commit", 0)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range ops {
		if err := s.check(&ops[i]); err != nil {
			return nil, err
		}
	}
	next := &snapshot{revision: s.now.revision, objects: s.now.objects.Copy(), index: s.now.index.Copy(), counts: make(map[core.GroupResource]int, len(s.now.counts))}
	maps.Copy(next.counts, s.now.counts)
	kept := make([]core.Object, len(ops))
	for i := range ops {
		next.revision++
		kept[i] = s.perform(next, &ops[i])
	}
	s.now = next
	close(s.moved)
	s.moved = make(chan struct{})
	return kept, nil
}

func (s *Store) check(op *core.Op) error {
	old, ok := s.now.Get(op.Key)
	switch {
	case op.Expect == 0 && ok:
		return apierrors.NewAlreadyExists(op.Key.GroupResource(), op.Key.Name)
	case op.Expect != 0 && !ok:
		return apierrors.NewNotFound(op.Key.GroupResource(), op.Key.Name)
	case op.Expect != 0 && core.Revision(old) != op.Expect:
		return apierrors.NewConflict(op.Key.GroupResource(), op.Key.Name, errors.New("the object has been modified"))
	}
	return nil
}

func (s *Store) perform(next *snapshot, op *core.Op) core.Object {
	change := core.Change{Key: op.Key, Object: op.Object, Revision: next.revision}
	if old, ok := next.Get(op.Key); ok {
		change.Old = old
		for _, i := range indexes(op.Key, old) {
			next.index.Delete(i)
		}
		next.objects.Delete(entry{key: op.Key})
		next.counts[op.Key.GroupResource()]--
	}
	if op.Object == nil {
		change.Deleted, change.Object = true, core.Copy(change.Old)
	}
	change.Object.SetResourceVersion(core.FormatRevision(next.revision))
	if op.Object != nil {
		next.objects.Set(entry{op.Key, op.Object})
		next.counts[op.Key.GroupResource()]++
		for _, i := range indexes(op.Key, op.Object) {
			next.index.Set(i)
		}
	}
	at := place{op.Key.GroupResource(), op.Key.Namespace}
	change.Previous = s.previous[at]
	s.previous[at] = next.revision
	s.log = append(s.log, change)
	return op.Object
}

func indexes(key core.Key, o core.Object) []indexed {
	list := []indexed{{core.ByUID, string(o.GetUID()), key}}
	for _, owner := range o.GetOwnerReferences() {
		list = append(list, indexed{core.ByOwner, string(owner.UID), key})
	}
	if pod, ok := o.(*corev1.Pod); ok && key.GroupResource() == core.Pods {
		list = append(list, indexed{core.ByNode, pod.Spec.NodeName, key})
	}
	return list
}

// Watch implements core.Store.
func (s *Store) Watch(resource core.GroupResource, namespace string, from int64) (core.Watch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &watch{store: s, resource: resource, namespace: namespace, at: from, closed: make(chan struct{})}, nil
}

type watch struct {
	store     *Store
	resource  core.GroupResource
	namespace string
	at        int64
	closed    chan struct{}
}

// Next implements core.Watch.
func (w *watch) Next(ctx context.Context) ([]core.Change, error) {
	for {
		w.store.mu.Lock()
		log, moved := w.store.log, w.store.moved
		w.store.mu.Unlock()
		var found []core.Change
		for i := int(w.at); i < len(log); i++ { // revision n is at n-1
			c := log[i]
			if c.Key.GroupResource() == w.resource && (w.namespace == "" || w.namespace == c.Key.Namespace) {
				found = append(found, c)
			}
		}
		w.at = int64(len(log))
		if len(found) > 0 {
			return found, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("watch %s: %w", w.resource, ctx.Err())
		case <-w.closed:
			return nil, errors.New("the watch is closed")
		case <-moved:
		}
	}
}

// Revision implements core.Watch.
func (w *watch) Revision() int64 { return w.at }

// Close implements core.Watch.
func (w *watch) Close() {
	select {
	case <-w.closed:
	default:
		close(w.closed)
	}
}

// Revision implements core.Snapshot.
func (n *snapshot) Revision() int64 { return n.revision }

// Get implements core.Snapshot.
func (n *snapshot) Get(key core.Key) (core.Object, bool) {
	e, ok := n.objects.Get(entry{key: key})
	return e.object, ok
}

// Count implements core.Snapshot.
func (n *snapshot) Count(resource core.GroupResource) int { return n.counts[resource] }

// List implements core.Snapshot.
func (n *snapshot) List(resource core.GroupResource, namespace string) iter.Seq2[core.Key, core.Object] {
	return func(yield func(core.Key, core.Object) bool) {
		from := entry{key: core.Key{Group: resource.Group, Resource: resource.Resource, Namespace: namespace}}
		n.objects.Ascend(from, func(e entry) bool {
			if e.key.GroupResource() != resource || (namespace != "" && e.key.Namespace != namespace) {
				return false
			}
			return yield(e.key, e.object)
		})
	}
}

// Indexed implements core.Snapshot.
func (n *snapshot) Indexed(index core.Index, value string) iter.Seq2[core.Key, core.Object] {
	return func(yield func(core.Key, core.Object) bool) {
		n.index.Ascend(indexed{index: index, value: value}, func(i indexed) bool {
			if i.index != index || i.value != value {
				return false
			}
			object, _ := n.Get(i.key)
			return yield(i.key, object)
		})
	}
}
