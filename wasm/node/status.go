package node

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/wasm"
)

// statusOf says what is to be reported of a pod, given what was reported
// before, whose times of transition are kept.
func statusOf(pod *corev1.Pod, containers []*container, before *corev1.PodStatus, hostIP string, now time.Time) corev1.PodStatus {
	s := corev1.PodStatus{
		StartTime: before.StartTime, HostIP: hostIP, ObservedGeneration: pod.Generation,
		HostIPs: []corev1.HostIP{{IP: hostIP}},
	}
	if s.StartTime == nil {
		t := metav1.NewTime(now)
		s.StartTime = &t
	}
	ready := true
	for _, c := range containers {
		status := containerStatus(pod, c)
		ready = ready && status.Ready
		s.ContainerStatuses = append(s.ContainerStatuses, status)
	}
	s.Phase = phaseOf(pod.Spec.RestartPolicy, containers)
	ended := s.Phase == corev1.PodSucceeded || s.Phase == corev1.PodFailed
	reason, message := "", ""
	switch {
	case s.Phase == corev1.PodSucceeded:
		reason = "PodCompleted"
	case s.Phase == corev1.PodFailed:
		reason = "PodFailed"
	case !ready:
		reason, message = "ContainersNotReady", unready(s.ContainerStatuses)
	}
	conditions := []corev1.PodCondition{
		{Type: corev1.PodReadyToStartContainers, Status: truth(!ended)},
		{Type: corev1.PodInitialized, Status: corev1.ConditionTrue},
		{Type: corev1.PodReady, Status: truth(ready && !ended), Reason: reason, Message: message},
		{Type: corev1.ContainersReady, Status: truth(ready && !ended), Reason: reason, Message: message},
	}
	for i := range conditions {
		conditions[i].ObservedGeneration = pod.Generation
		conditions[i].LastTransitionTime = transition(before, &conditions[i], now)
	}
	s.Conditions = conditions
	return s
}

func transition(before *corev1.PodStatus, c *corev1.PodCondition, now time.Time) metav1.Time {
	for i := range before.Conditions {
		if old := &before.Conditions[i]; old.Type == c.Type && old.Status == c.Status && !old.LastTransitionTime.IsZero() {
			return old.LastTransitionTime
		}
	}
	return metav1.NewTime(now)
}

func truth(b bool) corev1.ConditionStatus {
	if b {
		return corev1.ConditionTrue
	}
	return corev1.ConditionFalse
}

func unready(statuses []corev1.ContainerStatus) string {
	var names []string
	for i := range statuses {
		if !statuses[i].Ready {
			names = append(names, statuses[i].Name)
		}
	}
	return fmt.Sprintf("containers with unready status: %v", names)
}

// phaseOf is Kubernetes' phase of a pod whose containers stand so.
func phaseOf(policy corev1.RestartPolicy, containers []*container) corev1.PodPhase {
	started, ended, failed := 0, 0, 0
	for _, c := range containers {
		switch {
		case c.phase == running || c.last != nil:
			started++
		case c.phase == exited && !restarts(policy, c.exit), c.phase == exited && c.stopping:
			ended++
			if c.exit.Code != 0 {
				failed++
			}
		case c.phase == exited:
			started++
		}
	}
	switch {
	case ended == len(containers) && failed > 0:
		return corev1.PodFailed
	case ended == len(containers):
		return corev1.PodSucceeded
	case started+ended > 0:
		return corev1.PodRunning
	}
	return corev1.PodPending
}

func containerStatus(pod *corev1.Pod, c *container) corev1.ContainerStatus {
	up := c.phase == running
	s := corev1.ContainerStatus{
		Name: c.spec.Name, Image: c.spec.Image, ImageID: c.imageID,
		RestartCount: c.restarts, Ready: up, Started: &up,
	}
	if c.id != "" {
		s.ContainerID = containerID(pod, c.id)
	}
	if c.last != nil {
		s.LastTerminationState.Terminated = c.last
	}
	switch c.phase {
	case running:
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(c.started)}
	case exited:
		s.State.Terminated = terminated(pod, c.id, c.exit)
	default:
		reason := c.reason
		if reason == "" {
			reason = "ContainerCreating"
		}
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: reason, Message: c.message}
	}
	return s
}

func containerID(pod *corev1.Pod, id string) string {
	return fmt.Sprintf("weft://%s/%s", pod.UID, id)
}

func terminated(pod *corev1.Pod, id string, exit *wasm.Exit) *corev1.ContainerStateTerminated {
	return &corev1.ContainerStateTerminated{
		ExitCode: exit.Code, Reason: terminatedReason(exit), Message: exit.Message,
		StartedAt: metav1.NewTime(exit.StartedAt), FinishedAt: metav1.NewTime(exit.FinishedAt),
		ContainerID: containerID(pod, id),
	}
}
