package replicaset_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/workloads/replicaset"
	"github.com/weftrun/weft/workloads/workloadstest"
)

func newReplicaSet(name string, replicas int32) *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "ReplicaSet"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
			Template: workloadstest.Template("web:1"),
		},
	}
}

type fixture struct {
	*workloadstest.World
	c   replicaset.Controller
	key core.Key
}

func newFixture(t testing.TB, replicas int32) *fixture {
	w := workloadstest.New(t)
	return &fixture{World: w, c: replicaset.New(), key: w.Add(core.ReplicaSets, newReplicaSet("web", replicas))}
}

func (f *fixture) decide() core.Decision { return f.Decide(f.c, f.key) }

func (f *fixture) pods() []*corev1.Pod { return workloadstest.List[*corev1.Pod](f.World, core.Pods) }

func (f *fixture) podKey(i int) core.Key { return core.KeyFor(core.Pods, f.pods()[i]) }

func (f *fixture) status() appsv1.ReplicaSetStatus {
	return workloadstest.Get[*appsv1.ReplicaSet](f.World, f.key).Status
}

func TestCreatesWhatIsMissing(t *testing.T) {
	f := newFixture(t, 3)
	d := f.decide()
	if len(d.Create) != 3 || len(d.Delete) != 0 {
		t.Fatalf("created %d, deleted %d, want 3 and 0", len(d.Create), len(d.Delete))
	}
	for i, pod := range f.pods() {
		if !strings.HasPrefix(pod.Name, "web-") || len(pod.Name) != len("web-")+5 || pod.GenerateName != "web-" {
			t.Errorf("pod %d is named %q (generateName %q)", i, pod.Name, pod.GenerateName)
		}
		if pod.Labels["app"] != "web" {
			t.Errorf("pod %d has labels %v", i, pod.Labels)
		}
	}
	if len(d.Events) != 3 || d.Events[0].Reason != "SuccessfulCreate" || !strings.HasPrefix(d.Events[0].Message, "Created pod: web-") {
		t.Errorf("events: %+v", d.Events)
	}
	if d = f.decide(); len(d.Create) != 0 {
		t.Errorf("created %d more", len(d.Create))
	}
	want := appsv1.ReplicaSetStatus{Replicas: 3, FullyLabeledReplicas: 3, ObservedGeneration: 1, TerminatingReplicas: new(int32)}
	if diff := cmp.Diff(want, f.status()); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

func TestSameSeedGivesSameNames(t *testing.T) {
	seen := core.Observation{Seed: 7, Parent: newReplicaSet("web", 50)}
	first, err := replicaset.New().Decide(t.Context(), seen)
	if err != nil {
		t.Fatal(err)
	}
	again, err := replicaset.New().Decide(t.Context(), seen)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("a repeated decision differs:\n%s", diff)
	}
	names := make(map[string]bool)
	for _, pod := range first.Create {
		names[pod.GetName()] = true
	}
	if len(names) != 50 {
		t.Errorf("%d distinct names of 50", len(names))
	}
}

func TestNamesAvoidWhatIsTakenOrWasRefused(t *testing.T) {
	seen := core.Observation{Seed: 7, Parent: newReplicaSet("web", 1)}
	first, err := replicaset.New().Decide(t.Context(), seen)
	if err != nil {
		t.Fatal(err)
	}
	seen.Failures = []core.Failure{{Verb: "create", Kind: "Pod", Name: first.Create[0].GetName(), Reason: "AlreadyExists"}}
	second, err := replicaset.New().Decide(t.Context(), seen)
	if err != nil {
		t.Fatal(err)
	}
	if first.Create[0].GetName() == second.Create[0].GetName() {
		t.Error("a refused name was drawn again")
	}
}

func TestCounts(t *testing.T) {
	tests := []struct {
		name    string
		change  func(f *fixture)
		want    appsv1.ReplicaSetStatus
		creates int
		deletes int
		requeue time.Duration
	}{
		{
			name:   "ready and available",
			change: func(f *fixture) { f.SetReady(f.podKey(0), true) },
			want:   appsv1.ReplicaSetStatus{Replicas: 3, FullyLabeledReplicas: 3, ReadyReplicas: 1, AvailableReplicas: 1, TerminatingReplicas: new(int32)},
		},
		{
			name: "ready, not yet for minReadySeconds",
			change: func(f *fixture) {
				workloadstest.Change(f.World, f.key, false, func(rs *appsv1.ReplicaSet) { rs.Spec.MinReadySeconds = 10 })
				f.SetReady(f.podKey(0), true)
				f.Now = f.Now.Add(4 * time.Second)
				f.SetReady(f.podKey(1), true)
			},
			want:    appsv1.ReplicaSetStatus{Replicas: 3, FullyLabeledReplicas: 3, ReadyReplicas: 2, TerminatingReplicas: new(int32)},
			requeue: 6 * time.Second,
		},
		{
			name:    "finished pods are replaced and not counted",
			change:  func(f *fixture) { f.Finish(f.podKey(0), 1); f.Finish(f.podKey(1), 0) },
			want:    appsv1.ReplicaSetStatus{Replicas: 1, FullyLabeledReplicas: 1, TerminatingReplicas: new(int32)},
			creates: 2,
		},
		{
			name:    "pods being deleted are replaced and counted apart",
			change:  func(f *fixture) { f.Start(f.podKey(0)); f.Delete(f.podKey(0)) },
			want:    appsv1.ReplicaSetStatus{Replicas: 2, FullyLabeledReplicas: 2, TerminatingReplicas: new(int32(1))},
			creates: 1,
		},
		{
			name: "labels that lack one of the template's",
			change: func(f *fixture) {
				workloadstest.Change(f.World, f.key, false, func(rs *appsv1.ReplicaSet) { rs.Spec.Template.Labels["tier"] = "front" })
			},
			want: appsv1.ReplicaSetStatus{Replicas: 3, TerminatingReplicas: new(int32)},
		},
		{
			name: "surplus",
			change: func(f *fixture) {
				workloadstest.Change(f.World, f.key, false, func(rs *appsv1.ReplicaSet) { rs.Spec.Replicas = new(int32) })
			},
			want:    appsv1.ReplicaSetStatus{Replicas: 3, FullyLabeledReplicas: 3, TerminatingReplicas: new(int32)},
			deletes: 3,
		},
		{
			name: "being deleted, it makes no pods",
			change: func(f *fixture) {
				f.Finish(f.podKey(0), 1)
				workloadstest.Change(f.World, f.key, false, func(rs *appsv1.ReplicaSet) { rs.Finalizers = []string{"x/y"} })
				f.Delete(f.key)
			},
			want: appsv1.ReplicaSetStatus{Replicas: 2, FullyLabeledReplicas: 2, TerminatingReplicas: new(int32)},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, 3)
			f.decide()
			tt.change(f)
			d := f.decide()
			tt.want.ObservedGeneration = 1
			if diff := cmp.Diff(tt.want, d.Status.(*appsv1.ReplicaSet).Status); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
			if len(d.Create) != tt.creates || len(d.Delete) != tt.deletes || d.RequeueAfter != tt.requeue {
				t.Errorf("created %d, deleted %d, again after %s; want %d, %d, %s",
					len(d.Create), len(d.Delete), d.RequeueAfter, tt.creates, tt.deletes, tt.requeue)
			}
		})
	}
}

func TestReplicaFailure(t *testing.T) {
	f := newFixture(t, 2)
	f.Refuse = func(string, core.Key) string { return "pods are forbidden" }
	f.decide()
	started := f.Now
	d := f.decide()
	want := []appsv1.ReplicaSetCondition{{
		Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate",
		Message: "pods are forbidden", LastTransitionTime: metav1.Time{Time: started},
	}}
	if diff := cmp.Diff(want, f.status().Conditions); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
	var told bool
	for _, e := range d.Events {
		told = told || e.Reason == "FailedCreate" && e.Message == "Error creating: pods are forbidden" && e.Type == "Warning"
	}
	if !told {
		t.Errorf("no FailedCreate event: %+v", d.Events)
	}
	f.Now = f.Now.Add(time.Minute)
	f.decide()
	if diff := cmp.Diff(want, f.status().Conditions); diff != "" {
		t.Errorf("conditions while it goes on (-want +got):\n%s", diff)
	}
	f.Refuse = nil
	f.decide()
	f.decide()
	if got := f.status().Conditions; len(got) != 0 {
		t.Errorf("conditions after it went well: %+v", got)
	}
}

func TestLargeSetsGoInBatches(t *testing.T) {
	f := newFixture(t, 1200)
	for _, want := range []int{500, 500, 200, 0} {
		d := f.decide()
		if len(d.Create) != want {
			t.Fatalf("created %d, want %d", len(d.Create), want)
		}
		if len(d.Events) > 21 {
			t.Errorf("%d events of one decision", len(d.Events))
		}
	}
}

// TestRandomHistories checks that whatever happens to pods, the number of
// active pods never passes the wanted one after a scale-up, and that it is
// reached once faults stop.
func TestRandomHistories(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			f := newFixture(t, int32(random.IntN(12)))
			f.Refuse = func(string, core.Key) string {
				if random.IntN(5) == 0 {
					return "no luck"
				}
				return ""
			}
			for range 80 {
				step(f, random)
				before := active(f.pods())
				f.decide()
				wanted := int(*workloadstest.Get[*appsv1.ReplicaSet](f.World, f.key).Spec.Replicas)
				if after := active(f.pods()); after > max(before, wanted) || after < min(before, wanted) {
					t.Fatalf("%d active pods became %d with %d wanted", before, after, wanted)
				}
			}
			f.Refuse = nil
			settle(t, f)
		})
	}
}

func active(pods []*corev1.Pod) (n int) {
	for _, pod := range pods {
		if pod.DeletionTimestamp == nil && pod.Status.Phase != corev1.PodFailed && pod.Status.Phase != corev1.PodSucceeded {
			n++
		}
	}
	return n
}

func step(f *fixture, random *rand.Rand) {
	f.Now = f.Now.Add(time.Duration(random.IntN(5000)) * time.Millisecond)
	if random.IntN(6) == 0 {
		workloadstest.Change(f.World, f.key, true, func(rs *appsv1.ReplicaSet) { rs.Spec.Replicas = new(int32(random.IntN(12))) })
	}
	for _, pod := range f.pods() {
		key := core.KeyFor(core.Pods, pod)
		ended := pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
		switch n := random.IntN(10); {
		case pod.DeletionTimestamp != nil && n < 5:
			f.Stop(key)
		case n < 3 && !ended:
			f.SetReady(key, n < 2)
		case n == 3 && !ended:
			f.Finish(key, int32(random.IntN(2)))
		case n == 4:
			f.Delete(key)
		}
	}
}

func settle(t *testing.T, f *fixture) {
	t.Helper()
	for range 5 {
		f.decide()
		for _, pod := range f.pods() {
			if pod.DeletionTimestamp != nil {
				f.Stop(core.KeyFor(core.Pods, pod))
			} else if pod.Status.Phase == "" {
				f.SetReady(core.KeyFor(core.Pods, pod), true)
			}
		}
	}
	wanted := *workloadstest.Get[*appsv1.ReplicaSet](f.World, f.key).Spec.Replicas
	f.decide()
	s := f.status()
	if s.Replicas != wanted || *s.TerminatingReplicas != 0 || len(s.Conditions) != 0 {
		t.Errorf("settled with %+v, wanted %d replicas", s, wanted)
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int32{1000, 5000} {
		seen := core.Observation{Now: time.Unix(1e9, 0), Seed: 1, Parent: newReplicaSet("web", n)}
		for i := range n {
			pod := &corev1.Pod{
				TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
				ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("web-%05d", i), UID: "u", Labels: map[string]string{"app": "web"}},
				Spec:       corev1.PodSpec{NodeName: fmt.Sprintf("node-%d", i%10)},
				Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{
					{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
					{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Unix(int64(1e9-i), 0)},
				}},
			}
			seen.Children = append(seen.Children, pod)
		}
		for name, replicas := range map[string]int32{"steady": n, "one-less": n - 1, "half": n / 2, "500-more": n + 500} {
			s := seen
			s.Parent = newReplicaSet("web", replicas)
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := replicaset.New().Decide(b.Context(), s); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
