package store

import (
	"fmt"
	"runtime"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
)

func decodedConfigMap(t testing.TB, name string) *corev1.ConfigMap {
	t.Helper()
	fields := &metav1.FieldsV1{}
	fields.SetRawBytes([]byte(`{"f:data":{"f:a":{}}}`))
	data, err := core.Marshal(&corev1.ConfigMap{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "default", Labels: map[string]string{"app": "web"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: "web", UID: "u"}},
			ManagedFields: []metav1.ManagedFieldsEntry{{
				Manager: "kubectl", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", FieldsType: "FieldsV1", FieldsV1: fields,
			}},
		},
		Data: map[string]string{"a": "b"},
	})
	if err != nil {
		t.Fatal(err)
	}
	object, err := core.Unmarshal(data)
	if err != nil {
		t.Fatal(err)
	}
	return object.(*corev1.ConfigMap)
}

func TestSharer(t *testing.T) {
	s := newSharer()
	a, b := decodedConfigMap(t, "a"), decodedConfigMap(t, "b")
	s.object(a)
	s.object(b)
	if diff := cmp.Diff(decodedConfigMap(t, "b"), b); diff != "" {
		t.Errorf("sharing changed the object (-as decoded +shared):\n%s", diff)
	}
	m, n := a.ManagedFields[0], b.ManagedFields[0]
	if m.FieldsV1 != n.FieldsV1 || unsafe.StringData(m.Manager) != unsafe.StringData(n.Manager) || //nolint:gosec // compares addresses only
		unsafe.StringData(a.Namespace) != unsafe.StringData(b.Namespace) { //nolint:gosec // likewise
		t.Error("what is equal is not shared")
	}
}

func TestSharerIsBounded(t *testing.T) {
	s := newSharer()
	for i := range 3 * maxShared {
		s.text(fmt.Sprint("value-", i))
		f := &metav1.FieldsV1{}
		f.SetRawBytes(fmt.Appendf(nil, `{"f:a%d":{}}`, i))
		s.owned(f)
	}
	if len(s.strings) > maxShared || len(s.fields) > maxShared {
		t.Errorf("it knows %d strings and %d fields, at most %d were expected", len(s.strings), len(s.fields), maxShared)
	}
}

// BenchmarkShared is what the heap holds of each decoded object.
func BenchmarkShared(b *testing.B) {
	for _, shared := range []bool{false, true} {
		b.Run(fmt.Sprint("shared=", shared), func(b *testing.B) {
			s := newSharer()
			for b.Loop() {
				const count = 5000
				kept := make([]*corev1.ConfigMap, count)
				before := heap()
				for i := range kept {
					kept[i] = decodedConfigMap(b, fmt.Sprint("c", i))
					if shared {
						s.object(kept[i])
					}
				}
				b.ReportMetric(float64(heap()-before)/count, "heap-B/object")
				runtime.KeepAlive(kept)
			}
		})
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
