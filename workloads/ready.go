package workloads

import (
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Finished says that all containers of pod have ended for good.
func Finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// Active says that pod counts towards its parent's replicas: it has not
// finished and is not being deleted.
func Active(pod *corev1.Pod) bool {
	return !Finished(pod) && pod.DeletionTimestamp == nil
}

// Terminating says that pod is being deleted and has not finished yet.
func Terminating(pod *corev1.Pod) bool {
	return !Finished(pod) && pod.DeletionTimestamp != nil
}

// Condition returns pod's condition of that type, or nil. It points into pod.
func Condition(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == kind {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// Ready says that pod's Ready condition is true.
func Ready(pod *corev1.Pod) bool {
	c := Condition(pod, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// Available says that pod has been ready for minReady at now. If it is ready
// but has not been for long enough, wait is the time that remains.
func Available(pod *corev1.Pod, minReady time.Duration, now time.Time) (available bool, wait time.Duration) {
	c := Condition(pod, corev1.PodReady)
	if c == nil || c.Status != corev1.ConditionTrue {
		return false, 0
	}
	if minReady <= 0 {
		return true, 0
	}
	if c.LastTransitionTime.IsZero() {
		return false, 0
	}
	wait = c.LastTransitionTime.Add(minReady).Sub(now)
	return wait <= 0, max(wait, 0)
}

// Sooner returns the shorter of two waits, where 0 means no wait is needed.
func Sooner(a, b time.Duration) time.Duration {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}

// Seconds converts an API field in seconds.
func Seconds[N int32 | int64](n N) time.Duration {
	const most = int64(math.MaxInt64 / time.Second)
	return time.Duration(max(-most, min(int64(n), most))) * time.Second
}
