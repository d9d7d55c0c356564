package replicaset

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// conditions returns the conditions with ReplicaFailure as the last decision's
// failures say: set while pods cannot be created or deleted, gone otherwise.
func (r *round) conditions() []appsv1.ReplicaSetCondition {
	var kept []appsv1.ReplicaSetCondition
	var old *appsv1.ReplicaSetCondition
	for i := range r.rs.Status.Conditions {
		if c := &r.rs.Status.Conditions[i]; c.Type == appsv1.ReplicaSetReplicaFailure {
			old = c
		} else {
			kept = append(kept, *c)
		}
	}
	failure := r.failure()
	if failure == nil {
		return kept
	}
	if old != nil {
		// One failure is told once: its message names another pod each time.
		if old.Reason == failure.Reason {
			return r.rs.Status.Conditions
		}
		failure.LastTransitionTime = old.LastTransitionTime
	}
	return append(kept, *failure)
}

// failure returns the condition that the last decision's failures ask for.
func (r *round) failure() *appsv1.ReplicaSetCondition {
	for _, f := range r.seen.Failures {
		var reason string
		switch f.Verb {
		case "create":
			reason = "FailedCreate"
		case "delete":
			reason = "FailedDelete"
		default:
			continue
		}
		return &appsv1.ReplicaSetCondition{
			Type:               appsv1.ReplicaSetReplicaFailure,
			Status:             corev1.ConditionTrue,
			LastTransitionTime: metav1.Time{Time: r.seen.Now},
			Reason:             reason,
			Message:            f.Message,
		}
	}
	return nil
}
