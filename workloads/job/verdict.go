package job

import (
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/workloads"
)

// verdict returns how the Job ends, SuccessCriteriaMet or FailureTarget, or
// nil if it goes on. What was once decided stays.
func (r *round) verdict() *batchv1.JobCondition {
	for _, kind := range []batchv1.JobConditionType{batchv1.JobSuccessCriteriaMet, batchv1.JobFailureTarget} {
		if c := conditionOf(&r.status, kind); c != nil && c.Status == corev1.ConditionTrue {
			return new(*c)
		}
	}
	for i := range r.views {
		if why := r.views[i].failsJob; why != "" {
			return r.failing(batchv1.JobReasonPodFailurePolicy, why)
		}
	}
	switch {
	case r.failed > r.backoffLimit() || r.restartsExceeded():
		return r.failing(batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit")
	case r.pastDeadline():
		return r.failing(batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline")
	}
	if !r.indexed {
		return nil
	}
	return r.indexVerdict()
}

func (r *round) indexVerdict() *batchv1.JobCondition {
	if dead := r.dead.total(); dead > 0 {
		if limit := r.job.Spec.MaxFailedIndexes; limit != nil && dead > int(*limit) {
			return r.failing(batchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes")
		}
		if dead+r.done.total() >= r.completions {
			return r.failing(batchv1.JobReasonFailedIndexes, "Job has failed indexes")
		}
	}
	if message, met := matchSuccess(r.job.Spec.SuccessPolicy, r.completions, r.done); met {
		return r.condition(batchv1.JobSuccessCriteriaMet, batchv1.JobReasonSuccessPolicy, message)
	}
	return nil
}

// complete sets the target once there have been enough successes and nothing
// runs any more. Without completions one success is enough.
func (r *round) complete() {
	enough := r.succeeded > 0
	if r.job.Spec.Completions != nil {
		enough = r.succeeded >= int(*r.job.Spec.Completions)
	}
	if enough && r.active == 0 {
		r.target = r.condition(batchv1.JobSuccessCriteriaMet, batchv1.JobReasonCompletionsReached, "Reached expected number of succeeded pods")
	}
}

func (r *round) backoffLimit() int {
	if r.perIndex() {
		return int(value(r.job.Spec.BackoffLimit, 1<<31-1))
	}
	return int(value(r.job.Spec.BackoffLimit, 6))
}

// restartsExceeded counts the restarts of containers that run on; pods whose
// containers are restarted in place seldom fail themselves.
func (r *round) restartsExceeded() bool {
	if r.job.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure {
		return false
	}
	restarts := 0
	for i := range r.views {
		status := &r.views[i].pod.Status
		if status.Phase != corev1.PodRunning && status.Phase != corev1.PodPending {
			continue
		}
		for _, list := range [][]corev1.ContainerStatus{status.InitContainerStatuses, status.ContainerStatuses} {
			for j := range list {
				restarts += int(list[j].RestartCount)
			}
		}
	}
	return restarts > 0 && restarts >= r.backoffLimit()
}

// pastDeadline says that the Job has been active for too long; if it has not
// yet, another decision is asked for when it will have been.
func (r *round) pastDeadline() bool {
	if r.job.Spec.ActiveDeadlineSeconds == nil || r.status.StartTime == nil || r.suspended() {
		return false
	}
	left := r.status.StartTime.Add(workloads.Seconds(*r.job.Spec.ActiveDeadlineSeconds)).Sub(r.seen.Now)
	if left <= 0 {
		return true
	}
	r.again(left)
	return false
}

// finish records the target, and the last condition once no pod is left that
// runs, is being stopped or is not counted.
func (r *round) finish() {
	if r.target == nil {
		return
	}
	if conditionOf(&r.status, r.target.Type) == nil {
		r.status.Conditions = append(r.status.Conditions, *r.target)
	}
	if r.more || r.active > 0 || r.terminating > 0 {
		return
	}
	r.ended = true
	r.decision.RequeueAfter = 0
	r.forget()
	last := batchv1.JobFailed
	if r.target.Type == batchv1.JobSuccessCriteriaMet {
		last = batchv1.JobComplete
		r.status.CompletionTime = &metav1.Time{Time: r.seen.Now}
	}
	r.status.Conditions = append(r.status.Conditions, *r.condition(last, r.target.Reason, r.target.Message))
	if last == batchv1.JobFailed {
		r.notes.Warning(r.target.Reason, "%s", r.target.Message)
		return
	}
	if wanted := r.job.Spec.Completions; wanted != nil && r.status.Succeeded > *wanted {
		r.notes.Warning("TooManySucceededPods", "Too many succeeded pods running after completion count reached")
	}
	r.notes.Normal("Completed", "Job completed")
}

func (r *round) failing(reason, message string) *batchv1.JobCondition {
	return r.condition(batchv1.JobFailureTarget, reason, message)
}

func (r *round) condition(kind batchv1.JobConditionType, reason, message string) *batchv1.JobCondition {
	now := metav1.Time{Time: r.seen.Now}
	return &batchv1.JobCondition{
		Type: kind, Status: corev1.ConditionTrue, Reason: reason, Message: message,
		LastProbeTime: now, LastTransitionTime: now,
	}
}

// setSuspended keeps the Suspended condition, which exists only of a Job that
// has once been suspended.
func (r *round) setSuspended() {
	old := conditionOf(&r.status, batchv1.JobSuspended)
	if r.suspended() {
		if old != nil && old.Status == corev1.ConditionTrue {
			return
		}
		r.putCondition(r.condition(batchv1.JobSuspended, "JobSuspended", "Job suspended"))
		r.status.StartTime = nil
		r.notes.Normal("Suspended", "Job suspended")
		return
	}
	if old == nil || old.Status == corev1.ConditionFalse {
		return
	}
	resumed := r.condition(batchv1.JobSuspended, "JobResumed", "Job resumed")
	resumed.Status = corev1.ConditionFalse
	r.putCondition(resumed)
	r.status.StartTime = &metav1.Time{Time: r.seen.Now}
	r.notes.Normal("Resumed", "Job resumed")
}

func (r *round) putCondition(c *batchv1.JobCondition) {
	if old := conditionOf(&r.status, c.Type); old != nil {
		*old = *c
		return
	}
	r.status.Conditions = append(r.status.Conditions, *c)
}

// conditionOf points into status.
func conditionOf(status *batchv1.JobStatus, kind batchv1.JobConditionType) *batchv1.JobCondition {
	i := slices.IndexFunc(status.Conditions, func(c batchv1.JobCondition) bool { return c.Type == kind })
	if i < 0 {
		return nil
	}
	return &status.Conditions[i]
}

// finished says that the Job has its last condition.
func finished(job *batchv1.Job) bool {
	for _, c := range job.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}
