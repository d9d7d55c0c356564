package job

import (
	"encoding/json"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/weftrun/weft/workloads"
)

// As in Kubernetes: 10 s, 20 s, 40 s, ... 10 minutes.
const (
	firstBackOff = 10 * time.Second
	maxBackOff   = 10 * time.Minute
)

// failures is what the back-off of a Job is reckoned from. It is the memory of
// the controller's decisions, in JSON.
type failures struct {
	// Count is how many pods failed since one last succeeded.
	Count int `json:"failures"`
	// Last is when the last of them did.
	Last time.Time `json:"last"`
}

// remaining is how long to wait from now before pods are created again.
func (f failures) remaining(now time.Time) time.Duration {
	if f.Count == 0 {
		return 0
	}
	wait := firstBackOff
	for i := 1; i < f.Count && wait < maxBackOff; i++ {
		wait *= 2
	}
	return max(0, f.Last.Add(min(wait, maxBackOff)).Sub(now))
}

// reckon adds the pods not counted before that pass to what is remembered.
func (r *round) reckon(pass func(*view) bool) failures {
	f := r.recall()
	var success time.Time
	fresh := func(v *view) bool { return v.valid && pass(v) }
	for i := range r.views {
		v := &r.views[i]
		if v.succeeded && v.fresh && fresh(v) {
			f = failures{}
			if t := finishTime(v.pod); t.After(success) {
				success = t
			}
		}
	}
	for i := range r.views {
		v := &r.views[i]
		if v.succeeded || !v.failed || !v.fresh || !fresh(v) {
			continue
		}
		if t := finishTime(v.pod); success.IsZero() || t.After(success) {
			f.Count++
			if t.After(f.Last) {
				f.Last = t
			}
		}
	}
	return f
}

// recall reads the memory. One that does not parse counts as none: at worst a
// pod is created early.
func (r *round) recall() failures {
	var f failures
	if len(r.seen.Memory) > 0 && json.Unmarshal(r.seen.Memory, &f) != nil {
		return failures{}
	}
	return f
}

// remember keeps the failures of the pods that this decision has counted, in
// the same record.
func (r *round) remember() {
	if r.perIndex() {
		return
	}
	before, after := r.recall(), r.reckon(func(v *view) bool { return !v.tracked })
	if before.Count == after.Count && before.Last.Equal(after.Last) {
		return
	}
	text, err := json.Marshal(after)
	if err != nil {
		return // a year beyond 9999: no back-off to remember
	}
	r.decision.Memory = text
}

// forget clears the memory of a Job that has no more use for it.
func (r *round) forget() {
	r.decision.Memory = nil
	if len(r.seen.Memory) > 0 {
		r.decision.Memory = []byte{}
	}
}

// finishTime is when a pod ended: its last container's end; else when it
// ceased to be ready; else when its deletion was asked for.
func finishTime(pod *corev1.Pod) time.Time {
	if t := lastEnd(pod.Status.ContainerStatuses); !t.IsZero() {
		return t
	}
	if c := workloads.Condition(pod, corev1.PodReady); c != nil && c.Status == corev1.ConditionFalse && !c.LastTransitionTime.IsZero() {
		return c.LastTransitionTime.Time
	}
	if pod.DeletionTimestamp != nil {
		return pod.DeletionTimestamp.Add(-workloads.Seconds(value(pod.DeletionGracePeriodSeconds, 0)))
	}
	return pod.CreationTimestamp.Time
}

// lastEnd is the zero time unless all containers have ended.
func lastEnd(statuses []corev1.ContainerStatus) time.Time {
	var last time.Time
	for i := range statuses {
		ended := statuses[i].State.Terminated
		if ended == nil || ended.FinishedAt.IsZero() {
			return time.Time{}
		}
		if ended.FinishedAt.After(last) {
			last = ended.FinishedAt.Time
		}
	}
	return last
}
