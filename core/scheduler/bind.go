package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
)

// bind writes a placement, whose search began then, and tells the loop how it
// went.
func (s *Scheduler) bind(ctx context.Context, p Placement, begin time.Time) error {
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	err := s.writeBinding(ctx, p)
	<-s.slots
	s.config.Attempted(time.Since(begin), err)
	switch {
	case err == nil:
		s.config.Events.Event(s.config.Name, reference(p.Pod), corev1.EventTypeNormal, "Scheduled",
			fmt.Sprintf("Successfully assigned %s/%s to %s", p.Pod.Namespace, p.Pod.Name, p.Node))
	case ctx.Err() == nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err):
		s.config.Logger.Warn("pod not bound", "object", p.Pod.Namespace+"/"+p.Pod.Name, "node", p.Node, "err", err)
	}
	s.send(ctx, update{done: &binding{pod: p.Pod, err: err}})
	return nil
}

func (s *Scheduler) writeBinding(ctx context.Context, p Placement) error {
	key := core.KeyFor(core.Pods, p.Pod)
	_, err := s.config.Client.Update(ctx, key, &corev1.Binding{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Binding"},
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Pod.Namespace, Name: p.Pod.Name, UID: p.Pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: p.Node},
	}, core.WriteOptions{Subresource: "binding"})
	if err != nil {
		return fmt.Errorf("bind %s to %s: %w", key, p.Node, err)
	}
	return nil
}

// tell writes into a pod's status why it waits.
func (s *Scheduler) tell(ctx context.Context, pod *corev1.Pod, reason, message string) error {
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	defer func() { <-s.slots }()
	_, err := s.config.Client.Mutate(ctx, core.KeyFor(core.Pods, pod), func(o core.Object) error {
		p, ok := o.(*corev1.Pod)
		if !ok || p.UID != pod.UID || p.Spec.NodeName != "" {
			return errMovedOn
		}
		setCondition(p, reason, message)
		return nil
	}, core.WriteOptions{Subresource: "status"})
	if err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) && !errors.Is(err, errMovedOn) {
		s.config.Logger.Warn("condition not written", "object", pod.Namespace+"/"+pod.Name, "err", err)
	}
	return nil
}

var errMovedOn = errors.New("the pod is bound or another")

func hasCondition(pod *corev1.Pod, reason, message string) bool {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.PodScheduled {
			return c.Status == corev1.ConditionFalse && c.Reason == reason && c.Message == message
		}
	}
	return false
}

func setCondition(pod *corev1.Pod, reason, message string) {
	condition := corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: reason, Message: message,
		LastTransitionTime: metav1.Now(), ObservedGeneration: pod.Generation,
	}
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Type != corev1.PodScheduled {
			continue
		}
		if c.Status == condition.Status {
			condition.LastTransitionTime = c.LastTransitionTime
		}
		*c = condition
		return
	}
	pod.Status.Conditions = append(pod.Status.Conditions, condition)
}

func reference(pod *corev1.Pod) corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}
}
