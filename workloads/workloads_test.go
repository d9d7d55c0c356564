package workloads

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/weftrun/weft/core"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func pod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), CreationTimestamp: metav1.Time{Time: now.Add(-time.Hour)}}}
	p.Spec.NodeName, p.Status.Phase = "node-"+name, corev1.PodRunning
	readySince(-time.Hour)(p)
	for _, c := range change {
		c(p)
	}
	return p
}

func readySince(ago time.Duration) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Time{Time: now.Add(ago)}}}
	}
}

func TestSurplusOrder(t *testing.T) {
	// Each pod is given up before the next.
	order := []*corev1.Pod{
		pod("unassigned", func(p *corev1.Pod) { p.Spec.NodeName, p.Status.Phase, p.Status.Conditions = "", corev1.PodPending, nil }),
		pod("pending", func(p *corev1.Pod) { p.Status.Phase, p.Status.Conditions = corev1.PodPending, nil }),
		pod("unknown", func(p *corev1.Pod) { p.Status.Phase, p.Status.Conditions = corev1.PodUnknown, nil }),
		pod("not-ready", func(p *corev1.Pod) { p.Status.Conditions = nil }),
		pod("cheap", func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.PodDeletionCost: "-5"} }),
		pod("doubled", func(p *corev1.Pod) { p.Spec.NodeName = "node-alone-not" }),
		pod("alone-not", func(p *corev1.Pod) {
			p.Annotations = map[string]string{corev1.PodDeletionCost: "0"}
			readySince(-999 * time.Hour)(p)
		}),
		pod("ready-late", readySince(-time.Minute)),
		pod("restarted", func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: 3}} }),
		pod("young", func(p *corev1.Pod) { p.CreationTimestamp.Time = now.Add(-time.Minute) }),
		pod("old"),
		pod("dear", func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.PodDeletionCost: "7"} }),
	}
	reversed := make([]*corev1.Pod, len(order))
	var want []string
	for i, p := range order {
		reversed[len(order)-1-i] = p
		want = append(want, p.Name)
	}
	var got []string
	for _, p := range Surplus(reversed, len(order)-1, now) {
		got = append(got, p.Name)
	}
	if diff := cmp.Diff(want[:len(want)-1], got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if n := len(Surplus(order, 0, now)) + len(Surplus(order, -3, now)); n != 0 {
		t.Errorf("chose %d pods of none", n)
	}
	if n := len(Surplus(order, 99, now)); n != len(order) {
		t.Errorf("chose %d pods of all", n)
	}
}

func TestSurplusComparesAgesByMagnitude(t *testing.T) {
	a := pod("a", func(p *corev1.Pod) { p.CreationTimestamp.Time = now.Add(-100 * time.Minute) })
	b := pod("b", func(p *corev1.Pod) { p.CreationTimestamp.Time = now.Add(-101 * time.Minute) })
	a.Status.Conditions, b.Status.Conditions = nil, nil
	for _, list := range [][]*corev1.Pod{{a, b}, {b, a}} {
		if got := Surplus(list, 1, now)[0]; got != a {
			t.Errorf("gave up %s: among like ages the UID decides", got.Name)
		}
	}
}

func TestAvailable(t *testing.T) {
	for _, tt := range []struct {
		name      string
		pod       *corev1.Pod
		min       time.Duration
		available bool
		wait      time.Duration
	}{
		{"ready and no minimum", pod("p"), 0, true, 0},
		{"not ready", pod("p", func(p *corev1.Pod) { p.Status.Conditions = nil }), 0, false, 0},
		{"ready for just long enough", pod("p", readySince(-10*time.Second)), 10 * time.Second, true, 0},
		{"ready for not long enough", pod("p", readySince(-4*time.Second)), 10 * time.Second, false, 6 * time.Second},
		{"ready since nobody knows when", pod("p", func(p *corev1.Pod) { p.Status.Conditions[0].LastTransitionTime = metav1.Time{} }), time.Second, false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			available, wait := Available(tt.pod, tt.min, now)
			if available != tt.available || wait != tt.wait {
				t.Errorf("%v, wait %s; want %v, %s", available, wait, tt.available, tt.wait)
			}
		})
	}
}

func TestFenceposts(t *testing.T) {
	percent := func(s string) *intstr.IntOrString { v := intstr.FromString(s); return &v }
	number := func(n int32) *intstr.IntOrString { v := intstr.FromInt32(n); return &v }
	for _, tt := range []struct {
		name               string
		surge, unavailable *intstr.IntOrString
		replicas           int32
		wantS, wantU       int32
	}{
		{"surge is rounded up, unavailable down", percent("25%"), percent("25%"), 10, 3, 2},
		{"small sets", percent("25%"), percent("25%"), 1, 1, 0},
		{"both zero", number(0), number(0), 5, 0, 1},
		{"both zero by rounding", number(0), percent("10%"), 5, 0, 1},
		{"nothing said", nil, nil, 5, 0, 1},
		{"never more unavailable than there are", number(1), number(9), 5, 1, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, u, err := Fenceposts(tt.surge, tt.unavailable, tt.replicas)
			if err != nil || s != tt.wantS || u != tt.wantU {
				t.Errorf("%d, %d, %v; want %d, %d", s, u, err, tt.wantS, tt.wantU)
			}
		})
	}
	if _, _, err := Fenceposts(percent("many"), nil, 1); err == nil {
		t.Error("no error for a percentage that is none")
	}
}

func template(image string) *corev1.PodTemplateSpec {
	return &corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web", "tier": "front"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: image}}},
	}
}

func TestTemplateHash(t *testing.T) {
	hash := func(template *corev1.PodTemplateSpec, collisions *int32) string {
		h, err := TemplateHash(template, collisions)
		if err != nil {
			t.Fatal(err)
		}
		if h == "" || len(h) > 10 || strings.Trim(h, safeAlphabet) != "" {
			t.Errorf("hash %q", h)
		}
		return h
	}
	one := int32(1)
	base := hash(template("a"), nil)
	if base != hash(template("a"), nil) {
		t.Error("a template has two hashes")
	}
	if base == hash(template("b"), nil) || base == hash(template("a"), &one) {
		t.Error("the hash does not change with the template and the collisions")
	}
	// Another hash would only name new ReplicaSets otherwise, but should be
	// meant.
	if want := "9c6799bf7"; base != want {
		t.Errorf("hash %s, want %s", base, want)
	}
}

func TestSameTemplate(t *testing.T) {
	hashed := template("a")
	hashed.Labels["pod-template-hash"] = "x"
	labelled := template("a")
	labelled.Labels["more"] = "x"
	noted := template("a")
	noted.Annotations = map[string]string{"more": "x"}
	empty := template("a")
	empty.Annotations, empty.Spec.Volumes = map[string]string{}, []corev1.Volume{}
	for _, tt := range []struct {
		name string
		b    *corev1.PodTemplateSpec
		same bool
	}{
		{"equal", template("a"), true},
		{"but for the hash", hashed, true},
		{"but for nil and empty", empty, true},
		{"another image", template("b"), false},
		{"another label", labelled, false},
		{"another annotation", noted, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if SameTemplate(template("a"), tt.b) != tt.same || SameTemplate(tt.b, template("a")) != tt.same {
				t.Errorf("same is not %v", tt.same)
			}
		})
	}
}

func TestPodFromTemplateSharesNothing(t *testing.T) {
	from := template("a")
	p := PodFromTemplate("ns", from)
	p.Labels["app"], p.Annotations["x"], p.Spec.Containers[0].Image = "changed", "y", "b"
	if diff := cmp.Diff(template("a"), from); diff != "" {
		t.Errorf("the template changed:\n%s", diff)
	}
}

func TestNamerCutsLongBases(t *testing.T) {
	n := NewNamer(core.Observation{Seed: 1})
	if name := n.Name(strings.Repeat("x", 80) + "-"); len(name) != 63 {
		t.Errorf("name %q of %d characters", name, len(name))
	}
}

func TestNamerNeverRepeats(t *testing.T) {
	seen := core.Observation{Seed: 3}
	first := NewNamer(seen)
	for range 2000 {
		seen.Children = append(seen.Children, pod(first.Name("p-")))
	}
	again := NewNamer(seen) // same seed, so the same draws, all taken
	names := make(map[string]bool)
	for _, child := range seen.Children {
		names[child.GetName()] = true
	}
	for range 2000 {
		name := again.Name("p-")
		if names[name] {
			t.Fatalf("%s is drawn twice", name)
		}
		names[name] = true
	}
}

func TestNotesAreBounded(t *testing.T) {
	var n Notes
	for i := range 1000 {
		n.Normal("SuccessfulCreate", "Created pod: p-%d", i)
	}
	n.Warning("Other", "once")
	list := n.List()
	if len(list) != 22 {
		t.Fatalf("%d notes", len(list))
	}
	want := core.Note{Type: "Normal", Reason: "SuccessfulCreate", Message: "(combined from 980 similar events): Created pod: p-999"}
	if diff := cmp.Diff(want, list[21]); diff != "" {
		t.Errorf("last note (-want +got):\n%s", diff)
	}
	if fmt.Sprint(list) != fmt.Sprint(n.List()) {
		t.Error("listing changes the notes")
	}
}

func TestSecondsDoNotOverflow(t *testing.T) {
	if got := Seconds(int64(1) << 62); got < 200*365*24*time.Hour {
		t.Errorf("ages are %s", got)
	}
	if got := Seconds(int32(-3)); got != -3*time.Second {
		t.Errorf("got %s", got)
	}
}
