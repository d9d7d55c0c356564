package store

import (
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
)

const (
	maxShared     = 4096 // values that a sharer knows at once
	maxSharedSize = 1024 // bytes of one; longer ones seldom repeat
)

// sharer lets decoded objects share the memory of what most of them have in
// common: names of kinds, labels, managers and their fields. It knows a bounded
// number of values and forgets them all when there are more. Its methods may be
// called concurrently.
type sharer struct {
	mu      sync.RWMutex // guards the fields below
	strings map[string]string
	fields  map[string]*metav1.FieldsV1
}

func newSharer() *sharer {
	return &sharer{strings: map[string]string{}, fields: map[string]*metav1.FieldsV1{}}
}

// object has the metadata of an object, which the caller owns and nobody else
// has seen, share memory.
func (s *sharer) object(o core.Object) {
	kind := o.GetObjectKind()
	gvk := kind.GroupVersionKind()
	gvk.Group, gvk.Version, gvk.Kind = s.text(gvk.Group), s.text(gvk.Version), s.text(gvk.Kind)
	accessor, ok := o.(metav1.ObjectMetaAccessor)
	if !ok {
		return
	}
	meta, ok := accessor.GetObjectMeta().(*metav1.ObjectMeta)
	if !ok {
		return // of unstructured objects, which give copies
	}
	kind.SetGroupVersionKind(gvk)
	meta.Namespace = s.text(meta.Namespace)
	meta.GenerateName = s.text(meta.GenerateName)
	s.labels(meta)
	for i := range meta.OwnerReferences {
		r := &meta.OwnerReferences[i]
		r.APIVersion, r.Kind, r.Name = s.text(r.APIVersion), s.text(r.Kind), s.text(r.Name)
	}
	for i := range meta.ManagedFields {
		m := &meta.ManagedFields[i]
		m.Manager, m.APIVersion, m.FieldsType = s.text(m.Manager), s.text(m.APIVersion), s.text(m.FieldsType)
		m.Operation = metav1.ManagedFieldsOperationType(s.text(string(m.Operation)))
		m.Subresource = s.text(m.Subresource)
		m.FieldsV1 = s.owned(m.FieldsV1)
	}
}

// labels makes the map anew: one keeps the key that it got first.
func (s *sharer) labels(meta *metav1.ObjectMeta) {
	if len(meta.Labels) == 0 {
		return
	}
	shared := make(map[string]string, len(meta.Labels))
	for key, value := range meta.Labels {
		shared[s.text(key)] = s.text(value)
	}
	meta.Labels = shared
}

// text returns a string that is equal to v.
func (s *sharer) text(v string) string {
	if v == "" || len(v) > maxSharedSize {
		return v
	}
	s.mu.RLock()
	known, ok := s.strings[v]
	s.mu.RUnlock()
	if ok {
		return known
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.strings) >= maxShared {
		clear(s.strings)
	}
	s.strings[v] = v
	return v
}

// owned returns fields that are equal to f, and that nobody may change.
func (s *sharer) owned(f *metav1.FieldsV1) *metav1.FieldsV1 {
	if f == nil || len(f.GetRawBytes()) > maxSharedSize {
		return f
	}
	s.mu.RLock()
	known, ok := s.fields[string(f.GetRawBytes())]
	s.mu.RUnlock()
	if ok {
		return known
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.fields) >= maxShared {
		clear(s.fields)
	}
	s.fields[string(f.GetRawBytes())] = f
	return f
}
