package deployment_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/workloads/deployment"
	"github.com/weftrun/weft/workloads/replicaset"
	"github.com/weftrun/weft/workloads/workloadstest"
)

func newDeployment(replicas int32, change ...func(*appsv1.DeploymentSpec)) *appsv1.Deployment {
	d := &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas:                &replicas,
			Selector:                &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
			Template:                workloadstest.Template("web:1"),
			RevisionHistoryLimit:    new(int32(10)),
			ProgressDeadlineSeconds: new(int32(600)),
			Strategy: appsv1.DeploymentStrategy{
				Type:          appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: new(intstr.FromString("25%")), MaxUnavailable: new(intstr.FromString("25%"))},
			},
		},
	}
	for _, c := range change {
		c(&d.Spec)
	}
	return d
}

func steps(surge, unavailable int) func(*appsv1.DeploymentSpec) {
	return func(s *appsv1.DeploymentSpec) {
		s.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: new(intstr.FromInt(surge)), MaxUnavailable: new(intstr.FromInt(unavailable))}
	}
}

func recreate(s *appsv1.DeploymentSpec) {
	s.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
}

type fixture struct {
	*workloadstest.World
	t   testing.TB
	c   deployment.Controller
	key core.Key
	// broken images never become ready.
	broken map[string]bool
}

func newFixture(t testing.TB, d *appsv1.Deployment) *fixture {
	w := workloadstest.New(t)
	return &fixture{World: w, t: t, key: w.Add(core.Deployments, d), broken: make(map[string]bool)}
}

func (f *fixture) decide() core.Decision { return f.Decide(f.c, f.key) }

func (f *fixture) d() *appsv1.Deployment {
	return workloadstest.Get[*appsv1.Deployment](f.World, f.key)
}

func (f *fixture) change(change func(*appsv1.Deployment)) {
	workloadstest.Change(f.World, f.key, true, change)
}

func (f *fixture) setImage(image string) {
	f.change(func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = image })
}

func (f *fixture) sets() []*appsv1.ReplicaSet {
	return workloadstest.List[*appsv1.ReplicaSet](f.World, core.ReplicaSets)
}

func (f *fixture) pods() []*corev1.Pod { return workloadstest.List[*corev1.Pod](f.World, core.Pods) }

// set returns the ReplicaSet of an image.
func (f *fixture) set(image string) *appsv1.ReplicaSet {
	f.t.Helper()
	for _, rs := range f.sets() {
		if rs.Spec.Template.Spec.Containers[0].Image == image {
			return rs
		}
	}
	f.t.Fatalf("no replica set of %s", image)
	return nil
}

// sizes returns what the ReplicaSets of some images ask for.
func (f *fixture) sizes(images ...string) []int32 {
	f.t.Helper()
	var list []int32
	for _, image := range images {
		list = append(list, *f.set(image).Spec.Replicas)
	}
	return list
}

func (f *fixture) decideSets() {
	for _, rs := range f.sets() {
		f.Decide(replicaset.New(), core.KeyFor(core.ReplicaSets, rs))
	}
}

// runPods lets nodes do their work: pods that are not broken become ready,
// those being deleted stop.
func (f *fixture) runPods() {
	for _, pod := range f.pods() {
		key := core.KeyFor(core.Pods, pod)
		switch {
		case pod.DeletionTimestamp != nil:
			f.Stop(key)
		case pod.Status.Phase == "":
			f.SetReady(key, !f.broken[pod.Spec.Containers[0].Image])
		}
	}
}

// settle goes on until nothing changes any more.
func (f *fixture) settle() {
	f.t.Helper()
	for range 200 {
		before := f.Revision
		f.decide()
		f.decideSets()
		f.runPods()
		f.decideSets()
		if f.Revision == before {
			return
		}
		f.Now = f.Now.Add(time.Second)
	}
	f.t.Fatal("it never settles")
}

func (f *fixture) condition(kind appsv1.DeploymentConditionType) appsv1.DeploymentCondition {
	for _, c := range f.d().Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return appsv1.DeploymentCondition{}
}

func (f *fixture) wantProgress(status corev1.ConditionStatus, reason, message string) {
	f.t.Helper()
	c := f.condition(appsv1.DeploymentProgressing)
	got, want := string(c.Status)+" "+c.Reason+": "+c.Message, string(status)+" "+reason+": "+message
	if got != want {
		f.t.Errorf("progressing is %s, want %s", got, want)
	}
}

func (f *fixture) wantSizes(want []int32, images ...string) {
	f.t.Helper()
	if diff := cmp.Diff(want, f.sizes(images...)); diff != "" {
		f.t.Errorf("sizes of %v (-want +got):\n%s", images, diff)
	}
}

func (f *fixture) wantStatus(want appsv1.DeploymentStatus) {
	f.t.Helper()
	want.ObservedGeneration = f.d().Generation
	if diff := cmp.Diff(want, f.d().Status, cmpopts.IgnoreFields(appsv1.DeploymentStatus{}, "Conditions", "CollisionCount", "TerminatingReplicas")); diff != "" {
		f.t.Errorf("status (-want +got):\n%s", diff)
	}
}

func TestRollsOutTheFirstRevision(t *testing.T) {
	f := newFixture(t, newDeployment(3))
	f.decide()
	rs := f.set("web:1")
	hash := rs.Labels[appsv1.DefaultDeploymentUniqueLabelKey]
	if hash == "" || rs.Name != "web-"+hash || rs.Spec.Selector.MatchLabels["pod-template-hash"] != hash || rs.Spec.Template.Labels["pod-template-hash"] != hash {
		t.Errorf("hash %q of %+v", hash, rs.ObjectMeta)
	}
	want := map[string]string{
		"deployment.kubernetes.io/revision": "1", "deployment.kubernetes.io/desired-replicas": "3", "deployment.kubernetes.io/max-replicas": "4",
	}
	if diff := cmp.Diff(want, rs.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	f.wantProgress("True", "NewReplicaSetCreated", `Created new replica set "`+rs.Name+`"`)
	if e := f.Events[0]; e.Reason != "ScalingReplicaSet" || e.Message != "Scaled up replica set "+rs.Name+" from 0 to 3" {
		t.Errorf("event %+v", e)
	}
	if c := f.condition(appsv1.DeploymentAvailable); c.Status != "False" || c.Reason != "MinimumReplicasUnavailable" {
		t.Errorf("available is %+v", c)
	}
	f.settle()
	if got := f.d().Annotations["deployment.kubernetes.io/revision"]; got != "1" {
		t.Errorf("the deployment's revision is %q", got)
	}
	f.wantProgress("True", "NewReplicaSetAvailable", `ReplicaSet "`+rs.Name+`" has successfully progressed.`)
	if c := f.condition(appsv1.DeploymentAvailable); c.Status != "True" || c.Reason != "MinimumReplicasAvailable" {
		t.Errorf("available is %+v", c)
	}
	f.wantStatus(appsv1.DeploymentStatus{Replicas: 3, UpdatedReplicas: 3, ReadyReplicas: 3, AvailableReplicas: 3})
	if n := len(f.pods()); n != 3 {
		t.Errorf("%d pods", n)
	}
}

func TestRollingUpdateStepByStep(t *testing.T) {
	f := newFixture(t, newDeployment(10, steps(3, 2)))
	f.settle()
	f.setImage("web:2")
	f.decide() // up to the surge
	f.wantSizes([]int32{10, 3}, "web:1", "web:2")
	f.decide() // down to what must be available
	f.wantSizes([]int32{8, 3}, "web:1", "web:2")
	f.decideSets()
	f.decide() // the old pods are not known to be gone
	f.wantSizes([]int32{8, 3}, "web:1", "web:2")
	f.decideSets()
	f.decide() // fills the room
	f.wantSizes([]int32{8, 5}, "web:1", "web:2")
	f.decideSets()
	for range 3 {
		f.decide()
		f.wantSizes([]int32{8, 5}, "web:1", "web:2") // nothing is ready yet
	}
	f.settle()
	f.wantSizes([]int32{0, 10}, "web:1", "web:2")
	f.wantStatus(appsv1.DeploymentStatus{Replicas: 10, UpdatedReplicas: 10, ReadyReplicas: 10, AvailableReplicas: 10})
}

func TestRollBackFindsTheOldReplicaSet(t *testing.T) {
	f := newFixture(t, newDeployment(2))
	f.settle()
	first := f.set("web:1").Name
	f.setImage("web:2")
	f.settle()
	f.Now = f.Now.Add(time.Hour)
	f.setImage("web:1")
	f.decide()
	f.wantProgress("True", "FoundNewReplicaSet", `Found new replica set "`+first+`"`)
	f.settle()
	rs := f.set("web:1")
	if rs.Name != first || len(f.sets()) != 2 {
		t.Errorf("rolled back to %s of %d, want %s of 2", rs.Name, len(f.sets()), first)
	}
	if rs.Annotations["deployment.kubernetes.io/revision"] != "3" || rs.Annotations["deployment.kubernetes.io/revision-history"] != "1" ||
		f.d().Annotations["deployment.kubernetes.io/revision"] != "3" {
		t.Errorf("annotations %v, deployment's %v", rs.Annotations, f.d().Annotations)
	}
	f.wantSizes([]int32{2, 0}, "web:1", "web:2")
	f.wantProgress("True", "NewReplicaSetAvailable", `ReplicaSet "`+first+`" has successfully progressed.`)
}

func TestBrokenRevisionDoesNotBlockItsFix(t *testing.T) {
	f := newFixture(t, newDeployment(4, steps(1, 1)))
	f.broken["bad"] = true
	f.settle()
	f.setImage("bad")
	f.settle()
	f.wantSizes([]int32{3, 2}, "web:1", "bad")
	f.setImage("web:2")
	f.settle()
	f.wantSizes([]int32{0, 0, 4}, "web:1", "bad", "web:2")
}

func TestDeadline(t *testing.T) {
	f := newFixture(t, newDeployment(2))
	f.settle()
	f.broken["bad"] = true
	f.setImage("bad")
	f.settle()
	name := f.set("bad").Name
	f.wantProgress("True", "ReplicaSetUpdated", `ReplicaSet "`+name+`" is progressing.`)
	wake, ok := f.Requeue[f.key]
	if !ok {
		t.Fatal("nobody looks at the deadline")
	}
	f.Now = wake
	f.decide()
	f.wantProgress("False", "ProgressDeadlineExceeded", `ReplicaSet "`+name+`" has timed out progressing.`)
	if _, again := f.Requeue[f.key]; again {
		t.Error("it is looked at again after the deadline")
	}
	for _, pod := range f.pods() {
		if pod.Spec.Containers[0].Image == "bad" {
			f.SetReady(core.KeyFor(core.Pods, pod), true)
		}
	}
	f.broken["bad"] = false
	f.settle()
	f.wantProgress("True", "NewReplicaSetAvailable", `ReplicaSet "`+name+`" has successfully progressed.`)
}

func TestRecreateWaitsForOldPods(t *testing.T) {
	f := newFixture(t, newDeployment(2, recreate))
	f.settle()
	f.setImage("web:2")
	f.decide()
	f.wantSizes([]int32{0}, "web:1")
	f.decideSets()
	for range 3 {
		f.decide()
		f.decideSets()
	}
	if n := len(f.sets()); n != 1 {
		t.Fatalf("%d replica sets while old pods stop", n)
	}
	for _, pod := range f.pods() {
		f.Stop(core.KeyFor(core.Pods, pod))
	}
	f.decideSets()
	f.decide()
	f.wantSizes([]int32{0, 2}, "web:1", "web:2")
	f.settle()
	f.wantStatus(appsv1.DeploymentStatus{Replicas: 2, UpdatedReplicas: 2, ReadyReplicas: 2, AvailableReplicas: 2})
}

func TestPause(t *testing.T) {
	f := newFixture(t, newDeployment(4, steps(1, 1)))
	f.settle()
	f.setImage("web:2")
	f.decide()
	f.decide()
	f.change(func(d *appsv1.Deployment) { d.Spec.Paused = true })
	f.wantSizes([]int32{3, 1}, "web:1", "web:2")
	f.settle()
	f.wantSizes([]int32{4, 1}, "web:1", "web:2") // the room is used, the roll-out stands
	f.wantProgress("Unknown", "DeploymentPaused", "Deployment is paused")
	f.setImage("web:3")
	f.settle()
	if n := len(f.sets()); n != 2 {
		t.Errorf("a paused deployment made a replica set")
	}
	f.change(func(d *appsv1.Deployment) { d.Spec.Paused = false })
	f.settle()
	f.wantSizes([]int32{0, 0, 4}, "web:1", "web:2", "web:3")
}

func TestScaling(t *testing.T) {
	resize := func(n int32) func(f *fixture) {
		return func(f *fixture) { f.change(func(d *appsv1.Deployment) { d.Spec.Replicas = &n }) }
	}
	tests := []struct {
		name   string
		before [2]int32 // of the old and the new revision, when it is resized
		to     int32
		want   []int32
	}{
		{"up in proportion", [2]int32{8, 5}, 20, []int32{14, 9}},
		{"down in proportion", [2]int32{8, 5}, 5, []int32{5, 3}},
		{"to nothing", [2]int32{8, 5}, 0, []int32{0, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, newDeployment(10, steps(3, 2)))
			f.broken["web:2"] = true
			f.settle()
			f.setImage("web:2")
			f.settle()
			f.wantSizes(tt.before[:], "web:1", "web:2")
			resize(tt.to)(f)
			f.decide()
			f.wantSizes(tt.want, "web:1", "web:2")
		})
	}
	t.Run("of a finished roll-out", func(t *testing.T) {
		f := newFixture(t, newDeployment(3))
		f.settle()
		resize(5)(f)
		f.settle()
		f.wantSizes([]int32{5}, "web:1")
		want := core.Note{Type: "Normal", Reason: "ScalingReplicaSet", Message: "Scaled up replica set " + f.set("web:1").Name + " from 3 to 5"}
		if !slices.Contains(f.Events, want) {
			t.Errorf("no %+v among %+v", want, f.Events)
		}
		if c := f.condition(appsv1.DeploymentProgressing); c.Reason != "NewReplicaSetAvailable" {
			t.Errorf("progressing is %+v", c)
		}
	})
}

func TestHistoryLimit(t *testing.T) {
	f := newFixture(t, newDeployment(1, func(s *appsv1.DeploymentSpec) { s.RevisionHistoryLimit = new(int32(2)) }))
	for _, image := range []string{"web:1", "web:2", "web:3", "web:4", "web:5"} {
		f.setImage(image)
		f.settle()
	}
	var left []string
	for _, rs := range f.sets() {
		left = append(left, rs.Spec.Template.Spec.Containers[0].Image)
	}
	slices.Sort(left)
	if diff := cmp.Diff([]string{"web:3", "web:4", "web:5"}, left); diff != "" {
		t.Errorf("revisions kept (-want +got):\n%s", diff)
	}
}

func TestHashCollision(t *testing.T) {
	f := newFixture(t, newDeployment(1))
	f.Refuse = func(string, core.Key) string { return "it exists already" }
	f.Reason = "AlreadyExists"
	first := f.decide().Create[0].GetName()
	f.Refuse = nil
	second := f.decide().Create[0].GetName()
	if first == second || *f.d().Status.CollisionCount != 1 {
		t.Errorf("%s was tried, then %s, %d collisions", first, second, *f.d().Status.CollisionCount)
	}
	f.settle()
	if *f.d().Status.CollisionCount != 1 {
		t.Errorf("%d collisions", *f.d().Status.CollisionCount)
	}
}

func TestRefusedReplicaSet(t *testing.T) {
	f := newFixture(t, newDeployment(1))
	f.Refuse = func(string, core.Key) string { return "no" }
	f.decide()
	d := f.decide()
	name := d.Create[0].GetName()
	f.wantProgress("False", "ReplicaSetCreateError", `Failed to create new replica set "`+name+`": no`)
	f.Refuse = nil
	f.settle()
	f.wantProgress("True", "NewReplicaSetAvailable", `ReplicaSet "`+name+`" has successfully progressed.`)
}

func TestReplicaFailureIsPassedOn(t *testing.T) {
	f := newFixture(t, newDeployment(1))
	f.decide()
	f.Refuse = func(string, core.Key) string { return "no pods here" }
	f.decideSets()
	f.decideSets()
	f.decide()
	if c := f.condition(appsv1.DeploymentReplicaFailure); c.Status != "True" || c.Reason != "FailedCreate" || c.Message != "no pods here" {
		t.Errorf("replica failure is %+v", c)
	}
	f.Refuse = nil
	f.settle()
	if c := f.condition(appsv1.DeploymentReplicaFailure); c.Status != "" {
		t.Errorf("replica failure is still %+v", c)
	}
}

func TestAnnotationsArePassedOn(t *testing.T) {
	d := newDeployment(1)
	d.Annotations = map[string]string{"kubernetes.io/change-cause": "first", corev1.LastAppliedConfigAnnotation: "{}"}
	f := newFixture(t, d)
	f.settle()
	a := f.set("web:1").Annotations
	if a["kubernetes.io/change-cause"] != "first" {
		t.Errorf("annotations %v", a)
	}
	if _, passed := a[corev1.LastAppliedConfigAnnotation]; passed {
		t.Error("kubectl's own annotation was passed on")
	}
}

func TestWithoutDeadlineThereIsNoProgressing(t *testing.T) {
	f := newFixture(t, newDeployment(1, func(s *appsv1.DeploymentSpec) { s.ProgressDeadlineSeconds = nil }))
	f.settle()
	if c := f.condition(appsv1.DeploymentProgressing); c.Type != "" {
		t.Errorf("progressing is %+v", c)
	}
}

func TestSettledMeansNoWrites(t *testing.T) {
	f := newFixture(t, newDeployment(3))
	f.settle()
	d := f.decide()
	if len(d.Create)+len(d.Update)+len(d.Delete)+len(d.Events)+len(d.Annotations) > 0 {
		t.Errorf("decided %+v", d)
	}
	if !cmp.Equal(d.Status.(*appsv1.Deployment).Status, f.d().Status) {
		t.Errorf("the status changes: %s", cmp.Diff(f.d().Status, d.Status.(*appsv1.Deployment).Status))
	}
}
