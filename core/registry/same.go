package registry

import (
	"bytes"
	"reflect"
	"sync"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/weftrun/weft/core"
)

// protobuf is what the generated types of Kubernetes can do.
type protobuf interface {
	Size() int
	MarshalToSizedBuffer([]byte) (int, error)
}

// buffers hold the encodings that same compares.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// same tells whether object says what old says. Built-in kinds are compared by
// their encoding, which is deterministic, does not tell nil from empty, as the
// API does not, and is several times faster than reflection.
//
// Times of managedFields alone are no difference: object, which the caller
// owns, then gets those of old.
func same(old, object core.Object) bool {
	keepTimes(old, object)
	if a, ok := old.(*unstructured.Unstructured); ok {
		b, ok := object.(*unstructured.Unstructured)
		return ok && sameJSON(a.Object, b.Object)
	}
	a, ok := old.(protobuf)
	if !ok {
		return apiequality.Semantic.DeepEqual(old, object)
	}
	b, ok := object.(protobuf)
	if !ok || reflect.TypeOf(old) != reflect.TypeOf(object) {
		return false
	}
	return sameEncoding(a, b)
}

// sameEncoding tells whether two values of one generated type say the same. A
// quantity that is written differently counts as different.
func sameEncoding(a, b protobuf) bool {
	n := a.Size()
	if n != b.Size() {
		return false
	}
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	if cap(*buffer) < 2*n {
		*buffer = make([]byte, 2*n)
	}
	x, y := (*buffer)[:n:n], (*buffer)[n:2*n]
	if _, err := a.MarshalToSizedBuffer(x); err != nil {
		return false
	}
	if _, err := b.MarshalToSizedBuffer(y); err != nil {
		return false
	}
	return bytes.Equal(x, y)
}

// keepTimes gives the entries of managedFields that have not changed but for
// their time the time that they had.
func keepTimes(old, object core.Object) {
	before, after := old.GetManagedFields(), object.GetManagedFields()
	if len(after) == 0 || len(before) != len(after) {
		return
	}
	for i := range after {
		if !sameEntry(&before[i], &after[i]) {
			return
		}
	}
	for i := range after {
		after[i].Time = before[i].Time.DeepCopy()
	}
	object.SetManagedFields(after)
}

func sameEntry(a, b *metav1.ManagedFieldsEntry) bool {
	if a.Manager != b.Manager || a.Operation != b.Operation || a.APIVersion != b.APIVersion ||
		a.FieldsType != b.FieldsType || a.Subresource != b.Subresource || (a.FieldsV1 == nil) != (b.FieldsV1 == nil) {
		return false
	}
	return a.FieldsV1 == nil || a.FieldsV1.Equal(*b.FieldsV1)
}

// sameJSON compares decoded JSON. Absent and null are different.
func sameJSON(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k, v := range a {
			w, there := b[k]
			if !there || !sameJSON(v, w) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !sameJSON(a[i], b[i]) {
				return false
			}
		}
		return true
	default:
		return reflect.DeepEqual(a, b)
	}
}
