package job

import (
	"context"
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/workloads"
)

const (
	// Finalizer holds a Job while it has pods that are not counted.
	Finalizer = "batch/job-tracking"

	// batch bounds the pods that one decision creates, deletes or counts.
	batch = 500
	// patchBatch bounds the disowned pods that one decision releases.
	patchBatch = 100
	// atOnce is the wait before a decision that goes on where one stopped.
	atOnce = time.Millisecond
)

// Controller is the Job controller. It is stateless and safe for concurrent
// use.
type Controller struct{}

var _ core.Controller = Controller{}

// New returns the controller.
func New() Controller { return Controller{} }

// Describe names Job as the parent of pods. See the package comment for why
// it does not adopt.
func (Controller) Describe() core.Description {
	return core.Description{
		Name:     "job",
		Kind:     batchv1.SchemeGroupVersion.WithKind("Job"),
		Resource: core.Jobs,
		Children: []core.Child{{Kind: corev1.SchemeGroupVersion.WithKind("Pod"), Resource: core.Pods}},
	}
}

// Relate asks for the pods that match the selector of a Job that is being
// deleted, since garbage collection may have disowned some of them.
func (Controller) Relate(parent core.Object) []core.Relation {
	job, ok := parent.(*batchv1.Job)
	if !ok || job.DeletionTimestamp == nil || job.Spec.Selector == nil {
		return nil
	}
	selector, err := metav1.LabelSelectorAsSelector(job.Spec.Selector)
	if err != nil || selector.Empty() {
		return nil
	}
	return []core.Relation{{Resource: core.Pods, Namespace: job.Namespace, Selector: selector}}
}

// Decide counts the pods that have finished, decides whether the Job has, and
// if not creates the pods that are missing or deletes those too many.
func (Controller) Decide(_ context.Context, seen core.Observation) (core.Decision, error) {
	job, ok := seen.Parent.(*batchv1.Job)
	if !ok {
		return core.Decision{}, fmt.Errorf("decide job: parent is %T", seen.Parent)
	}
	if by := job.Spec.ManagedBy; by != nil && *by != batchv1.JobControllerName {
		return core.Decision{}, nil
	}
	if mode := job.Spec.CompletionMode; mode != nil && *mode != batchv1.NonIndexedCompletion && *mode != batchv1.IndexedCompletion {
		return core.Decision{Events: []core.Note{{
			Type: corev1.EventTypeWarning, Reason: "UnknownCompletionMode",
			Message: "Skipped Job sync because completion mode is unknown",
		}}}, nil
	}
	r := newRound(seen, job)
	r.survey()
	switch {
	case finished(job) || job.DeletionTimestamp != nil:
		r.wind()
	default:
		r.run()
	}
	r.hold()
	r.notes.Failures(seen.Failures)
	r.decision.Events = r.notes.List()
	return r.decision, nil
}

// round is the making of one decision.
type round struct {
	seen    core.Observation
	job     *batchv1.Job
	indexed bool
	// completions is that of an Indexed Job, else 0.
	completions int

	views []view
	// active, ready and terminating count pods as they will be once what is
	// decided is done.
	active, ready, terminating int
	// succeeded and failed count all pods ever, also those that this decision
	// does not get to count; ignored failures are left out.
	succeeded, failed int
	done, dead        spans // the succeeded and failed indexes
	// delayed holds, of each index that awaits its replacement, the last
	// failed pod: it carries the index's count of failures.
	delayed map[int]*view

	status batchv1.JobStatus
	// target is how the Job ends; nil while it runs.
	target *batchv1.JobCondition
	// ended says that this decision gives the Job its last condition.
	ended bool
	// taken counts the pods released; more says that a batch did not hold all.
	taken    int
	more     bool
	notes    workloads.Notes
	decision core.Decision
}

func newRound(seen core.Observation, job *batchv1.Job) *round {
	r := &round{seen: seen, job: job, status: *job.Status.DeepCopy()}
	if mode := job.Spec.CompletionMode; mode != nil && *mode == batchv1.IndexedCompletion {
		r.indexed = true
		r.completions = int(value(job.Spec.Completions, 0))
	}
	return r
}

// run decides about a Job that has not finished.
func (r *round) run() {
	r.begin()
	r.index()
	failures := r.reckon(func(*view) bool { return true })
	r.target = r.verdict()
	if r.target != nil {
		r.deleteActive()
	} else {
		r.manage(failures)
		r.complete()
	}
	r.count()
	r.remember()
	r.finish()
	r.setStatus()
}

// wind takes the finalizers off the pods of a Job that has finished or is
// being deleted. What finished meanwhile is still counted if the Job runs.
func (r *round) wind() {
	if !finished(r.job) {
		r.index()
		r.count()
		r.setStatus()
		r.releaseDisowned()
		return
	}
	r.forget()
	for i := range r.views {
		if r.views[i].tracked && !r.take(&r.views[i]) {
			break
		}
	}
	if r.job.DeletionTimestamp != nil {
		r.releaseDisowned()
	}
}

// hold keeps the Job's own finalizer for as long as pods may be tracked. A Job
// that is being deleted is let go in a round that does nothing else: with its
// finalizer it may vanish, and there must be no status left to write to it.
func (r *round) hold() {
	holds := slices.Contains(r.job.Finalizers, Finalizer)
	deleting := r.job.DeletionTimestamp != nil
	if deleting && len(r.decision.Update)+len(r.decision.Patches) > 0 {
		r.more = true
	}
	ending := deleting || finished(r.job) || r.ended
	wanted := r.more || len(r.decision.Create) > 0 || holds && !ending ||
		slices.ContainsFunc(r.views, func(v view) bool { return v.tracked })
	switch {
	case wanted && !holds:
		r.decision.Finalizers = []string{Finalizer}
	case !wanted && holds:
		r.decision.Finalizers = []string{}
		if deleting {
			r.decision.Status = nil
		}
	}
	if r.more {
		r.decision.RequeueAfter = atOnce
	}
}

func (r *round) setStatus() {
	r.status.Active = int32(r.active)
	r.status.Ready = new(int32(r.ready))
	r.status.Terminating = new(int32(r.terminating))
	r.status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{}
	next := *r.job // shallow: only the status is replaced
	next.Status = r.status
	r.decision.Status = &next
}

// begin sets the start time of a Job that is not suspended.
func (r *round) begin() {
	if r.status.StartTime == nil && !r.suspended() {
		r.status.StartTime = &metav1.Time{Time: r.seen.Now}
	}
}

func (r *round) suspended() bool { return value(r.job.Spec.Suspend, false) }

// perIndex says that each index has a limit of failures of its own.
func (r *round) perIndex() bool { return r.indexed && r.job.Spec.BackoffLimitPerIndex != nil }

// onlyFailed says that a pod is replaced only once it has ended, not already
// when it is being deleted.
func (r *round) onlyFailed() bool {
	policy := r.job.Spec.PodReplacementPolicy
	return r.job.Spec.PodFailurePolicy != nil || policy != nil && *policy == batchv1.Failed
}

// again asks for another decision after wait, or sooner.
func (r *round) again(wait time.Duration) {
	r.decision.RequeueAfter = workloads.Sooner(r.decision.RequeueAfter, wait)
}

// value returns what p points to, or fallback if it is nil: the registry sets
// defaults, but a plugin must not fall over an object that has none.
func value[T any](p *T, fallback T) T {
	if p == nil {
		return fallback
	}
	return *p
}
