package deployment

import (
	"fmt"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/workloads"
)

// Reasons of the conditions, in Kubernetes' words.
const (
	reasonCreated     = "NewReplicaSetCreated"
	reasonCreateError = "ReplicaSetCreateError"
	reasonFound       = "FoundNewReplicaSet"
	reasonUpdated     = "ReplicaSetUpdated"
	reasonAvailable   = "NewReplicaSetAvailable"
	reasonTimedOut    = "ProgressDeadlineExceeded"
	reasonPaused      = "DeploymentPaused"
	reasonResumed     = "DeploymentResumed"
)

// setStatus counts what there is.
func (r *round) setStatus() {
	s := &r.status
	s.ObservedGeneration = r.d.Generation
	s.Replicas, s.UpdatedReplicas, s.ReadyReplicas, s.AvailableReplicas = 0, 0, 0, 0
	var terminating int32
	for _, set := range r.sets {
		counted := &set.rs.Status
		s.Replicas += counted.Replicas
		s.ReadyReplicas += counted.ReadyReplicas
		s.AvailableReplicas += counted.AvailableReplicas
		if counted.TerminatingReplicas != nil {
			terminating += *counted.TerminatingReplicas
		}
		if set == r.fresh {
			s.UpdatedReplicas = counted.Replicas
		}
	}
	s.TerminatingReplicas = &terminating
	s.UnavailableReplicas = max(0, sizes(r.sets)-s.AvailableReplicas)
	if s.AvailableReplicas >= r.replicas-r.unavailable {
		r.put(appsv1.DeploymentAvailable, corev1.ConditionTrue, "MinimumReplicasAvailable", "Deployment has minimum availability.")
	} else {
		r.put(appsv1.DeploymentAvailable, corev1.ConditionFalse, "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
	}
	r.replicaFailure()
	next := *r.d // shallow: only the status is replaced
	next.Status = r.status
	r.decision.Status = &next
}

// replicaFailure passes a ReplicaSet's failure on, that of the fresh one first.
func (r *round) replicaFailure() {
	order := r.old
	if r.fresh != nil {
		order = append([]*set{r.fresh}, r.old...)
	}
	for _, s := range order {
		for _, c := range s.rs.Status.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure && c.Status == corev1.ConditionTrue {
				r.put(appsv1.DeploymentReplicaFailure, c.Status, c.Reason, c.Message)
				return
			}
		}
	}
	r.remove(appsv1.DeploymentReplicaFailure)
}

// deadline is how long a roll-out may go without progress; false if for ever.
func (r *round) deadline() (time.Duration, bool) {
	seconds := r.d.Spec.ProgressDeadlineSeconds
	if seconds == nil || *seconds == math.MaxInt32 {
		return 0, false
	}
	return workloads.Seconds(*seconds), true
}

// progress judges a roll-out by the new status against the old one.
func (r *round) progress() {
	limit, limited := r.deadline()
	if !limited {
		r.remove(appsv1.DeploymentProgressing)
		r.publish()
		return
	}
	current := r.condition(appsv1.DeploymentProgressing)
	if current != nil && current.Reason == reasonAvailable && r.status.Replicas == r.status.UpdatedReplicas {
		r.publish()
		return // it was complete; that a pod is lost since is no roll-out
	}
	switch {
	case r.complete(&r.status):
		r.put(appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonAvailable, r.about("%s has successfully progressed."))
	case r.progressed():
		r.renew(reasonUpdated, r.about("%s is progressing."))
	case r.timedOut(current, limit):
		r.put(appsv1.DeploymentProgressing, corev1.ConditionFalse, reasonTimedOut, r.about("%s has timed out progressing."))
	}
	if c := r.condition(appsv1.DeploymentProgressing); c != nil && c.Reason != reasonAvailable && c.Reason != reasonTimedOut {
		r.decision.RequeueAfter = max(time.Millisecond, c.LastUpdateTime.Add(limit).Sub(r.seen.Now))
	}
	r.publish()
}

// publish puts conditions that were changed after setStatus into the decision.
func (r *round) publish() {
	r.decision.Status.(*appsv1.Deployment).Status = r.status
}

func (r *round) complete(s *appsv1.DeploymentStatus) bool {
	return s.UpdatedReplicas == r.replicas && s.Replicas == r.replicas &&
		s.AvailableReplicas == r.replicas && s.ObservedGeneration >= r.d.Generation
}

// progressed says that there are more new pods, fewer old ones, or more ready
// or available ones than before.
func (r *round) progressed() bool {
	before, after := &r.d.Status, &r.status
	return after.UpdatedReplicas > before.UpdatedReplicas ||
		after.Replicas-after.UpdatedReplicas < before.Replicas-before.UpdatedReplicas ||
		after.ReadyReplicas > before.ReadyReplicas || after.AvailableReplicas > before.AvailableReplicas
}

func (r *round) timedOut(current *appsv1.DeploymentCondition, limit time.Duration) bool {
	if current == nil || current.Reason == reasonAvailable {
		return false
	}
	if current.Reason == reasonTimedOut {
		return true
	}
	return !current.LastUpdateTime.Add(limit).After(r.seen.Now)
}

// about fills in what the message is about.
func (r *round) about(format string) string {
	what, name := "Deployment", r.d.Name
	if r.fresh != nil {
		what, name = "ReplicaSet", r.fresh.rs.Name
	}
	return fmt.Sprintf(format, fmt.Sprintf("%s %q", what, name))
}

// creating notes that a fresh ReplicaSet is created, or that it was refused
// and is tried again.
func (r *round) creating() {
	if _, limited := r.deadline(); !limited {
		return
	}
	name := r.fresh.rs.Name
	if f := r.createRefused(); f != nil && f.Reason != string(metav1.StatusReasonAlreadyExists) {
		message := "Failed to create new replica set \"" + name + "\": " + f.Message
		r.put(appsv1.DeploymentProgressing, corev1.ConditionFalse, reasonCreateError, message)
		r.notes.Warning(reasonCreateError, "%s", message)
		return
	}
	r.put(appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonCreated, "Created new replica set \""+name+"\"")
}

// found notes that there is a fresh ReplicaSet where nothing was known of one,
// or where a roll-back begins: its deadline counts from now.
func (r *round) found() {
	if _, limited := r.deadline(); !limited {
		return
	}
	c := r.condition(appsv1.DeploymentProgressing)
	if c == nil || c.Reason == reasonCreateError || c.Reason == reasonAvailable && sizes(r.old) > 0 {
		r.put(appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonFound, "Found new replica set \""+r.fresh.rs.Name+"\"")
	}
}

// pausedConditions notes that the Deployment was paused or resumed, so that
// the time between does not count against the deadline.
func (r *round) pausedConditions() {
	if _, limited := r.deadline(); !limited {
		return
	}
	c := r.condition(appsv1.DeploymentProgressing)
	if c != nil && c.Reason == reasonTimedOut {
		return // what has timed out stays so until there is progress
	}
	noted := c != nil && c.Reason == reasonPaused
	switch {
	case r.d.Spec.Paused && !noted:
		r.put(appsv1.DeploymentProgressing, corev1.ConditionUnknown, reasonPaused, "Deployment is paused")
	case !r.d.Spec.Paused && noted:
		r.put(appsv1.DeploymentProgressing, corev1.ConditionUnknown, reasonResumed, "Deployment is resumed")
	}
}

// condition points into the new status.
func (r *round) condition(kind appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	i := slices.IndexFunc(r.status.Conditions, func(c appsv1.DeploymentCondition) bool { return c.Type == kind })
	if i < 0 {
		return nil
	}
	return &r.status.Conditions[i]
}

func (r *round) remove(kind appsv1.DeploymentConditionType) {
	r.status.Conditions = slices.DeleteFunc(r.status.Conditions, func(c appsv1.DeploymentCondition) bool { return c.Type == kind })
}

// put sets a condition, unless it has that status and reason already.
func (r *round) put(kind appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string) {
	now := metav1.Time{Time: r.seen.Now}
	c := appsv1.DeploymentCondition{
		Type: kind, Status: status, Reason: reason, Message: message, LastUpdateTime: now, LastTransitionTime: now,
	}
	old := r.condition(kind)
	if old == nil {
		r.status.Conditions = append(r.status.Conditions, c)
		return
	}
	if old.Status == status && old.Reason == reason {
		return
	}
	if old.Status == status {
		c.LastTransitionTime = old.LastTransitionTime
	}
	*old = c
}

// renew sets Progressing to true with a new time of update, from which the
// deadline counts, even if nothing else about it changes.
func (r *round) renew(reason, message string) {
	if old := r.condition(appsv1.DeploymentProgressing); old != nil && old.Status == corev1.ConditionTrue {
		old.Reason, old.Message, old.LastUpdateTime = reason, message, metav1.Time{Time: r.seen.Now}
		return
	}
	r.put(appsv1.DeploymentProgressing, corev1.ConditionTrue, reason, message)
}
