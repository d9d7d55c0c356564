package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/coretest"
	"github.com/weftrun/weft/core/coretest/mapstore"
)

var (
	podKind    = schema.GroupVersionKind{Version: "v1", Kind: "Pod"}
	rsKind     = schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "ReplicaSet"}
	secretKind = schema.GroupVersionKind{Version: "v1", Kind: "Secret"}
	mapKind    = schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
)

func newClient() *mapstore.Client {
	return mapstore.NewClient(
		mapstore.Kind(podKind, "pods", true), mapstore.Kind(rsKind, "replicasets", true),
		mapstore.Kind(secretKind, "secrets", true), mapstore.Kind(mapKind, "configmaps", true),
	)
}

// scripted is a controller of ReplicaSets whose decisions are a function.
type scripted struct {
	decide func(core.Observation) (core.Decision, error)
	relate func(core.Object) []core.Relation

	mu     sync.Mutex
	rounds int
	seen   []core.Observation
}

func (s *scripted) Describe() core.Description {
	return core.Description{
		Name: "replicaset", Kind: rsKind, Resource: core.ReplicaSets,
		Children: []core.Child{{Kind: podKind, Resource: core.Pods, Adopt: true}},
	}
}

func (s *scripted) Relate(o core.Object) []core.Relation {
	if s.relate == nil {
		return nil
	}
	return s.relate(o)
}

func (s *scripted) Decide(_ context.Context, seen core.Observation) (core.Decision, error) {
	s.mu.Lock()
	s.rounds++
	s.seen = append(s.seen, seen)
	s.mu.Unlock()
	return s.decide(seen)
}

func (s *scripted) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rounds
}

// keepReplicas is what a ReplicaSet's controller does, in short.
func keepReplicas(seen core.Observation) (core.Decision, error) {
	rs := core.Copy(seen.Parent.(*appsv1.ReplicaSet))
	var d core.Decision
	alive := 0
	for _, child := range seen.Children {
		if child.GetDeletionTimestamp() == nil {
			alive++
		}
	}
	for i := alive; i < int(*rs.Spec.Replicas); i++ {
		d.Create = append(d.Create, newPod(fmt.Sprintf("%s-%x-%d", rs.Name, seen.Seed, i), "web"))
	}
	for i := int(*rs.Spec.Replicas); i < alive; i++ {
		d.Delete = append(d.Delete, core.Deletion{Key: core.KeyFor(core.Pods, seen.Children[i]), UID: seen.Children[i].GetUID(), Reason: "surplus"})
	}
	rs.Status.Replicas = int32(len(seen.Children))
	d.Status = rs
	return d, nil
}

func newPod(name, app string) *corev1.Pod {
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": app}},
	}
}

func newReplicaSet(name string, replicas int32) *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "ReplicaSet"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
		},
	}
}

type sources []core.Controller

func (s sources) Controllers() ([]core.Controller, <-chan struct{}) { return s, nil }

// second is another controller of the same parents.
type second struct{ *scripted }

func (second) Describe() core.Description {
	return core.Description{Name: "second", Kind: rsKind, Resource: core.ReplicaSets}
}

func TestControllersOfOneKindKeepTheirOwnMemories(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		remember := func(what string) *scripted {
			return &scripted{decide: func(core.Observation) (core.Decision, error) {
				return core.Decision{Memory: []byte(what)}, nil
			}}
		}
		a, b := remember("a"), remember("b")
		f := start(t, newClient(), a, second{b})
		f.create(newReplicaSet("web", 0))
		f.settle()
		f.replicaSet("web")
		for want, c := range map[string]*scripted{"a": a, "b": b} {
			if n := c.count(); n > 3 {
				t.Errorf("%s decided %d times", want, n)
			}
			_, err := f.client.Mutate(t.Context(), core.KeyFor(core.ReplicaSets, f.replicaSet("web")), func(o core.Object) error {
				o.SetLabels(map[string]string{"touched-for": want})
				return nil
			}, core.WriteOptions{})
			if err != nil {
				t.Fatal(err)
			}
			f.settle()
			c.mu.Lock()
			if got := string(c.seen[len(c.seen)-1].Memory); got != want {
				t.Errorf("%s remembers %q", want, got)
			}
			c.mu.Unlock()
		}
	})
}

type fixture struct {
	t      *testing.T
	client *mapstore.Client
	events *coretest.Events
	r      *Reconciler
}

// start runs a reconciler with c within the test's bubble.
func start(t *testing.T, client *mapstore.Client, controllers ...core.Controller) *fixture {
	t.Helper()
	f := &fixture{t: t, client: client, events: &coretest.Events{}}
	var err error
	f.r, err = New(Config{Client: client, Source: sources(controllers), Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Events: f.events})
	if err != nil {
		t.Fatal(err)
	}
	coretest.Run(t, f.r.Run)
	return f
}

func (f *fixture) create(o core.Object) core.Object {
	f.t.Helper()
	kept, err := f.client.Create(f.t.Context(), o, core.WriteOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	return kept
}

func (f *fixture) settle() { time.Sleep(2 * time.Second); synctest.Wait() }

func (f *fixture) pods() (list []*corev1.Pod) {
	for _, o := range f.client.Snapshot().List(core.Pods, "") {
		list = append(list, o.(*corev1.Pod))
	}
	return list
}

func (f *fixture) replicaSet(name string) *appsv1.ReplicaSet {
	f.t.Helper()
	o, ok := f.client.Snapshot().Get(core.Key{Group: "apps", Resource: "replicasets", Namespace: "default", Name: name})
	if !ok {
		f.t.Fatalf("no replicaset %s", name)
	}
	return o.(*appsv1.ReplicaSet)
}

func TestThousandReplicasTakeFewRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &scripted{decide: keepReplicas}
		f := start(t, newClient(), c)
		f.create(newReplicaSet("web", 1000))
		f.settle()
		if n := len(f.pods()); n != 1000 {
			t.Fatalf("%d pods, want 1000", n)
		}
		if got := f.replicaSet("web").Status.Replicas; got != 1000 {
			t.Errorf("status.replicas is %d", got)
		}
		if n := c.count(); n > 8 {
			t.Errorf("%d decisions for 1000 pods, want at most 8", n)
		}
		owner := metav1.GetControllerOf(f.pods()[0])
		if owner == nil || owner.Name != "web" || owner.BlockOwnerDeletion == nil || !*owner.BlockOwnerDeletion {
			t.Errorf("owner is %+v", owner)
		}
		key := core.KeyFor(core.Pods, f.pods()[7])
		if _, _, err := f.client.Delete(t.Context(), key, core.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		f.settle()
		if n := len(f.pods()); n != 1000 {
			t.Errorf("%d pods after one was deleted", n)
		}
	})
}

func TestAdoptAndRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, newClient(), &scripted{decide: keepReplicas})
		orphan := f.create(newPod("orphan", "web"))
		f.create(newPod("stranger", "other"))
		rs := f.create(newReplicaSet("web", 2))
		f.settle()
		if n := len(f.pods()); n != 3 {
			t.Fatalf("%d pods, want the orphan, the stranger and one new", n)
		}
		kept, _ := f.client.Snapshot().Get(core.KeyFor(core.Pods, orphan))
		if owner := metav1.GetControllerOf(kept); owner == nil || owner.UID != rs.GetUID() {
			t.Fatalf("the orphan's owner is %+v", owner)
		}
		_, err := f.client.Mutate(t.Context(), core.KeyFor(core.Pods, orphan), func(o core.Object) error {
			o.SetLabels(map[string]string{"app": "gone"})
			return nil
		}, core.WriteOptions{})
		if err != nil {
			t.Fatal(err)
		}
		f.settle()
		kept, _ = f.client.Snapshot().Get(core.KeyFor(core.Pods, orphan))
		if owner := metav1.GetControllerOf(kept); owner != nil {
			t.Errorf("the pod that no longer matches still has owner %+v", owner)
		}
		if n := len(f.pods()); n != 4 {
			t.Errorf("%d pods, want a replacement", n)
		}
	})
}

func TestOrphanThatComesLaterIsAdopted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, newClient(), &scripted{decide: keepReplicas})
		f.create(newReplicaSet("web", 1))
		f.settle()
		f.create(newPod("orphan", "web"))
		f.settle()
		if n := len(f.pods()); n != 1 {
			t.Errorf("%d pods: the orphan was to be adopted and one deleted as surplus", n)
		}
	})
}

func TestSlowStartStopsAtTheFirstRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := newClient()
		var mu sync.Mutex
		tried := 0
		client.Refuse = func(verb string, key core.Key, _ core.Object) error {
			if verb != "create" || key.GroupResource() != core.Pods {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			tried++
			return apierrors.NewForbidden(core.Pods, key.Name, errors.New("exceeded quota"))
		}
		c := &scripted{decide: func(seen core.Observation) (core.Decision, error) {
			d, err := keepReplicas(seen)
			for _, o := range d.Create {
				d.Events = append(d.Events, core.Note{Type: "Normal", Reason: "SuccessfulCreate", Message: "Created pod: " + o.GetName()})
			}
			d.Events = d.Events[:min(len(d.Events), 20)]
			return d, err
		}}
		f := start(t, client, c)
		f.create(newReplicaSet("web", 500))
		time.Sleep(time.Second)
		synctest.Wait()
		if rounds := c.count(); tried > rounds || tried == 0 || rounds > 12 {
			t.Errorf("%d creations were tried in %d rounds: one a round, and few rounds, were wanted", tried, rounds)
		}
		c.mu.Lock()
		last := c.seen[len(c.seen)-1]
		c.mu.Unlock()
		if len(last.Failures) != 1 || last.Failures[0].Reason != "Forbidden" || last.Failures[0].Verb != "create" {
			t.Errorf("failures told: %+v", last.Failures)
		}
		if f.events.Has("SuccessfulCreate") {
			t.Errorf("events tell of what was not done: %q", f.events.Lines())
		}
	})
}

func TestConflictIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := newClient()
		c := &scripted{}
		raced := false
		c.decide = func(seen core.Observation) (core.Decision, error) {
			if !raced {
				raced = true
				_, err := client.Mutate(t.Context(), core.KeyFor(core.ReplicaSets, seen.Parent), func(o core.Object) error {
					o.(*appsv1.ReplicaSet).Spec.Replicas = new(int32(2))
					return nil
				}, core.WriteOptions{})
				if err != nil {
					return core.Decision{}, err
				}
			}
			d, err := keepReplicas(seen)
			d.Memory = []byte("kept")
			return d, err
		}
		f := start(t, client, c)
		rs := f.create(newReplicaSet("web", 5))
		f.settle()
		if n := len(f.pods()); n != 2 {
			t.Errorf("%d pods: the first decision was about a past generation", n)
		}
		memory, ok := client.Snapshot().Get(memoryKey("replicaset", "default", rs.GetUID()))
		if !ok || string(memory.(*corev1.Secret).Data[MemoryDatum]) != "kept" {
			t.Errorf("memory is %v", memory)
		}
		if f.events.Has("Warning") {
			t.Errorf("a lost race is no event: %q", f.events.Lines())
		}
	})
}

func TestHotLoopIsNamedAndSlowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &scripted{}
		c.decide = func(seen core.Observation) (core.Decision, error) {
			rs := core.Copy(seen.Parent.(*appsv1.ReplicaSet))
			rs.Status.Replicas++
			return core.Decision{Status: rs}, nil
		}
		f := start(t, newClient(), c)
		f.create(newReplicaSet("web", 1))
		time.Sleep(time.Minute)
		synctest.Wait()
		if !f.events.Has("replicaset-controller web Warning HotLoop") {
			t.Errorf("the loop was not named: %q", f.events.Lines())
		}
		if n := c.count(); n > 50 {
			t.Errorf("%d decisions in a minute", n)
		}
	})
}

func TestBadDecisionChangesNothingAndIsShown(t *testing.T) {
	secret := &corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: metav1.ObjectMeta{Name: "stolen"}}
	elsewhere := newPod("p", "web")
	elsewhere.Namespace = "kube-system"
	foreign := newPod("p", "web")
	foreign.UID = "another's"
	for name, test := range map[string]struct {
		decision core.Decision
		want     string
	}{
		"undeclared kind": {core.Decision{Create: []core.Object{secret}}, "create[0]: Forbidden: Secret is not a declared kind"},
		"namespace":       {core.Decision{Create: []core.Object{elsewhere}}, `must be the parent's, "default"`},
		"nil object":      {core.Decision{Create: []core.Object{(*corev1.Pod)(nil)}}, "create[0]: Required value"},
		"finalizer":       {core.Decision{Finalizers: []string{"other.io/x"}}, `must begin with "replicaset/"`},
		"memory":          {core.Decision{Memory: make([]byte, maxMemory+1)}, "memory: Too long"},
		"deletion":        {core.Decision{Delete: []core.Deletion{{Key: core.Key{Resource: "pods", Name: "x"}}}}, "must be a child that was seen"},
		"foreign child":   {core.Decision{Update: []core.Object{foreign}}, `update[0].metadata.uid: Invalid value: "another's": must be a child that was seen`},
		"patch":           {core.Decision{Patches: []core.RelatedPatch{{Key: core.Key{Resource: "secrets", Name: "x"}}}}, "not among the related"},
		"requeue":         {core.Decision{RequeueAfter: -1}, "must not be negative"},
		"creates":         {core.Decision{Create: make([]core.Object, maxCreates+1)}, "create: Too many"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := start(t, newClient(), &scripted{decide: func(core.Observation) (core.Decision, error) { return test.decision, nil }})
				f.create(newReplicaSet("web", 1))
				before := f.client.Snapshot().Revision()
				f.settle()
				if !f.events.Has(reasonInvalid) || !f.events.Has(test.want) {
					t.Errorf("events %q, want %q", f.events.Lines(), test.want)
				}
				if after := f.client.Snapshot().Revision(); after != before {
					t.Errorf("the revision went from %d to %d", before, after)
				}
			})
		})
	}
}

func TestErrorsAndPanicsAreShown(t *testing.T) {
	for name, test := range map[string]struct {
		decide func(core.Observation) (core.Decision, error)
		want   string
	}{
		"panic": {func(core.Observation) (core.Decision, error) { panic("ouch") }, "DecisionFailed: controller replicaset panicked: ouch"},
		"error": {func(core.Observation) (core.Decision, error) { return core.Decision{}, errors.New("no") }, "DecisionFailed: decide: no"},
		"set aside": {func(core.Observation) (core.Decision, error) {
			return core.Decision{}, &core.SetAsideError{Reason: "spins"}
		}, "SetAside: set aside: spins"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &scripted{decide: test.decide}
				f := start(t, newClient(), c)
				f.create(newReplicaSet("web", 1))
				f.settle()
				if !f.events.Has(test.want) {
					t.Errorf("events %q, want %q", f.events.Lines(), test.want)
				}
				if n := c.count(); n < 3 || n > 12 {
					t.Errorf("%d decisions in two seconds of back-off", n)
				}
			})
		})
	}
}

func TestFinalizing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &scripted{}
		finalized := false
		c.decide = func(seen core.Observation) (core.Decision, error) {
			if seen.Finalizing {
				finalized = true
				return core.Decision{Finalizers: []string{}}, nil
			}
			return core.Decision{Finalizers: []string{"replicaset/clean"}}, nil
		}
		f := start(t, newClient(), c)
		rs := f.create(newReplicaSet("web", 1))
		f.settle()
		if got := f.replicaSet("web").Finalizers; len(got) != 1 {
			t.Fatalf("finalizers %q", got)
		}
		if _, _, err := f.client.Delete(t.Context(), core.KeyFor(core.ReplicaSets, rs), core.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		f.settle()
		if _, there := f.client.Snapshot().Get(core.KeyFor(core.ReplicaSets, rs)); there || !finalized {
			t.Errorf("still there: %v, finalized: %v", there, finalized)
		}
		if n := f.r.queue.size(); n != 0 {
			t.Errorf("%d subjects are remembered", n)
		}
	})
}

func TestRelationsWakeTheirParents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &scripted{
			decide: func(seen core.Observation) (core.Decision, error) { return core.Decision{}, nil },
			relate: func(core.Object) []core.Relation {
				return []core.Relation{{Resource: core.ConfigMaps, Namespace: "default", Name: "settings"}}
			},
		}
		f := start(t, newClient(), c)
		f.create(newReplicaSet("web", 1))
		f.settle()
		before := c.count()
		f.create(&corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "settings"}})
		f.create(&corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "other"}})
		f.settle()
		if n := c.count(); n != before+1 {
			t.Errorf("%d decisions after %d: one for the related object was wanted", n, before)
		}
		if last := c.seen[len(c.seen)-1]; len(last.Related) != 1 || last.Related[0].GetName() != "settings" {
			t.Errorf("related: %v", last.Related)
		}
	})
}

func TestRequeueAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &scripted{decide: func(core.Observation) (core.Decision, error) {
			return core.Decision{RequeueAfter: 10 * time.Second}, nil
		}}
		f := start(t, newClient(), c)
		f.create(newReplicaSet("web", 1))
		time.Sleep(65 * time.Second)
		synctest.Wait()
		if n := c.count(); n < 7 || n > 8 { // the first list and the watch may both tell of it
			t.Errorf("%d decisions in 65 s at one each 10 s", n)
		}
	})
}
