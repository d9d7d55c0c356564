package wire

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
)

func pod(name, version string) *corev1.Pod {
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID("u-" + name), ResourceVersion: version},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "file:x.wasm"}}},
	}
}

func widget() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "weft.run/v1", "kind": "Widget",
		"metadata": map[string]any{"name": "w", "namespace": "default", "uid": "u-w", "resourceVersion": "4"},
		"spec":     map[string]any{"n": int64(3)},
	}}
}

func TestObservation(t *testing.T) {
	seen := core.Observation{
		Now: time.Unix(12, 34).UTC(), Seed: 1 << 63, Parent: widget(), Finalizing: true,
		Children: []core.Object{pod("a", "1"), pod("b", "2")}, Related: []core.Object{pod("c", "3")},
		Memory: []byte("m"), Failures: []core.Failure{{Verb: "create", Kind: "Pod", Name: "x", Reason: "Forbidden", Message: "no"}},
	}
	for name, encoding := range map[string]Encoding{"json": JSON, "protobuf": Protobuf} {
		t.Run(name, func(t *testing.T) {
			request, err := FromObservation("x", seen, encoding, nil)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ToObservation(request, NewCache(1<<20).Resolve)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(seen, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDecision(t *testing.T) {
	key := core.Key{Group: "g", Resource: "r", Namespace: "n", Name: "x"}
	cases := map[string]core.Decision{
		"nothing": {},
		"all": {
			Status: widget(), Annotations: map[string]string{"a": "b"}, Finalizers: []string{"f"},
			Create: []core.Object{pod("a", "")}, Update: []core.Object{pod("b", "2")},
			Delete:       []core.Deletion{{Key: key, UID: "u", Reason: "surplus"}},
			Patches:      []core.RelatedPatch{{Key: key, UID: "u", Subresource: "scale", Patch: core.Patch{Type: types.MergePatchType, Data: []byte("{}")}}},
			RequeueAfter: time.Second, Memory: []byte("m"),
			Events: []core.Note{{Type: "Normal", Reason: "R", Message: "m"}, {About: &key}},
		},
		"emptied": {Finalizers: []string{}, Memory: []byte{}},
	}
	for name, want := range cases {
		t.Run(name, func(t *testing.T) {
			encoded, err := FromDecision(want, Protobuf)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ToDecision(encoded)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCache(t *testing.T) {
	c := NewCache(1 << 20)
	whole, err := Protobuf.slot(pod("a", "1"), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Resolve(whole); err != nil {
		t.Fatal(err)
	}
	held, err := c.Resolve(&Slot{Uid: "u-a", ResourceVersion: "1"})
	if err != nil || held.GetName() != "a" {
		t.Fatalf("got %v, %v", held, err)
	}
	var missing *MissingError
	if _, err := c.Resolve(&Slot{Uid: "u-a", ResourceVersion: "2"}); !errors.As(err, &missing) {
		t.Errorf("another version: got %v", err)
	}
	small := NewCache(len(whole.Object) + 1)
	for _, name := range []string{"a", "b"} {
		s, err := Protobuf.slot(pod(name, "1"), true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := small.Resolve(s); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := small.Resolve(&Slot{Uid: "u-a", ResourceVersion: "1"}); !errors.As(err, &missing) {
		t.Errorf("beyond the limit: got %v", err)
	}
}

func TestToDescriptionRefuses(t *testing.T) {
	kind := &Kind{Version: "v1", Kind: "Pod", Resource: "pods"}
	cases := map[string]*Description{
		"no name":          {Kind: kind},
		"no kind":          {Name: "x"},
		"no resource":      {Name: "x", Kind: &Kind{Version: "v1", Kind: "Pod"}},
		"bad child":        {Name: "x", Kind: kind, Children: []*Child{{}}},
		"bad definition":   {Name: "x", Kind: kind, Definition: []byte("{")},
		"other definition": {Name: "x", Kind: kind, Definition: []byte(`{"spec":{"group":"g","names":{"kind":"K","plural":"ks"}}}`)},
	}
	for name, d := range cases {
		t.Run(name, func(t *testing.T) {
			if got, err := ToDescription(d); err == nil {
				t.Errorf("accepted: %+v", got)
			}
		})
	}
}

func FuzzDecideResponse(f *testing.F) {
	decision, err := FromDecision(core.Decision{Status: pod("a", "1"), Create: []core.Object{widget()}, Memory: []byte{}}, Protobuf)
	if err != nil {
		f.Fatal(err)
	}
	seed, err := proto.Marshal(&DecideResponse{Decision: decision})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		var response DecideResponse
		if proto.Unmarshal(data, &response) != nil {
			return
		}
		got, err := ToDecision(response.GetDecision())
		if err != nil {
			return
		}
		if _, err := FromDecision(got, Protobuf); err != nil {
			t.Errorf("decoded, but cannot be encoded: %v", err)
		}
	})
}

func BenchmarkObservation(b *testing.B) {
	seen := core.Observation{Parent: widget()}
	for range 1000 {
		seen.Children = append(seen.Children, pod("a", "1"))
	}
	held := func(core.Object) bool { return true }
	for _, bench := range []struct {
		name  string
		holds func(core.Object) bool
	}{{"whole", nil}, {"cached", held}} {
		b.Run(bench.name, func(b *testing.B) {
			cache := NewCache(1 << 30)
			if first, err := FromObservation("x", seen, Protobuf, nil); err != nil {
				b.Fatal(err)
			} else if _, err := ToObservation(first, cache.Resolve); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				request, err := FromObservation("x", seen, Protobuf, bench.holds)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := ToObservation(request, cache.Resolve); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
