package lifecycle

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/coretest"
	"github.com/weftrun/weft/core/coretest/mapstore"
	"github.com/weftrun/weft/core/registry"
)

// strategies are the built-in kinds with those that a test needs besides.
func strategies() []*registry.Strategy {
	list := registry.Builtin()
	add := func(kind core.Kind, fresh func() core.Object) {
		if !slices.ContainsFunc(list, func(s *registry.Strategy) bool { return s.Kind.GroupResource() == kind.GroupResource() }) {
			list = append(list, &registry.Strategy{Kind: kind, New: fresh})
		}
	}
	version := []core.Version{{Name: "v1"}}
	add(core.Kind{Group: "coordination.k8s.io", Kind: "Lease", Resource: "leases", Namespaced: true, Storage: "v1", Versions: version}, func() core.Object {
		return &coordinationv1.Lease{TypeMeta: metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"}}
	})
	add(core.Kind{Kind: "Event", Resource: "events", Namespaced: true, Storage: "v1", Versions: version}, func() core.Object {
		return &corev1.Event{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Event"}}
	})
	return list
}

type fixture struct {
	t      *testing.T
	client *registry.Registry
	events *coretest.Events
}

// start runs a Lifecycle over a registry within the test's bubble.
func start(t *testing.T) *fixture {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	client, err := registry.New(registry.Config{Store: mapstore.New(), Strategies: strategies(), Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, client: client, events: &coretest.Events{}}
	l, err := New(Config{Client: client, Logger: log, Events: f.events})
	if err != nil {
		t.Fatal(err)
	}
	coretest.Run(t, l.Run)
	f.settle(time.Second)
	return f
}

func (f *fixture) settle(d time.Duration) { time.Sleep(d); synctest.Wait() }

func (f *fixture) create(o core.Object) core.Object {
	f.t.Helper()
	kept, err := f.client.Create(f.t.Context(), o, core.WriteOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	return kept
}

func (f *fixture) delete(key core.Key, policy metav1.DeletionPropagation) {
	f.t.Helper()
	if _, _, err := f.client.Delete(f.t.Context(), key, core.DeleteOptions{Propagation: &policy}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) mutate(key core.Key, subresource string, change func(core.Object)) {
	f.t.Helper()
	_, err := f.client.Mutate(f.t.Context(), key, func(o core.Object) error { change(o); return nil }, core.WriteOptions{Subresource: subresource})
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) get(key core.Key) core.Object {
	o, _ := f.client.Snapshot().Get(key)
	return o
}

func mapKey(namespace, name string) core.Key {
	return core.Key{Resource: "configmaps", Namespace: namespace, Name: name}
}

func configMap(namespace, name string, owners ...metav1.OwnerReference) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, OwnerReferences: owners},
	}
}

func ownedBy(o core.Object, block bool) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: o.GetName(), UID: o.GetUID(), BlockOwnerDeletion: &block}
}

func TestDefaultNamespaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		for _, name := range []string{"default", "kube-system", "kube-public", "kube-node-lease"} {
			if f.get(core.Key{Resource: "namespaces", Name: name}) == nil {
				t.Errorf("no namespace %s", name)
			}
		}
	})
}

func TestCollectByPolicy(t *testing.T) {
	for policy, childStays := range map[metav1.DeletionPropagation]bool{
		metav1.DeletePropagationBackground: false, metav1.DeletePropagationForeground: false, metav1.DeletePropagationOrphan: true,
	} {
		t.Run(string(policy), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := start(t)
				owner := f.create(configMap("default", "owner"))
				child := f.create(configMap("default", "child", ownedBy(owner, true)))
				f.create(configMap("default", "grandchild", ownedBy(child, true)))
				f.delete(mapKey("default", "owner"), policy)
				f.settle(5 * time.Second)
				if f.get(mapKey("default", "owner")) != nil {
					t.Error("the owner is still there")
				}
				left := f.get(mapKey("default", "child"))
				if (left != nil) != childStays || (f.get(mapKey("default", "grandchild")) != nil) != childStays {
					t.Errorf("child left: %v", left)
				}
				if childStays && len(left.GetOwnerReferences()) != 0 {
					t.Errorf("the orphan's owners are %v", left.GetOwnerReferences())
				}
			})
		})
	}
}

func TestForegroundWaitsForThoseThatBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		owner := f.create(configMap("default", "owner"))
		stuck := configMap("default", "stuck", ownedBy(owner, true))
		stuck.Finalizers = []string{"example.com/hold"}
		f.create(stuck)
		f.delete(mapKey("default", "owner"), metav1.DeletePropagationForeground)
		f.settle(time.Minute)
		if o := f.get(mapKey("default", "owner")); o == nil || o.GetDeletionTimestamp() == nil {
			t.Fatalf("the owner did not wait: %v", o)
		}
		f.mutate(mapKey("default", "stuck"), "", func(o core.Object) { o.SetFinalizers(nil) })
		f.settle(time.Second)
		if f.get(mapKey("default", "owner")) != nil || f.get(mapKey("default", "stuck")) != nil {
			t.Error("owner or dependent is still there")
		}
	})
}

func TestCollectOnlyWhatHasNoOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		one, two := f.create(configMap("default", "one")), f.create(configMap("default", "two"))
		other := f.create(configMap("kube-public", "other"))
		f.create(configMap("default", "both", ownedBy(one, false), ownedBy(two, false)))
		f.create(configMap("default", "elsewhere", ownedBy(other, false)))
		f.create(configMap("default", "never", metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "one", UID: types.UID("another")}))
		f.create(configMap("default", "unknown", metav1.OwnerReference{APIVersion: "x.io/v1", Kind: "Thing", Name: "a", UID: "b"}))
		f.delete(mapKey("default", "one"), metav1.DeletePropagationBackground)
		f.settle(5 * time.Second)
		both := f.get(mapKey("default", "both"))
		if both == nil || len(both.GetOwnerReferences()) != 1 || both.GetOwnerReferences()[0].Name != "two" {
			t.Errorf("both: %v", both)
		}
		for name, stays := range map[string]bool{"elsewhere": false, "never": false, "unknown": true, "two": true} {
			if got := f.get(mapKey("default", name)) != nil; got != stays {
				t.Errorf("%s is there: %v", name, got)
			}
		}
	})
}

func trackedPod(name string, owners ...metav1.OwnerReference) *corev1.Pod {
	return &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: name, OwnerReferences: owners, Finalizers: []string{batchv1.JobTrackingFinalizer},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "x.wasm"}}},
	}
}

// A Job's controller takes its finalizer off its pods before the Job goes;
// whoever forces the Job away by hand must not leave pods that nobody lets go.
func TestPodsOfAJobThatIsGoneAreLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		job := f.create(&batchv1.Job{
			TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "pi"},
			Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
				RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "x.wasm"}},
			}}},
		})
		owner := metav1.OwnerReference{APIVersion: "batch/v1", Kind: "Job", Name: "pi", UID: job.GetUID(), Controller: new(true)}
		f.create(trackedPod("owned", owner))
		disowned := trackedPod("disowned")
		disowned.Labels = map[string]string{batchv1.ControllerUidLabel: string(job.GetUID())}
		f.create(disowned)
		f.create(trackedPod("stranger"))
		f.settle(2 * time.Minute)
		for _, name := range []string{"owned", "disowned", "stranger"} {
			if o := f.get(podKey(name)); o == nil || len(o.GetFinalizers()) != 1 {
				t.Fatalf("%s while its job is there: %v", name, o)
			}
		}
		f.delete(core.KeyFor(core.Jobs, job), metav1.DeletePropagationBackground)
		f.settle(time.Second)
		if o := f.get(podKey("owned")); o != nil {
			t.Errorf("owned is left with %v", o.GetFinalizers())
		}
		f.settle(2 * time.Minute)
		if o := f.get(podKey("disowned")); o == nil || len(o.GetFinalizers()) != 0 {
			t.Errorf("disowned: %v", o)
		}
		if o := f.get(podKey("stranger")); o == nil || len(o.GetFinalizers()) != 1 {
			t.Errorf("stranger: %v", o)
		}
	})
}

func podKey(name string) core.Key {
	return core.Key{Resource: core.Pods.Resource, Namespace: "default", Name: name}
}

func TestTolerationForAgesDoesNotOverflow(t *testing.T) {
	taint := corev1.Taint{Key: "k", Effect: corev1.TaintEffectNoExecute}
	for _, seconds := range []int64{1 << 40, 1 << 62} {
		patience, tolerated := tolerance([]corev1.Toleration{{Operator: corev1.TolerationOpExists, TolerationSeconds: &seconds}}, &taint)
		if !tolerated || patience < 200*365*24*time.Hour {
			t.Errorf("%d s are %s", seconds, patience)
		}
	}
}

func TestNamespaceIsEmptied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		f.create(&corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: "shop"}})
		for i := range 50 {
			f.create(configMap("shop", fmt.Sprint("m", i)))
		}
		held := configMap("shop", "held")
		held.Finalizers = []string{"example.com/hold"}
		f.create(held)
		key := core.Key{Resource: "namespaces", Name: "shop"}
		f.delete(key, metav1.DeletePropagationBackground)
		f.settle(10 * time.Second)
		n, ok := f.get(key).(*corev1.Namespace)
		if !ok || n.Status.Phase != corev1.NamespaceTerminating {
			t.Fatalf("namespace: %+v", n)
		}
		want := map[corev1.NamespaceConditionType]string{
			corev1.NamespaceContentRemaining:    "Some resources are remaining: configmaps. has 1 resource instances",
			corev1.NamespaceFinalizersRemaining: "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances",
		}
		for _, c := range n.Status.Conditions {
			if message, ok := want[c.Type]; ok && (c.Message != message || c.Status != corev1.ConditionTrue) {
				t.Errorf("%s: %s %q", c.Type, c.Status, c.Message)
			}
		}
		if len(n.Status.Conditions) != 5 {
			t.Errorf("conditions: %+v", n.Status.Conditions)
		}
		f.mutate(mapKey("shop", "held"), "", func(o core.Object) { o.SetFinalizers(nil) })
		f.settle(time.Second)
		if f.get(key) != nil {
			t.Error("the empty namespace is still there")
		}
	})
}

func newNode(name string) *corev1.Node {
	return &corev1.Node{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
	}
}

func newPod(name, node string) *corev1.Pod {
	return &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "x.wasm"}}},
	}
}

func (f *fixture) readyNode(name string) {
	f.create(newNode(name))
	f.mutate(nodeKey(name), "status", func(o core.Object) {
		o.(*corev1.Node).Status = newNode(name).Status
	})
	f.create(&coordinationv1.Lease{
		TypeMeta:   metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-node-lease", Name: name},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &name},
	})
}

func (f *fixture) renew(name string) {
	now := metav1.NowMicro()
	f.mutate(core.Key{Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-node-lease", Name: name}, "", func(o core.Object) {
		o.(*coordinationv1.Lease).Spec.RenewTime = &now
	})
}

func taintKeys(o core.Object) (keys []string) {
	for _, t := range o.(*corev1.Node).Spec.Taints {
		keys = append(keys, t.Key+":"+string(t.Effect))
	}
	slices.Sort(keys)
	return keys
}

func TestSilentNodeLosesItsPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		f.readyNode("a")
		f.create(newPod("patient", "a"))
		impatient := newPod("impatient", "a")
		impatient.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists, TolerationSeconds: new(int64(20)), Effect: corev1.TaintEffectNoExecute}}
		f.create(impatient)
		for range 30 {
			f.renew("a")
			f.settle(core.HeartbeatInterval)
		}
		if keys := taintKeys(f.get(nodeKey("a"))); len(keys) != 0 {
			t.Fatalf("a node that is heard of has taints %q", keys)
		}
		f.settle(core.NodeMonitorGrace)
		node := f.get(nodeKey("a")).(*corev1.Node)
		if readiness(node) != corev1.ConditionUnknown {
			t.Errorf("conditions %+v", node.Status.Conditions)
		}
		want := []string{"node.kubernetes.io/unreachable:NoExecute", "node.kubernetes.io/unreachable:NoSchedule"}
		if keys := taintKeys(node); !slices.Equal(keys, want) {
			t.Errorf("taints %q", keys)
		}
		podKey := func(name string) core.Key { return core.Key{Resource: "pods", Namespace: "default", Name: name} }
		deleting := func(name string) bool {
			o := f.get(podKey(name))
			return o == nil || o.GetDeletionTimestamp() != nil
		}
		f.settle(25 * time.Second)
		if !deleting("impatient") || deleting("patient") {
			t.Errorf("after 25 s: impatient deleted %v, patient deleted %v", deleting("impatient"), deleting("patient"))
		}
		if !f.events.Has("TaintManagerEviction: Marking for deletion Pod default/impatient") {
			t.Errorf("events %q", f.events.Lines())
		}
		f.settle(5 * time.Minute)
		if !deleting("patient") {
			t.Error("after five minutes the default toleration is over")
		}
		if o := f.get(podKey("patient")); o == nil {
			t.Error("a pod whose node may still run it must not vanish")
		}
		f.delete(nodeKey("a"), metav1.DeletePropagationBackground)
		f.settle(2 * reapAfter)
		if f.get(podKey("patient")) != nil || f.get(podKey("impatient")) != nil {
			t.Error("pods of a deleted node are still there")
		}
	})
}

func TestNodeThatIsBackKeepsItsPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		f.readyNode("a")
		f.create(newPod("p", "a"))
		f.settle(time.Minute)
		if len(taintKeys(f.get(nodeKey("a")))) != 2 {
			t.Fatal("the silent node has no taints")
		}
		f.renew("a")
		f.mutate(nodeKey("a"), "status", func(o core.Object) { o.(*corev1.Node).Status.Conditions[0].Status = corev1.ConditionTrue })
		for range 300 {
			f.renew("a")
			f.settle(core.HeartbeatInterval)
		}
		if keys := taintKeys(f.get(nodeKey("a"))); len(keys) != 0 {
			t.Errorf("taints %q", keys)
		}
		if o := f.get(core.Key{Resource: "pods", Namespace: "default", Name: "p"}); o == nil || o.GetDeletionTimestamp() != nil {
			t.Error("the pod was evicted")
		}
	})
}

func TestFinishedJobExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		job := &batchv1.Job{
			TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "j"},
			Spec: batchv1.JobSpec{TTLSecondsAfterFinished: new(int32(60)), Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
				RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "x.wasm"}},
			}}},
		}
		f.create(job)
		key := core.Key{Group: "batch", Resource: "jobs", Namespace: "default", Name: "j"}
		f.settle(time.Hour)
		if f.get(key) == nil {
			t.Fatal("a job that runs expired")
		}
		f.mutate(key, "status", func(o core.Object) {
			now := metav1.Now()
			status := &o.(*batchv1.Job).Status
			status.StartTime, status.CompletionTime = &now, &now
			status.Conditions = []batchv1.JobCondition{
				{Type: batchv1.JobSuccessCriteriaMet, Status: corev1.ConditionTrue, LastTransitionTime: now},
				{Type: batchv1.JobComplete, Status: corev1.ConditionTrue, LastTransitionTime: now},
			}
		})
		f.settle(50 * time.Second)
		if f.get(key) == nil {
			t.Fatal("it expired before its time")
		}
		f.settle(15 * time.Second)
		if f.get(key) != nil {
			t.Error("it did not expire")
		}
	})
}

func TestEventsExpireAndAreCapped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		event := func(name string) {
			f.create(&corev1.Event{
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Event"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
				InvolvedObject: corev1.ObjectReference{Namespace: "default", Name: "x"}, LastTimestamp: metav1.Now(),
			})
		}
		event("old")
		f.settle(50 * time.Minute)
		event("young")
		f.settle(15 * time.Minute)
		if f.get(core.Key{Resource: "events", Namespace: "default", Name: "old"}) != nil {
			t.Error("an event older than an hour is there")
		}
		if f.get(core.Key{Resource: "events", Namespace: "default", Name: "young"}) == nil {
			t.Error("a young event is gone")
		}
	})
}
