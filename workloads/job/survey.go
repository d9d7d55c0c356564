package job

import (
	"slices"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/weftrun/weft/workloads"
)

// noIndex stands for a pod without a completion index.
const noIndex = -1

// view is what a decision needs to know of one pod.
type view struct {
	pod   *corev1.Pod
	index int
	// fresh pods had the finalizer when they were seen; tracked ones still
	// will have it when what is decided is done.
	fresh, tracked bool
	// valid pods may count: of an Indexed Job, those with an index in range.
	valid     bool
	active    bool
	succeeded bool
	// failed pods are Failed, or are being deleted and count as such.
	failed bool
	// ignored failures count towards nothing; failsIndex ends its index.
	ignored, failsIndex bool
	// failsJob is why this pod's failure fails the Job; empty if it does not.
	failsJob string
}

// survey reads all pods once.
func (r *round) survey() {
	r.views = make([]view, 0, len(r.seen.Children))
	for _, child := range r.seen.Children {
		if pod, ok := child.(*corev1.Pod); ok {
			r.views = append(r.views, r.look(pod))
		}
	}
	r.succeeded, r.failed = int(r.status.Succeeded), int(r.status.Failed)
	for i := range r.views {
		v := &r.views[i]
		switch {
		case v.active:
			r.active++
			if workloads.Ready(v.pod) {
				r.ready++
			}
		case workloads.Terminating(v.pod):
			r.terminating++
		}
		if v.tracked && v.valid {
			if v.succeeded {
				r.succeeded++
			} else if v.failed && !v.ignored {
				r.failed++
			}
		}
	}
}

func (r *round) look(pod *corev1.Pod) view {
	v := view{
		pod:       pod,
		index:     noIndex,
		tracked:   slices.Contains(pod.Finalizers, batchv1.JobTrackingFinalizer),
		active:    workloads.Active(pod),
		succeeded: pod.Status.Phase == corev1.PodSucceeded,
	}
	v.fresh = v.tracked
	v.failed = pod.Status.Phase == corev1.PodFailed ||
		pod.DeletionTimestamp != nil && !v.succeeded && !r.onlyFailed()
	if r.indexed && (v.tracked || !workloads.Finished(pod)) {
		v.index = completionIndex(pod)
	}
	v.valid = !r.indexed || v.index != noIndex && v.index < r.completions
	if policy := r.job.Spec.PodFailurePolicy; policy != nil && v.tracked && v.failed {
		matchFailure(policy, &v)
	}
	return v
}

func completionIndex(pod *corev1.Pod) int {
	text, ok := pod.Annotations[batchv1.JobCompletionIndexAnnotation]
	if !ok {
		return noIndex
	}
	index, err := strconv.Atoi(text)
	if err != nil || index < 0 {
		return noIndex
	}
	return index
}

// index reads the finished indexes from the status and adds those of pods that
// are not counted yet. That is enough against counting one twice.
func (r *round) index() {
	if !r.indexed {
		return
	}
	r.done = parseSpans(r.status.CompletedIndexes, r.completions)
	var added, broken []int
	for i := range r.views {
		v := &r.views[i]
		if !v.tracked || !v.valid {
			continue
		}
		if v.succeeded {
			added = append(added, v.index)
		} else if r.perIndex() && r.endsIndex(v) {
			broken = append(broken, v.index)
		}
	}
	r.done = r.done.add(added)
	r.succeeded = r.done.total()
	r.status.CompletedIndexes = r.done.String()
	r.status.Succeeded = int32(r.succeeded)
	if !r.perIndex() {
		return
	}
	r.dead = parseSpans(value(r.status.FailedIndexes, ""), r.completions).add(broken)
	r.status.FailedIndexes = new(r.dead.String())
	r.findDelayed()
}

// endsIndex says that this pod's failure is the last that its index may have.
func (r *round) endsIndex(v *view) bool {
	if !v.failed || v.ignored {
		return false
	}
	return v.failsIndex || failureCount(v.pod) >= value(r.job.Spec.BackoffLimitPerIndex, 0)
}

// findDelayed chooses, for each index that is neither finished nor active, the
// failed pod with the most failures before it.
func (r *round) findDelayed() {
	running := make(map[int]bool)
	for i := range r.views {
		if r.views[i].active {
			running[r.views[i].index] = true
		}
	}
	r.delayed = make(map[int]*view)
	for i := range r.views {
		v := &r.views[i]
		if !v.tracked || !v.valid || !v.failed || running[v.index] || r.done.has(v.index) || r.dead.has(v.index) {
			continue
		}
		if best := r.delayed[v.index]; best == nil || later(v, best) {
			r.delayed[v.index] = v
		}
	}
}

func later(v, best *view) bool {
	a, b := totalFailures(v.pod), totalFailures(best.pod)
	return a > b || a == b && !finishTime(v.pod).Before(finishTime(best.pod))
}

func failureCount(pod *corev1.Pod) int32 {
	return number(pod.Annotations[batchv1.JobIndexFailureCountAnnotation])
}

// totalFailures counts the failures of the pod's index before it, ignored ones
// included.
func totalFailures(pod *corev1.Pod) int32 {
	return failureCount(pod) + number(pod.Annotations[batchv1.JobIndexIgnoredFailureCountAnnotation])
}

func number(text string) int32 {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 0 {
		return 0
	}
	return int32(n)
}
