package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/registry/registrytest"
)

func setData(value string) func(core.Object) error {
	return func(o core.Object) error {
		o.(*corev1.ConfigMap).Data = map[string]string{"k": value}
		return nil
	}
}

func TestGenerateName(t *testing.T) {
	r, _ := open(t)
	object := configMap("", nil)
	object.GenerateName = strings.Repeat("x", 60) + "-"
	made := mustCreate(t, r, object, core.WriteOptions{})
	if n := made.GetName(); len(n) != 63 || !strings.HasPrefix(n, strings.Repeat("x", 58)) {
		t.Errorf("name %q", n)
	}
	_, err := r.Create(t.Context(), configMap("", nil), core.WriteOptions{})
	checkStatus(t, err, 422, "metadata.name: Required value: name or generateName is required")
}

func TestGenerateNameCollides(t *testing.T) {
	r, store := open(t)
	collisions := 0
	store.Before(func(ops []core.Op) {
		if name := ops[0].Key.Name; strings.HasPrefix(name, "x-") && collisions < 3 {
			collisions++
			twin := configMap(name, nil)
			store.Before(nil)
			if _, err := store.Commit(t.Context(), store.Epoch(), []core.Op{{Key: ops[0].Key, Object: twin}}); err != nil {
				t.Error(err)
			}
		}
	})
	object := configMap("", nil)
	object.GenerateName = "x-"
	if made := mustCreate(t, r, object, core.WriteOptions{}); made.GetName() == "" || collisions == 0 {
		t.Errorf("name %q after %d collisions", made.GetName(), collisions)
	}
}

func TestNamespaceAdmission(t *testing.T) {
	r, _ := open(t)
	object := configMap("a", nil)
	object.Namespace = "nowhere"
	_, err := r.Create(t.Context(), object, core.WriteOptions{})
	checkStatus(t, err, 404, `namespaces "nowhere" not found`)

	mustCreate(t, r, registrytest.Namespace("going"), core.WriteOptions{})
	key := core.Key{Resource: "namespaces", Name: "going"}
	left, live, err := r.Delete(t.Context(), key, core.DeleteOptions{})
	if err != nil || !live || left.(*corev1.Namespace).Status.Phase != corev1.NamespaceTerminating {
		t.Fatalf("deleted: %v %v %v", left, live, err)
	}
	object = configMap("a", nil)
	object.Namespace = "going"
	_, err = r.Create(t.Context(), object, core.WriteOptions{})
	checkStatus(t, err, 403, `configmaps "a" is forbidden: unable to create new content in namespace going because it is being terminated`)

	_, err = r.Mutate(t.Context(), key, func(o core.Object) error {
		o.(*corev1.Namespace).Spec.Finalizers = nil
		return nil
	}, core.WriteOptions{Subresource: "finalize"})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := r.Snapshot().Get(key); ok {
		t.Error("the namespace has outlived its finalizers")
	}
	_, _, err = r.Delete(t.Context(), core.Key{Resource: "namespaces", Name: "default"}, core.DeleteOptions{})
	checkStatus(t, err, 403, "this namespace may not be deleted")
}

func TestImmutableMeta(t *testing.T) {
	tests := map[string]struct {
		change func(*corev1.ConfigMap)
		text   string
	}{
		"deletion":   {func(c *corev1.ConfigMap) { c.DeletionTimestamp = new(metav1.Now()) }, "metadata.deletionTimestamp: Invalid value"},
		"grace":      {func(c *corev1.ConfigMap) { c.DeletionGracePeriodSeconds = new(int64(1)) }, "metadata.deletionGracePeriodSeconds: Invalid value"},
		"labels":     {func(c *corev1.ConfigMap) { c.Labels = map[string]string{"-": "x"} }, "metadata.labels: Invalid value"},
		"owners":     {func(c *corev1.ConfigMap) { c.OwnerReferences = []metav1.OwnerReference{{}} }, "metadata.ownerReferences.uid: Invalid value"},
		"finalizers": {func(c *corev1.ConfigMap) { c.Finalizers = []string{"a b"} }, "metadata.finalizers"},
		"both ways":  {func(c *corev1.ConfigMap) { c.Finalizers = []string{"orphan", "foregroundDeletion"} }, "cannot be both set"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r, _ := open(t)
			object := core.Copy(mustCreate(t, r, configMap("a", nil), core.WriteOptions{})).(*corev1.ConfigMap)
			test.change(object)
			_, err := r.Update(t.Context(), configKey("a"), object, core.WriteOptions{})
			checkStatus(t, err, 422, test.text)
		})
	}
}

// TestIgnoredMeta: what an update may not decide and says all the same is put
// back without a word.
func TestIgnoredMeta(t *testing.T) {
	r, _ := open(t)
	made := mustCreate(t, r, configMap("a", nil), core.WriteOptions{})
	object := core.Copy(made)
	object.SetCreationTimestamp(metav1.Unix(1, 0))
	object.SetGeneration(77)
	object.SetUID("")
	got, err := r.Update(t.Context(), configKey("a"), object, core.WriteOptions{})
	if err != nil || got.GetResourceVersion() != made.GetResourceVersion() {
		t.Errorf("%v %v", got, err)
	}
}

func TestNames(t *testing.T) {
	r, _ := open(t)
	mustCreate(t, r, configMap("a", nil), core.WriteOptions{})
	_, err := r.Update(t.Context(), configKey("a"), configMap("b", nil), core.WriteOptions{})
	checkStatus(t, err, 400, "the name of the object (b) does not match the name on the URL (a)")
	_, err = r.Create(t.Context(), configMap(strings.Repeat("a", 300), nil), core.WriteOptions{})
	checkStatus(t, err, 422, "metadata.name")
	again := configMap("c", nil)
	again.ResourceVersion = "1"
	_, err = r.Create(t.Context(), again, core.WriteOptions{})
	checkStatus(t, err, 400, "resourceVersion should not be set on objects to be created")
}

// TestLostRace: a write without a revision is computed again when another
// comes first, one with a revision is refused.
func TestLostRace(t *testing.T) {
	r, store := open(t)
	made := mustCreate(t, r, configMap("a", nil), core.WriteOptions{})
	interfere := func() {
		store.Before(func([]core.Op) {
			store.Before(nil)
			other := core.Copy(made).(*corev1.ConfigMap)
			other.Annotations = map[string]string{"came": "first"}
			current, _ := store.Latest(configKey("a"))
			if _, err := store.Commit(t.Context(), store.Epoch(), []core.Op{{Key: configKey("a"), Object: other, Expect: core.Revision(current)}}); err != nil {
				t.Error(err)
			}
		})
	}
	interfere()
	calls := 0
	got, err := r.Mutate(t.Context(), configKey("a"), func(o core.Object) error { calls++; return setData("x")(o) }, core.WriteOptions{})
	if err != nil || calls != 2 || got.GetAnnotations()["came"] != "first" || got.(*corev1.ConfigMap).Data["k"] != "x" {
		t.Errorf("after %d calls: %v %v", calls, got, err)
	}
	interfere()
	object := core.Copy(got).(*corev1.ConfigMap)
	object.Data["k"] = "y"
	_, err = r.Update(t.Context(), configKey("a"), object, core.WriteOptions{})
	checkStatus(t, err, 409, "the object has been modified")
	interfere()
	object = configMap("a", map[string]string{"k": "z"})
	if _, err = r.Update(t.Context(), configKey("a"), object, core.WriteOptions{}); err != nil {
		t.Errorf("an update without a revision: %v", err)
	}
}

func TestManyMutate(t *testing.T) {
	r, _ := open(t)
	mustCreate(t, r, configMap("a", map[string]string{"k": ""}), core.WriteOptions{})
	var all sync.WaitGroup
	const writers, rounds = 8, 25
	for range writers {
		all.Go(func() {
			for range rounds {
				_, err := r.Mutate(t.Context(), configKey("a"), func(o core.Object) error {
					o.(*corev1.ConfigMap).Data["k"] += "x"
					return nil
				}, core.WriteOptions{})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	got, _ := r.Snapshot().Get(configKey("a"))
	if n := len(got.(*corev1.ConfigMap).Data["k"]); n != writers*rounds {
		t.Errorf("%d of %d changes are there", n, writers*rounds)
	}
}

func TestMutateError(t *testing.T) {
	r, _ := open(t)
	mustCreate(t, r, configMap("a", nil), core.WriteOptions{})
	boom := errors.New("boom")
	if _, err := r.Mutate(t.Context(), configKey("a"), func(core.Object) error { return boom }, core.WriteOptions{}); !errors.Is(err, boom) {
		t.Errorf("error %v", err)
	}
}

func TestDryRun(t *testing.T) {
	r, store := open(t)
	before := store.Snapshot().Revision()
	o := core.WriteOptions{DryRun: true}
	if made := mustCreate(t, r, configMap("a", nil), o); made.GetUID() == "" {
		t.Error("a dry run has not run the path")
	}
	if _, err := r.Patch(t.Context(), core.Key{Resource: "namespaces", Name: "default"}, core.Patch{Type: types.MergePatchType, Data: []byte(`{"metadata":{"labels":{"a":"b"}}}`)}, o); err != nil {
		t.Error(err)
	}
	if after := store.Snapshot().Revision(); after != before {
		t.Errorf("revision %d, was %d", after, before)
	}
}

func TestFinalizers(t *testing.T) {
	r, _ := open(t)
	object := configMap("a", nil)
	object.Finalizers = []string{"example.com/one", "example.com/two"}
	made := mustCreate(t, r, object, core.WriteOptions{})
	left, live, err := r.Delete(t.Context(), configKey("a"), core.DeleteOptions{})
	if err != nil || !live || left.GetDeletionTimestamp() == nil {
		t.Fatalf("deleted: %v %v %v", left, live, err)
	}
	again, live, err := r.Delete(t.Context(), configKey("a"), core.DeleteOptions{})
	if err != nil || !live || again.GetResourceVersion() != left.GetResourceVersion() {
		t.Errorf("deleted again: %v %v %v", again, live, err)
	}
	drop := func(n int) error {
		_, err := r.Mutate(t.Context(), configKey("a"), func(o core.Object) error {
			o.SetFinalizers(slices.Clone(o.GetFinalizers()[n:]))
			return nil
		}, core.WriteOptions{})
		return err
	}
	_, err = r.Mutate(t.Context(), configKey("a"), func(o core.Object) error {
		o.SetFinalizers(append(o.GetFinalizers(), "example.com/three"))
		return nil
	}, core.WriteOptions{})
	checkStatus(t, err, 422, "no new finalizers can be added if the object is being deleted")
	if err := drop(1); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.Snapshot().Get(configKey("a")); !ok {
		t.Fatal("gone with a finalizer left")
	}
	if err := drop(1); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.Snapshot().Get(configKey("a")); ok {
		t.Errorf("%s has outlived its last finalizer", made.GetName())
	}
}

func TestPropagation(t *testing.T) {
	for policy, want := range map[metav1.DeletionPropagation]string{
		metav1.DeletePropagationForeground: "foregroundDeletion",
		metav1.DeletePropagationOrphan:     "orphan",
		metav1.DeletePropagationBackground: "",
	} {
		r, _ := open(t)
		mustCreate(t, r, configMap("a", nil), core.WriteOptions{})
		left, live, err := r.Delete(t.Context(), configKey("a"), core.DeleteOptions{Propagation: &policy})
		if err != nil || live != (want != "") || strings.Join(left.GetFinalizers(), ",") != want {
			t.Errorf("%s: %v live %v: %v", policy, left.GetFinalizers(), live, err)
		}
	}
	r, _ := open(t)
	_, _, err := r.Delete(t.Context(), configKey("a"), core.DeleteOptions{Propagation: new(metav1.DeletionPropagation("Sideways"))})
	checkStatus(t, err, 422, "propagationPolicy")
}

func TestDeletePreconditions(t *testing.T) {
	r, _ := open(t)
	made := mustCreate(t, r, configMap("a", nil), core.WriteOptions{})
	_, _, err := r.Delete(t.Context(), configKey("a"), core.DeleteOptions{Preconditions: &metav1.Preconditions{UID: new(types.UID("x"))}})
	checkStatus(t, err, 409, "the UID in the precondition (x) does not match the UID in record")
	_, _, err = r.Delete(t.Context(), configKey("a"), core.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: new("9")}})
	checkStatus(t, err, 409, "the ResourceVersion in the precondition (9)")
	p := &metav1.Preconditions{UID: new(made.GetUID()), ResourceVersion: new(made.GetResourceVersion())}
	if _, live, err := r.Delete(t.Context(), configKey("a"), core.DeleteOptions{Preconditions: p}); live || err != nil {
		t.Errorf("%v %v", live, err)
	}
}

// graceful is a registry whose config maps are deleted in two phases.
func graceful(t *testing.T) *Registry {
	t.Helper()
	strategies := builtinAndDefinitions()
	for _, s := range strategies {
		if s.Kind.Resource == "configmaps" {
			s.Grace = func(_ core.Object, requested *int64) int64 {
				if requested != nil {
					return *requested
				}
				return 30
			}
		}
	}
	r, err := New(Config{Store: registrytest.NewStore(), Strategies: strategies})
	if err != nil {
		t.Fatal(err)
	}
	mustCreate(t, r, registrytest.Namespace("default"), core.WriteOptions{})
	return r
}

func TestGracefulDeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := graceful(t)
		mustCreate(t, r, configMap("a", nil), core.WriteOptions{})
		began := time.Now()
		for i, step := range []struct {
			after     time.Duration
			requested *int64
			wantEnd   time.Duration // since began
			wantGrace int64
		}{
			{0, nil, 30 * time.Second, 30},
			{time.Second, nil, 30 * time.Second, 30},             // pending
			{time.Second, new(int64(60)), 30 * time.Second, 30},  // never longer
			{time.Second, new(int64(10)), 10 * time.Second, 10},  // shorter, from the beginning
			{4 * time.Second, new(int64(1)), 7 * time.Second, 1}, // already over: now
			{time.Second, new(int64(-5)), 7 * time.Second, 1},    // as 1
		} {
			time.Sleep(step.after)
			left, live, err := r.Delete(t.Context(), configKey("a"), core.DeleteOptions{GracePeriodSeconds: step.requested})
			if err != nil || !live {
				t.Fatalf("step %d: live %v: %v", i, live, err)
			}
			if end := left.GetDeletionTimestamp().Sub(began); end != step.wantEnd || graceOf(left) != step.wantGrace {
				t.Errorf("step %d: ends after %s with grace %d, want %s and %d", i, end, graceOf(left), step.wantEnd, step.wantGrace)
			}
		}
		if _, live, err := r.Delete(t.Context(), configKey("a"), core.DeleteOptions{GracePeriodSeconds: new(int64(0))}); live || err != nil {
			t.Errorf("grace 0: live %v: %v", live, err)
		}
	})
}

func TestEviction(t *testing.T) {
	r, _ := open(t)
	pod := benchPod("web")
	pod.Spec.NodeName = "n"
	made := mustCreate(t, r, pod, core.WriteOptions{})
	eviction := func(uid types.UID) *policyv1.Eviction {
		return &policyv1.Eviction{
			TypeMeta:      metav1.TypeMeta{APIVersion: "policy/v1", Kind: "Eviction"},
			ObjectMeta:    metav1.ObjectMeta{Namespace: "default", Name: "web"},
			DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}, GracePeriodSeconds: new(int64(5))},
		}
	}
	o := core.WriteOptions{Subresource: "eviction"}
	_, err := r.Update(t.Context(), podKey("web"), eviction("x"), o)
	checkStatus(t, err, 409, "UID in the precondition")
	before := r.Snapshot().Revision()
	if _, err := r.Create(t.Context(), eviction(made.GetUID()), o); err != nil {
		t.Fatal(err)
	}
	got, _ := r.Snapshot().Get(podKey("web"))
	p := got.(*corev1.Pod)
	if c := podCondition(p, corev1.DisruptionTarget); c == nil || c.Reason != "EvictionByEvictionAPI" || p.DeletionTimestamp == nil || graceOf(p) != 5 {
		t.Errorf("evicted: %+v", p)
	}
	if after := r.Snapshot().Revision(); after != before+1 {
		t.Errorf("%d records", after-before)
	}
}

func TestBinding(t *testing.T) {
	r, _ := open(t)
	made := mustCreate(t, r, benchPod("web"), core.WriteOptions{})
	binding := func(uid types.UID) *corev1.Binding {
		return &corev1.Binding{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Binding"},
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: uid},
			Target:     corev1.ObjectReference{Kind: "Node", Name: "n"},
		}
	}
	o := core.WriteOptions{Subresource: "binding"}
	_, err := r.Update(t.Context(), podKey("web"), binding("x"), o)
	checkStatus(t, err, 409, "UID")
	bound, err := r.Update(t.Context(), podKey("web"), binding(made.GetUID()), o)
	if err != nil || bound.(*corev1.Pod).Spec.NodeName != "n" {
		t.Fatalf("%v %v", bound, err)
	}
	_, err = r.Update(t.Context(), podKey("web"), binding(made.GetUID()), o)
	checkStatus(t, err, 409, "already assigned to node")
}

func TestTransact(t *testing.T) {
	r, store := open(t)
	made := mustCreate(t, r, configMap("a", nil), core.WriteOptions{})
	mustCreate(t, r, configMap("gone", nil), core.WriteOptions{})
	before := store.Snapshot().Revision()
	got, err := r.Transact(t.Context(), []core.Write{
		{Key: configKey("a"), UID: made.GetUID(), Revision: core.Revision(made), Mutate: setData("1")},
		{Key: configKey("a"), Mutate: func(o core.Object) error { o.(*corev1.ConfigMap).Data["k"] += "2"; return nil }},
		{Key: configKey("b"), Create: configMap("b", nil)},
		{Key: configKey("b"), Mutate: setData("3")},
		{Key: configKey("gone"), Delete: true},
		{Key: configKey("gone"), Create: configMap("gone", map[string]string{"k": "new"})},
		{Key: configKey("brief"), Create: configMap("brief", nil)},
		{Key: configKey("brief"), Delete: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": "12", "b": "3", "gone": "new"} {
		o, ok := r.Snapshot().Get(configKey(name))
		if !ok || o.(*corev1.ConfigMap).Data["k"] != want {
			t.Errorf("%s: %v, want %s", name, o, want)
		}
	}
	if _, ok := r.Snapshot().Get(configKey("brief")); ok {
		t.Error("brief has stayed")
	}
	if got[1].GetResourceVersion() == "" || core.Revision(got[3]) <= before {
		t.Errorf("answers are not as kept: %v", got)
	}
}

func TestTransactAllOrNothing(t *testing.T) {
	r, store := open(t)
	made := mustCreate(t, r, configMap("a", nil), core.WriteOptions{})
	before := store.Snapshot().Revision()
	for name, bad := range map[string]core.Write{
		"uid":        {Key: configKey("a"), UID: "x", Mutate: setData("1")},
		"revision":   {Key: configKey("a"), Revision: core.Revision(made) + 1, Mutate: setData("1")},
		"generation": {Key: configKey("a"), Generation: 5, Mutate: setData("1")},
	} {
		_, err := r.Transact(t.Context(), []core.Write{{Key: configKey("b"), Create: configMap("b", nil)}, bad})
		if !apierrors.IsConflict(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, bad := range map[string]core.Write{
		"nothing": {Key: configKey("a")},
		"two":     {Key: configKey("a"), Delete: true, Mutate: setData("1")},
	} {
		if _, err := r.Transact(t.Context(), []core.Write{bad}); !apierrors.IsBadRequest(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := r.Transact(t.Context(), []core.Write{{Key: configKey("a"), Mutate: setData("1")}, {Key: configKey("z"), Delete: true}}); !apierrors.IsNotFound(err) {
		t.Error(err)
	}
	if after := store.Snapshot().Revision(); after != before {
		t.Errorf("something was written: revision %d, was %d", after, before)
	}
}

// TestTransactFinalizes: a controller lets an object go and reports its last
// status in one decision.
func TestTransactFinalizes(t *testing.T) {
	r, _ := open(t)
	object := configMap("a", nil)
	object.Finalizers = []string{"example.com/hold"}
	made := mustCreate(t, r, object, core.WriteOptions{})
	if _, _, err := r.Delete(t.Context(), configKey("a"), core.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	release := func(o core.Object) error { o.SetFinalizers(nil); return nil }
	_, err := r.Transact(t.Context(), []core.Write{
		{Key: configKey("a"), UID: made.GetUID(), Mutate: release},
		{Key: configKey("a"), UID: made.GetUID(), Mutate: setData("last")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := r.Snapshot().Get(configKey("a")); ok {
		t.Error("it has stayed")
	}
}

// TestTransactFences: fences are about the state before the transaction, so
// that its first write to an object does not refuse its second.
func TestTransactFences(t *testing.T) {
	r, _ := open(t)
	pod := benchPod("web")
	pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/gate"}}
	made := mustCreate(t, r, pod, core.WriteOptions{})
	w := core.Write{Key: podKey("web"), UID: made.GetUID(), Revision: core.Revision(made), Generation: made.GetGeneration()}
	first, second := w, w
	first.Mutate = func(o core.Object) error { o.(*corev1.Pod).Spec.SchedulingGates = nil; return nil }
	second.Subresource = "status"
	second.Mutate = func(o core.Object) error { o.(*corev1.Pod).Status.Message = "open"; return nil }
	got, err := r.Transact(t.Context(), []core.Write{first, second})
	if err != nil {
		t.Fatal(err)
	}
	if p := got[1].(*corev1.Pod); p.Generation != made.GetGeneration()+1 || p.Status.Message != "open" || len(p.Spec.SchedulingGates) != 0 {
		t.Errorf("generation %d, status %q, gates %v", p.Generation, p.Status.Message, p.Spec.SchedulingGates)
	}
}

func TestTransactNothing(t *testing.T) {
	r, store := open(t)
	mustCreate(t, r, configMap("a", nil), core.WriteOptions{})
	before := store.Snapshot().Revision()
	got, err := r.Transact(t.Context(), []core.Write{{Key: configKey("a"), Mutate: func(core.Object) error { return nil }}})
	if err != nil || got[0].GetName() != "a" || store.Snapshot().Revision() != before {
		t.Errorf("%v %v", got, err)
	}
}

func TestAdmission(t *testing.T) {
	var seen []string
	store := registrytest.NewStore()
	r, err := New(Config{Store: store, Strategies: Builtin(), Admission: []AdmissionFunc{
		func(_ context.Context, a *Attributes) error {
			seen = append(seen, fmt.Sprint(a.Operation, " ", a.Key.Name))
			if a.Operation == OperationCreate && a.Key.Resource == "configmaps" {
				a.Object.SetLabels(map[string]string{"admitted": "yes"})
			}
			if a.Operation == OperationDelete {
				return apierrors.NewForbidden(a.Key.GroupResource(), a.Key.Name, errors.New("no"))
			}
			return nil
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	mustCreate(t, r, registrytest.Namespace("default"), core.WriteOptions{})
	made := mustCreate(t, r, configMap("a", nil), core.WriteOptions{})
	if made.GetLabels()["admitted"] != "yes" {
		t.Error("admission's change is lost")
	}
	_, _, err = r.Delete(t.Context(), configKey("a"), core.DeleteOptions{})
	checkStatus(t, err, 403, "no")
	if got := strings.Join(seen, ", "); got != "CREATE default, CREATE a, DELETE a" {
		t.Errorf("seen %s", got)
	}
}

// TestShared: no write changes an object that somebody may have read.
func TestShared(t *testing.T) {
	r, _ := open(t)
	tracked := core.WriteOptions{FieldManager: "m"}
	made := mustCreate(t, r, configMap("a", map[string]string{"k": "1"}), tracked)
	before := core.Copy(made)
	for _, write := range []func() error{
		func() error { _, err := r.Mutate(t.Context(), configKey("a"), setData("2"), tracked); return err },
		func() error {
			_, err := r.Patch(t.Context(), configKey("a"), core.Patch{Type: types.StrategicMergePatchType, Data: []byte(`{"data":{"k":"3"}}`)}, tracked)
			return err
		},
		func() error {
			_, err := r.Patch(t.Context(), configKey("a"), core.Patch{Type: types.ApplyYAMLPatchType, Data: []byte(applied + `{k: "4"}`)}, core.WriteOptions{FieldManager: "n", Force: true})
			return err
		},
		func() error { _, _, err := r.Delete(t.Context(), configKey("a"), core.DeleteOptions{}); return err },
	} {
		current, _ := r.Snapshot().Get(configKey("a"))
		was := core.Copy(current)
		if err := write(); err != nil {
			t.Fatal(err)
		}
		if !same(was, current) || current.GetResourceVersion() != was.GetResourceVersion() {
			t.Errorf("a shared object has changed: %v, was %v", current, was)
		}
	}
	if !same(before, made) {
		t.Errorf("the first object has changed: %v, was %v", made, before)
	}
}
