// Package registrytest keeps state in memory for tests of what writes through
// core/registry. It must not be used outside tests: nothing survives, and old
// revisions are never trimmed.
package registrytest

import (
	"context"
	"errors"
	"iter"
	"sync"

	"github.com/tidwall/btree"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	corev1 "k8s.io/api/core/v1"

	"github.com/weftrun/weft/core"
)

// Store is a core.Store in memory. Make it with NewStore. Its methods may be
// called concurrently.
type Store struct {
	mu      sync.Mutex
	objects *btree.BTreeG[item]
	last    int64
	changes []core.Change
	grown   chan struct{} // closed when changes grow
	// before, if set, is called at the start of each Commit, unlocked.
	before func([]core.Op)
}

var _ core.Store = (*Store)(nil)

type item struct {
	key    core.Key
	object core.Object
}

// NewStore returns an empty store, or one that holds the given objects, keyed
// by their resource.
func NewStore() *Store {
	return &Store{
		objects: btree.NewBTreeG(func(a, b item) bool { return a.key.Less(b.key) }),
		grown:   make(chan struct{}),
	}
}

// Before has f called at the start of each Commit, so that a test can make
// another write come first. Call it before the store is used.
func (s *Store) Before(f func(ops []core.Op)) { s.before = f }

// Snapshot implements core.Store.
func (s *Store) Snapshot() core.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &snapshot{objects: s.objects.Copy(), revision: s.last}
}

// WaitFor implements core.Store.
func (s *Store) WaitFor(ctx context.Context, revision int64) (core.Snapshot, error) {
	for {
		s.mu.Lock()
		last, grown := s.last, s.grown
		s.mu.Unlock()
		if last >= revision {
			return s.Snapshot(), nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return nil, apierrors.NewTimeoutError("wait for revision: "+ctx.Err().Error(), 1)
		}
	}
}

// Latest implements core.Store.
func (s *Store) Latest(key core.Key) (core.Object, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.objects.Get(item{key: key})
	return found.object, ok
}

// Epoch implements core.Store: nothing is ever given up.
func (s *Store) Epoch() uint64 { return 0 }

// Settled implements core.Store: what Latest shows is committed.
func (s *Store) Settled(context.Context, uint64) error { return nil }

// Commit implements core.Store.
func (s *Store) Commit(_ context.Context, _ uint64, ops []core.Op) ([]core.Object, error) {
	if s.before != nil {
		s.before(ops)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range ops {
		if err := s.check(op); err != nil {
			return nil, err
		}
	}
	kept := make([]core.Object, len(ops))
	for i, op := range ops {
		s.last++
		old, _ := s.objects.Get(item{key: op.Key})
		c := core.Change{Key: op.Key, Object: op.Object, Old: old.object, Revision: s.last}
		if op.Object == nil {
			c.Deleted = true
			c.Object = core.Copy(old.object)
			s.objects.Delete(item{key: op.Key})
		} else {
			s.objects.Set(item{key: op.Key, object: op.Object})
			kept[i] = op.Object
		}
		c.Object.SetResourceVersion(core.FormatRevision(s.last))
		s.changes = append(s.changes, c)
	}
	close(s.grown)
	s.grown = make(chan struct{})
	return kept, nil
}

var errModified = errors.New("the object has been modified; please apply your changes to the latest version and try again")

func (s *Store) check(op core.Op) error {
	old, there := s.objects.Get(item{key: op.Key})
	resource := op.Key.GroupResource()
	switch {
	case op.Expect == 0 && there:
		return apierrors.NewAlreadyExists(resource, op.Key.Name)
	case op.Expect != 0 && !there:
		return apierrors.NewNotFound(resource, op.Key.Name)
	case there && core.Revision(old.object) != op.Expect:
		return apierrors.NewConflict(resource, op.Key.Name, errModified)
	}
	return nil
}

// Watch implements core.Store.
func (s *Store) Watch(resource core.GroupResource, namespace string, from int64) (core.Watch, error) {
	return &watch{store: s, resource: resource, namespace: namespace, revision: from, closed: make(chan struct{})}, nil
}

type watch struct {
	store     *Store
	resource  core.GroupResource
	namespace string
	next      int
	revision  int64
	once      sync.Once
	closed    chan struct{}
}

// Next implements core.Watch.
func (w *watch) Next(ctx context.Context) ([]core.Change, error) {
	for {
		w.store.mu.Lock()
		changes, grown := w.store.changes, w.store.grown
		w.store.mu.Unlock()
		var found []core.Change
		for ; w.next < len(changes); w.next++ {
			c := changes[w.next]
			if c.Revision <= w.revision || c.Key.GroupResource() != w.resource ||
				(w.namespace != "" && c.Key.Namespace != w.namespace) {
				continue
			}
			found = append(found, c)
			w.revision = c.Revision
		}
		if len(found) > 0 {
			return found, nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-w.closed:
			return nil, errors.New("watch is closed")
		}
	}
}

// Revision implements core.Watch.
func (w *watch) Revision() int64 { return w.revision }

// Close implements core.Watch.
func (w *watch) Close() { w.once.Do(func() { close(w.closed) }) }

type snapshot struct {
	objects  *btree.BTreeG[item]
	revision int64
}

func (s *snapshot) Revision() int64 { return s.revision }

func (s *snapshot) Get(key core.Key) (core.Object, bool) {
	found, ok := s.objects.Get(item{key: key})
	return found.object, ok
}

func (s *snapshot) List(resource core.GroupResource, namespace string) iter.Seq2[core.Key, core.Object] {
	return func(yield func(core.Key, core.Object) bool) {
		from := core.Key{Group: resource.Group, Resource: resource.Resource, Namespace: namespace}
		s.objects.Ascend(item{key: from}, func(i item) bool {
			if i.key.GroupResource() != resource || (namespace != "" && i.key.Namespace != namespace) {
				return false
			}
			return yield(i.key, i.object)
		})
	}
}

func (s *snapshot) Indexed(index core.Index, value string) iter.Seq2[core.Key, core.Object] {
	return func(yield func(core.Key, core.Object) bool) {
		s.objects.Scan(func(i item) bool {
			return !indexed(index, value, i.object) || yield(i.key, i.object)
		})
	}
}

func indexed(index core.Index, value string, object core.Object) bool {
	switch index {
	case core.ByUID:
		return string(object.GetUID()) == value
	case core.ByOwner:
		for _, o := range object.GetOwnerReferences() {
			if string(o.UID) == value {
				return true
			}
		}
	case core.ByNode:
		pod, ok := object.(*corev1.Pod)
		return ok && pod.Spec.NodeName == value
	}
	return false
}

func (s *snapshot) Count(resource core.GroupResource) int {
	n := 0
	for range s.List(resource, "") {
		n++
	}
	return n
}

// Namespace is an active namespace, to put into a store.
func Namespace(name string) *corev1.Namespace {
	return &corev1.Namespace{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status:     corev1.NamespaceStatus{Phase: corev1.NamespaceActive},
	}
}
