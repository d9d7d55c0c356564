package registry

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/randfill"

	"github.com/weftrun/weft/core"
)

// library is what the merge library says that manager owns in a new object.
func library(t *testing.T, e *entry, object core.Object, manager string) []metav1.ManagedFieldsEntry {
	t.Helper()
	m, err := e.manager(&request{})
	if err != nil {
		t.Fatal(err)
	}
	object = core.Copy(object)
	tracked := m.UpdateNoErrors(e.New(), object, manager).(core.Object).GetManagedFields()
	for i := range tracked {
		tracked[i].Time = nil
	}
	return tracked
}

// filler fills objects of any kind at random, sparsely or densely.
func filler(seed int64, empty float64) *randfill.Filler {
	word := func(c randfill.Continue) string {
		words := []string{"", "a", "b", "c", "app.example.com/name", "zz-9", "main", "TCP", "UDP"}
		if c.Intn(200) == 0 {
			return c.String(0)
		}
		return words[c.Intn(len(words))]
	}
	return randfill.NewWithSeed(seed).NilChance(empty).NumElements(0, 4).MaxDepth(14).Funcs(
		func(s *string, c randfill.Continue) { *s = word(c) },
		func(n *int32, c randfill.Continue) { *n = int32(c.Intn(3)) },
		func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewMilliQuantity(c.Int63n(5000), resource.DecimalSI)
		},
		func(v *intstr.IntOrString, c randfill.Continue) {
			*v = intstr.FromInt32(int32(c.Intn(3)))
			if c.Bool() {
				*v = intstr.FromString(word(c))
			}
		},
		func(v *metav1.FieldsV1, _ randfill.Continue) { v.SetRawBytes([]byte("{}")) },
	)
}

// TestOwnedAsLibrary holds the short way against the merge library, with
// objects of all kinds whose fields are set at random.
func TestOwnedAsLibrary(t *testing.T) {
	r, _ := open(t)
	kinds := Builtin()
	short, all := 0, 0
	for i := range kinds {
		e, err := r.entryFor(kinds[i].New())
		if err != nil {
			t.Fatal(err)
		}
		t.Run(e.kind.Kind, func(t *testing.T) {
			w, err := newOwned(e, builtinTypes())
			if err != nil {
				t.Skip("no rules are known of it:", err)
			}
			random := rand.New(rand.NewPCG(7, uint64(i))) //nolint:gosec // repeatable on purpose
			for n := range 300 {
				object := e.New()
				if n > 0 {
					filler(random.Int64(), []float64{0.3, 0.7, 0.9, 0.97}[n%4]).Fill(object)
				}
				object.GetObjectKind().SetGroupVersionKind(e.gvk())
				object.SetManagedFields(nil)
				got, err := w.entry(object, "kubectl")
				all++
				if err != nil {
					continue // the library's turn
				}
				short++
				for j := range got {
					got[j].Time = nil
				}
				if diff := cmp.Diff(library(t, e, object, "kubectl"), got); diff != "" {
					t.Fatalf("%+v\n(-library +short):\n%s", object, diff)
				}
			}
		})
	}
	if short < all/4 {
		t.Errorf("%d of %d objects went the short way: too few to prove anything", short, all)
	}
	t.Logf("%d of %d objects went the short way", short, all)
}

// TestOwnedUsual sees to it that usual objects do go the short way.
func TestOwnedUsual(t *testing.T) {
	r, _ := open(t)
	for _, object := range []core.Object{
		benchPod("web"),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c", Labels: map[string]string{"a": "b"}}, Data: map[string]string{"k": "<é>"}},
		&corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: "e"}, InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: "web"}, FirstTimestamp: now()},
	} {
		gvks, _, err := core.Scheme().ObjectKinds(object)
		if err != nil {
			t.Fatal(err)
		}
		object.GetObjectKind().SetGroupVersionKind(gvks[0])
		e, err := r.entryFor(object)
		if err != nil {
			t.Fatal(err)
		}
		want := library(t, e, object, "kubectl")
		if !e.ownAll(object, &request{WriteOptions: core.WriteOptions{FieldManager: "kubectl"}}) {
			t.Errorf("%s went the long way", e.kind.Kind)
		}
		got := object.GetManagedFields()
		for i := range got {
			if got[i].Time.IsZero() {
				t.Errorf("%s: no time", e.kind.Kind)
			}
			got[i].Time = nil
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-library +short):\n%s", e.kind.Kind, diff)
		}
	}
}

// TestOwnedLongWay names what the short way leaves to the library.
func TestOwnedLongWay(t *testing.T) {
	r, _ := open(t)
	twice := benchPod("web")
	twice.Spec.Containers = append(twice.Spec.Containers, twice.Spec.Containers[0])
	odd := benchPod("web")
	odd.Labels = map[string]string{`"`: ""}
	given := benchPod("web")
	given.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "x", Operation: "Update", APIVersion: "v1", FieldsType: "FieldsV1"}}
	for name, object := range map[string]core.Object{"twice": twice, "odd": odd, "given": given} {
		e, err := r.entryFor(object)
		if err != nil {
			t.Fatal(err)
		}
		if e.ownAll(object, &request{WriteOptions: core.WriteOptions{FieldManager: "kubectl"}}) {
			t.Errorf("%s went the short way", name)
		}
	}
}
