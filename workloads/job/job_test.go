package job_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/workloads/job"
	"github.com/weftrun/weft/workloads/workloadstest"
)

func newJob(parallelism int32, completions *int32, change ...func(*batchv1.JobSpec)) *batchv1.Job {
	template := workloadstest.Template("pi:1")
	template.Labels = map[string]string{"batch.kubernetes.io/job-name": "pi"}
	template.Spec.RestartPolicy = corev1.RestartPolicyNever
	j := &batchv1.Job{
		TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{Name: "pi"},
		Spec: batchv1.JobSpec{
			Parallelism: &parallelism, Completions: completions, BackoffLimit: new(int32(6)),
			Selector: &metav1.LabelSelector{MatchLabels: template.Labels}, Template: template,
		},
	}
	for _, c := range change {
		c(&j.Spec)
	}
	return j
}

func indexed(s *batchv1.JobSpec) { s.CompletionMode = new(batchv1.IndexedCompletion) }

type fixture struct {
	*workloadstest.World
	t   testing.TB
	c   job.Controller
	key core.Key
}

func newFixture(t testing.TB, j *batchv1.Job) *fixture {
	w := workloadstest.New(t)
	return &fixture{World: w, t: t, c: job.New(), key: w.Add(core.Jobs, j)}
}

func (f *fixture) decide() core.Decision { return f.Decide(f.c, f.key) }

func (f *fixture) job() *batchv1.Job { return workloadstest.Get[*batchv1.Job](f.World, f.key) }

func (f *fixture) pods() []*corev1.Pod { return workloadstest.List[*corev1.Pod](f.World, core.Pods) }

// running returns the keys of the active pods, by completion index and name.
func (f *fixture) running() []core.Key {
	pods := slices.DeleteFunc(f.pods(), func(p *corev1.Pod) bool { return !active(p) })
	slices.SortStableFunc(pods, func(a, b *corev1.Pod) int {
		return strings.Compare(a.Annotations[batchv1.JobCompletionIndexAnnotation], b.Annotations[batchv1.JobCompletionIndexAnnotation])
	})
	keys := make([]core.Key, len(pods))
	for i, pod := range pods {
		keys[i] = core.KeyFor(core.Pods, pod)
	}
	return keys
}

func active(p *corev1.Pod) bool {
	return p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodFailed && p.Status.Phase != corev1.PodSucceeded
}

func tracked(p *corev1.Pod) bool { return slices.Contains(p.Finalizers, batchv1.JobTrackingFinalizer) }

func (f *fixture) pass(d time.Duration) { f.Now = f.Now.Add(d) }

// wantConditions compares "Type=Status Reason: Message".
func (f *fixture) wantConditions(want ...string) {
	f.t.Helper()
	var got []string
	for _, c := range f.job().Status.Conditions {
		got = append(got, string(c.Type)+"="+string(c.Status)+" "+c.Reason+": "+c.Message)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		f.t.Errorf("conditions (-want +got):\n%s", diff)
	}
}

// wantCounts compares active, terminating, succeeded, failed.
func (f *fixture) wantCounts(want ...int32) {
	f.t.Helper()
	s := f.job().Status
	if diff := cmp.Diff(want, []int32{s.Active, *s.Terminating, s.Succeeded, s.Failed}); diff != "" {
		f.t.Errorf("active, terminating, succeeded, failed (-want +got):\n%s", diff)
	}
}

func (f *fixture) wantEvent(reason, message string) {
	f.t.Helper()
	for _, e := range f.Events {
		if e.Reason == reason && e.Message == message {
			return
		}
	}
	f.t.Errorf("no event %s %q among %+v", reason, message, f.Events)
}

func (f *fixture) wantNoneTracked() {
	f.t.Helper()
	for _, pod := range f.pods() {
		if tracked(pod) {
			f.t.Errorf("pod %s is still tracked", pod.Name)
		}
	}
	if j := f.job(); j != nil && len(j.Finalizers) > 0 {
		f.t.Errorf("job still has finalizers %v", j.Finalizers)
	}
}

func TestRunsToCompletion(t *testing.T) {
	f := newFixture(t, newJob(2, new(int32(3))))
	f.decide()
	f.wantCounts(2, 0, 0, 0)
	if got := f.job(); got.Status.StartTime == nil || !slices.Equal(got.Finalizers, []string{job.Finalizer}) {
		t.Errorf("start time %v, finalizers %v", got.Status.StartTime, got.Finalizers)
	}
	for _, pod := range f.pods() {
		if !tracked(pod) || !strings.HasPrefix(pod.Name, "pi-") || len(pod.Name) != len("pi-")+5 {
			t.Errorf("pod %q has finalizers %v", pod.Name, pod.Finalizers)
		}
	}
	f.Finish(f.running()[0], 0)
	f.decide()
	f.wantCounts(2, 0, 1, 0)
	for range 2 {
		f.Finish(f.running()[0], 0)
	}
	f.decide()
	f.wantCounts(0, 0, 3, 0)
	const how = "CompletionsReached: Reached expected number of succeeded pods"
	f.wantConditions("SuccessCriteriaMet=True "+how, "Complete=True "+how)
	f.wantEvent("Completed", "Job completed")
	f.wantNoneTracked()
	if f.job().Status.CompletionTime == nil || len(f.Requeue) != 0 {
		t.Errorf("completion time %v, requeue %v", f.job().Status.CompletionTime, f.Requeue)
	}
	if d := f.decide(); d.Status != nil || d.Create != nil || d.Update != nil || d.Events != nil {
		t.Errorf("a finished job was touched: %+v", d)
	}
}

func TestWithoutCompletionsOneSuccessIsEnough(t *testing.T) {
	f := newFixture(t, newJob(3, nil))
	f.decide()
	f.Finish(f.running()[0], 0)
	f.decide()
	f.wantCounts(2, 0, 1, 0)
	f.wantConditions()
	f.Finish(f.running()[0], 1)
	f.Finish(f.running()[0], 0)
	f.decide()
	f.wantCounts(0, 0, 2, 1)
	f.wantEvent("Completed", "Job completed")
}

func TestBackOffDoubles(t *testing.T) {
	f := newFixture(t, newJob(1, new(int32(1))))
	for i, want := range []time.Duration{10, 20, 40, 80, 160, 320} {
		f.decide()
		if len(f.running()) != 1 {
			t.Fatalf("failure %d: %d pods run", i, len(f.running()))
		}
		f.Finish(f.running()[0], 1)
		d := f.decide()
		if len(d.Create) != 0 || d.RequeueAfter != want*time.Second {
			t.Fatalf("failure %d: created %d, again after %s, want %s", i, len(d.Create), d.RequeueAfter, want*time.Second)
		}
		f.pass(want*time.Second - time.Millisecond)
		if d := f.decide(); len(d.Create) != 0 {
			t.Fatalf("failure %d: created a pod early", i)
		}
		f.pass(time.Millisecond)
	}
	f.decide()
	f.Finish(f.running()[0], 1)
	f.decide()
	f.wantCounts(0, 0, 0, 7)
	const how = "BackoffLimitExceeded: Job has reached the specified backoff limit"
	f.wantConditions("FailureTarget=True "+how, "Failed=True "+how)
	f.wantEvent("BackoffLimitExceeded", "Job has reached the specified backoff limit")
	f.wantNoneTracked()
}

func TestSuccessEndsBackOff(t *testing.T) {
	f := newFixture(t, newJob(2, new(int32(4))))
	f.decide()
	f.Finish(f.running()[0], 1)
	f.pass(time.Second)
	f.Finish(f.running()[0], 0)
	if d := f.decide(); len(d.Create) != 2 {
		t.Errorf("created %d, want 2: a success came after the failure", len(d.Create))
	}
}

func TestBackOffIsCapped(t *testing.T) {
	f := newFixture(t, newJob(1, new(int32(1)), func(s *batchv1.JobSpec) { s.BackoffLimit = new(int32(100)) }))
	for failure := range 40 {
		f.decide()
		f.Finish(f.running()[0], 1)
		d := f.decide()
		if want := 10 * time.Minute; d.RequeueAfter > want || (failure >= 6 && d.RequeueAfter != want) {
			t.Fatalf("failure %d: again after %s", failure, d.RequeueAfter)
		}
		f.pass(10 * time.Minute)
	}
}

func TestFailureEndsWhatRuns(t *testing.T) {
	f := newFixture(t, newJob(3, new(int32(3)), func(s *batchv1.JobSpec) { s.BackoffLimit = new(int32) }))
	f.decide()
	running := f.running()
	for _, key := range running {
		f.Start(key)
	}
	f.Finish(running[0], 1)
	f.decide()
	f.wantCounts(0, 2, 0, 3)
	f.wantConditions("FailureTarget=True BackoffLimitExceeded: Job has reached the specified backoff limit")
	f.Stop(running[1])
	f.decide()
	f.wantCounts(0, 1, 0, 3)
	f.Stop(running[2])
	f.decide()
	f.wantCounts(0, 0, 0, 3)
	const how = "BackoffLimitExceeded: Job has reached the specified backoff limit"
	f.wantConditions("FailureTarget=True "+how, "Failed=True "+how)
	f.wantNoneTracked()
}

func TestRestartsInPlaceCount(t *testing.T) {
	for _, tt := range []struct {
		name            string
		limit, restarts int32
		fails           bool
	}{
		{"none allowed, none happened", 0, 0, false},
		{"none allowed, one happened", 0, 1, true},
		{"below the limit", 3, 2, false},
		{"at the limit", 3, 3, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, newJob(1, new(int32(1)), func(s *batchv1.JobSpec) {
				s.BackoffLimit = &tt.limit
				s.Template.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
			}))
			f.decide()
			workloadstest.Change(f.World, f.running()[0], false, func(p *corev1.Pod) {
				p.Status.Phase = corev1.PodRunning
				p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", RestartCount: tt.restarts}}
			})
			f.decide()
			if got := len(f.job().Status.Conditions) > 0; got != tt.fails {
				t.Errorf("fails: %v, want %v", got, tt.fails)
			}
		})
	}
}

func TestDeadline(t *testing.T) {
	f := newFixture(t, newJob(1, new(int32(1)), func(s *batchv1.JobSpec) { s.ActiveDeadlineSeconds = new(int64(30)) }))
	if d := f.decide(); d.RequeueAfter != 30*time.Second {
		t.Errorf("again after %s, want 30s", d.RequeueAfter)
	}
	f.pass(30 * time.Second)
	f.decide()
	f.decide()
	const how = "DeadlineExceeded: Job was active longer than specified deadline"
	f.wantConditions("FailureTarget=True "+how, "Failed=True "+how)
	f.wantEvent("DeadlineExceeded", "Job was active longer than specified deadline")
}

func TestSuspendAndResume(t *testing.T) {
	f := newFixture(t, newJob(2, new(int32(2)), func(s *batchv1.JobSpec) { s.ActiveDeadlineSeconds = new(int64(30)) }))
	f.decide()
	for _, key := range f.running() {
		f.Start(key)
	}
	workloadstest.Change(f.World, f.key, true, func(j *batchv1.Job) { j.Spec.Suspend = new(true) })
	f.decide()
	f.wantCounts(0, 2, 0, 0)
	f.wantConditions("Suspended=True JobSuspended: Job suspended")
	f.wantEvent("Suspended", "Job suspended")
	if f.job().Status.StartTime != nil {
		t.Error("a suspended job has a start time")
	}
	for _, pod := range f.pods() {
		f.Stop(core.KeyFor(core.Pods, pod))
	}
	f.pass(time.Hour)
	f.decide()
	f.wantCounts(0, 0, 0, 0)
	workloadstest.Change(f.World, f.key, true, func(j *batchv1.Job) { j.Spec.Suspend = new(false) })
	f.decide()
	f.wantCounts(2, 0, 0, 0)
	f.wantConditions("Suspended=False JobResumed: Job resumed")
	f.wantEvent("Resumed", "Job resumed")
	if got := f.job().Status.StartTime; got == nil || !got.Time.Equal(f.Now) {
		t.Errorf("start time %v, want %v", got, f.Now)
	}
}

func TestScaleDownReleasesWithoutCounting(t *testing.T) {
	f := newFixture(t, newJob(3, new(int32(5))))
	f.decide()
	for _, key := range f.running() {
		f.Start(key)
	}
	workloadstest.Change(f.World, f.key, true, func(j *batchv1.Job) { j.Spec.Parallelism = new(int32(1)) })
	f.decide()
	f.wantCounts(1, 2, 0, 0)
	f.decide()
	f.wantCounts(1, 2, 0, 0)
}

func TestDeletedPodsCountAsFailed(t *testing.T) {
	f := newFixture(t, newJob(1, new(int32(1))))
	f.decide()
	f.Start(f.running()[0])
	f.pass(time.Minute)
	f.Delete(f.running()[0])
	d := f.decide()
	f.wantCounts(0, 1, 0, 1)
	if d.RequeueAfter != 10*time.Second {
		t.Errorf("again after %s, want 10s", d.RequeueAfter)
	}
	f.pass(10 * time.Second)
	f.decide()
	f.wantCounts(1, 1, 0, 1)
}

func TestReplacesOnlyFailedPods(t *testing.T) {
	f := newFixture(t, newJob(1, new(int32(1)), func(s *batchv1.JobSpec) { s.PodReplacementPolicy = new(batchv1.Failed) }))
	f.decide()
	first := f.running()[0]
	f.Start(first)
	f.Delete(first)
	f.pass(time.Minute)
	f.decide()
	f.wantCounts(0, 1, 0, 0)
	f.Finish(first, 1)
	f.decide()
	f.wantCounts(0, 0, 0, 1)
	f.pass(10 * time.Second)
	f.decide()
	f.wantCounts(1, 0, 0, 1)
}

func TestPodFailurePolicy(t *testing.T) {
	exit := func(action batchv1.PodFailurePolicyAction, op batchv1.PodFailurePolicyOnExitCodesOperator, codes ...int32) batchv1.PodFailurePolicyRule {
		return batchv1.PodFailurePolicyRule{Action: action, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: op, Values: codes}}
	}
	for _, tt := range []struct {
		name   string
		rule   batchv1.PodFailurePolicyRule
		failed int32
		ends   string
	}{
		{"fails the job", exit("FailJob", "In", 7), 1, "PodFailurePolicy: Container main for pod default/NAME failed with exit code 7 matching FailJob rule at index 0"},
		{"does not match", exit("FailJob", "NotIn", 7), 1, ""},
		{"ignored", exit("Ignore", "In", 7), 0, ""},
		{"counted", exit("Count", "In", 7), 1, ""},
		{"of an unknown action", exit("Sing", "In", 7), 1, ""},
		{"by condition", batchv1.PodFailurePolicyRule{Action: "FailJob", OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: "Ready", Status: "False"}}}, 1,
			"PodFailurePolicy: Pod default/NAME has condition Ready matching FailJob rule at index 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, newJob(1, new(int32(1)), func(s *batchv1.JobSpec) {
				s.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{tt.rule}}
			}))
			f.decide()
			pod := f.running()[0]
			f.Finish(pod, 7)
			f.decide()
			f.wantCounts(0, 0, 0, tt.failed)
			if tt.ends == "" {
				f.wantConditions()
				return
			}
			how := strings.ReplaceAll(tt.ends, "NAME", pod.Name)
			f.wantConditions("FailureTarget=True "+how, "Failed=True "+how)
		})
	}
}

func TestIndexed(t *testing.T) {
	f := newFixture(t, newJob(3, new(int32(5)), indexed))
	f.decide()
	for i, key := range f.running() {
		pod := workloadstest.Get[*corev1.Pod](f.World, key)
		index := string(rune('0' + i))
		env := pod.Spec.Containers[0].Env
		if pod.Annotations[batchv1.JobCompletionIndexAnnotation] != index || pod.Labels[batchv1.JobCompletionIndexAnnotation] != index ||
			pod.Spec.Hostname != "pi-"+index || !strings.HasPrefix(pod.Name, "pi-"+index+"-") || len(env) != 1 || env[0].Name != "JOB_COMPLETION_INDEX" ||
			env[0].ValueFrom.FieldRef.FieldPath != "metadata.labels['batch.kubernetes.io/job-completion-index']" {
			t.Errorf("pod %d: %+v", i, pod)
		}
	}
	running := f.running()
	f.Finish(running[0], 0)
	f.Finish(running[2], 0)
	f.decide()
	if got := f.job().Status.CompletedIndexes; got != "0,2" {
		t.Errorf("completed indexes %q", got)
	}
	f.wantCounts(3, 0, 2, 0)
	for range 3 {
		f.Finish(f.running()[0], 0)
	}
	f.decide()
	if got := f.job().Status.CompletedIndexes; got != "0-4" {
		t.Errorf("completed indexes %q", got)
	}
	f.wantCounts(0, 0, 5, 0)
	f.wantEvent("Completed", "Job completed")
}

func TestIndexedDropsDoubles(t *testing.T) {
	f := newFixture(t, newJob(2, new(int32(2)), indexed))
	f.decide()
	running := f.running()
	f.Start(running[0])
	twin := core.Copy(workloadstest.Get[*corev1.Pod](f.World, running[0]))
	twin.Name, twin.Spec.NodeName, twin.Status.Phase = "twin", "", ""
	twinKey := f.Add(core.Pods, twin)
	d := f.decide()
	if len(d.Delete) != 1 || d.Delete[0].Key != twinKey {
		t.Errorf("deleted %v, want the twin that has not started", d.Delete)
	}
	f.wantCounts(2, 1, 0, 0)
}

func TestBackoffLimitPerIndex(t *testing.T) {
	f := newFixture(t, newJob(2, new(int32(3)), indexed, func(s *batchv1.JobSpec) {
		s.BackoffLimit, s.BackoffLimitPerIndex = nil, new(int32(1))
	}))
	f.decide()
	first := f.running()[0]
	f.Finish(first, 1)
	d := f.decide()
	// Index 0 waits, index 2 takes its place, and the failed pod stays to
	// remember how often index 0 has failed.
	if len(d.Create) != 1 || !strings.HasPrefix(d.Create[0].GetName(), "pi-2-") || d.RequeueAfter != 10*time.Second {
		t.Errorf("created %v, again after %s", d.Create, d.RequeueAfter)
	}
	if pod := workloadstest.Get[*corev1.Pod](f.World, first); !tracked(pod) {
		t.Error("the failed pod was released before its replacement stood")
	}
	f.pass(10 * time.Second)
	f.Finish(f.running()[0], 0)
	d = f.decide()
	if len(d.Create) != 1 || d.Create[0].GetAnnotations()[batchv1.JobIndexFailureCountAnnotation] != "1" {
		t.Fatalf("created %v, want index 0 with one failure", d.Create)
	}
	f.decide()
	f.wantCounts(2, 0, 1, 1)
	f.Finish(f.running()[0], 1)
	f.Finish(f.running()[0], 0)
	f.decide()
	if got := f.job().Status; *got.FailedIndexes != "0" || got.CompletedIndexes != "1,2" {
		t.Errorf("failed %q, completed %q", *got.FailedIndexes, got.CompletedIndexes)
	}
	f.wantCounts(0, 0, 2, 2)
	f.wantConditions("FailureTarget=True FailedIndexes: Job has failed indexes", "Failed=True FailedIndexes: Job has failed indexes")
	f.wantNoneTracked()
}

func TestMaxFailedIndexes(t *testing.T) {
	f := newFixture(t, newJob(3, new(int32(5)), indexed, func(s *batchv1.JobSpec) {
		s.BackoffLimit, s.BackoffLimitPerIndex, s.MaxFailedIndexes = nil, new(int32), new(int32(1))
	}))
	f.decide()
	f.Finish(f.running()[0], 1)
	f.decide()
	f.wantConditions()
	f.Finish(f.running()[0], 1)
	f.decide()
	f.decide()
	const how = "MaxFailedIndexesExceeded: Job has exceeded the specified maximal number of failed indexes"
	f.wantConditions("FailureTarget=True "+how, "Failed=True "+how)
}

func TestFailIndexAction(t *testing.T) {
	f := newFixture(t, newJob(1, new(int32(2)), indexed, func(s *batchv1.JobSpec) {
		s.BackoffLimit, s.BackoffLimitPerIndex = nil, new(int32(5))
		s.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
			Action: batchv1.PodFailurePolicyActionFailIndex, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: "In", Values: []int32{9}},
		}}}
	}))
	f.decide()
	f.Finish(f.running()[0], 9)
	f.decide()
	if got := *f.job().Status.FailedIndexes; got != "0" {
		t.Errorf("failed indexes %q, want 0 at once", got)
	}
	f.wantCounts(1, 0, 0, 1)
}

func TestSuccessPolicy(t *testing.T) {
	f := newFixture(t, newJob(3, new(int32(3)), indexed, func(s *batchv1.JobSpec) {
		s.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededIndexes: new("0-1"), SucceededCount: new(int32(1))}}}
	}))
	f.decide()
	running := f.running()
	for _, key := range running {
		f.Start(key)
	}
	f.Finish(running[1], 0)
	f.decide()
	f.wantCounts(0, 2, 1, 0)
	f.wantConditions("SuccessCriteriaMet=True SuccessPolicy: Matched rules at index 0")
	f.Stop(running[0])
	f.Stop(running[2])
	f.decide()
	f.wantCounts(0, 0, 1, 0)
	f.wantConditions("SuccessCriteriaMet=True SuccessPolicy: Matched rules at index 0", "Complete=True SuccessPolicy: Matched rules at index 0")
}

func TestDeletedJobLeavesNoPodStuck(t *testing.T) {
	for _, tt := range []struct {
		name   string
		orphan bool
	}{{"with its pods", false}, {"disowning its pods", true}} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, newJob(3, new(int32(9))))
			f.decide()
			for _, key := range f.running() {
				f.Start(key)
			}
			f.Finish(f.running()[0], 0)
			if tt.orphan {
				workloadstest.Change(f.World, f.running()[0], false, func(p *corev1.Pod) { p.OwnerReferences = nil })
			}
			f.Delete(f.key)
			if f.job() == nil {
				t.Fatal("the job went before its pods were released")
			}
			if d := f.decide(); len(d.Create) != 0 || d.Status.(*batchv1.Job).Status.Succeeded != 1 {
				t.Errorf("decided %+v", d)
			}
			f.decide()
			if f.job() != nil {
				t.Error("the job is still there")
			}
			f.wantNoneTracked()
		})
	}
}

func TestFinishedJobIsNotHeld(t *testing.T) {
	f := newFixture(t, newJob(1, new(int32(1))))
	f.decide()
	f.Finish(f.running()[0], 0)
	f.decide()
	f.Delete(f.key)
	if f.job() != nil {
		t.Error("the job waits for its controller")
	}
}

func TestCountsInBatches(t *testing.T) {
	f := newFixture(t, newJob(700, new(int32(700))))
	f.decide()
	f.decide()
	for _, key := range f.running() {
		f.Finish(key, 0)
	}
	if d := f.decide(); len(d.Update) != 500 || d.RequeueAfter <= 0 || d.RequeueAfter > time.Second {
		t.Errorf("released %d, again after %s", len(d.Update), d.RequeueAfter)
	}
	f.wantCounts(0, 0, 500, 0)
	if n := len(f.job().Status.Conditions); n != 1 {
		t.Errorf("%d conditions, want SuccessCriteriaMet alone", n)
	}
	f.decide()
	f.wantCounts(0, 0, 700, 0)
	f.wantEvent("Completed", "Job completed")
	f.wantNoneTracked()
}

func TestLeavesOthersJobsAlone(t *testing.T) {
	f := newFixture(t, newJob(1, new(int32(1)), func(s *batchv1.JobSpec) { s.ManagedBy = new("example.com/queue") }))
	if diff := cmp.Diff(core.Decision{}, f.decide()); diff != "" {
		t.Errorf("decision:\n%s", diff)
	}
}
