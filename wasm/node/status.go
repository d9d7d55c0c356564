package node

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/wasm"
)

// seen is what statusOf needs to know besides the containers.
type seen struct {
	stopping bool   // the pod's containers are to end
	done     bool   // nothing runs and nothing ever will
	failure  string // why the node itself ends the pod
	hostIP   string
	now      time.Time
}

// deadlineMessage goes with the failure deadlineExceeded.
const (
	deadlineExceeded = "DeadlineExceeded"
	deadlineMessage  = "Pod was active on the node longer than the specified deadline"
)

// statusOf says what is to be reported of a pod, given what was reported
// before, whose times of transition are kept.
func statusOf(pod *corev1.Pod, containers []*container, before *corev1.PodStatus, see seen) corev1.PodStatus {
	s := corev1.PodStatus{StartTime: before.StartTime, HostIP: see.hostIP, ObservedGeneration: pod.Generation}
	if see.hostIP != "" {
		s.HostIPs = []corev1.HostIP{{IP: see.hostIP}}
	}
	if s.StartTime == nil {
		t := metav1.NewTime(see.now)
		s.StartTime = &t
	}
	initialized := initialized(containers)
	hasInit := containers[0].role != main
	for _, c := range containers {
		status := containerStatus(pod, c, hasInit && !initialized)
		if c.role == main {
			s.ContainerStatuses = append(s.ContainerStatuses, status)
		} else {
			s.InitContainerStatuses = append(s.InitContainerStatuses, status)
		}
	}
	s.Phase = phaseOf(pod.Spec.RestartPolicy, containers, see)
	if see.failure != "" {
		s.Reason, s.Message = see.failure, deadlineMessage
	}
	s.Conditions = conditionsOf(&s, containers, initialized)
	for i := range s.Conditions {
		s.Conditions[i].ObservedGeneration = pod.Generation
		s.Conditions[i].LastTransitionTime = transition(before, &s.Conditions[i], see.now)
	}
	return s
}

func conditionsOf(s *corev1.PodStatus, containers []*container, initialized bool) []corev1.PodCondition {
	unready := unreadyNames(s.ContainerStatuses)
	sidecarsReady := true
	for i := range s.InitContainerStatuses {
		if c := containers[i]; c.role == sidecar && c.phase != running {
			sidecarsReady = false
			unready = append(unready, c.spec.Name)
		}
	}
	ready := corev1.PodCondition{Status: truth(len(unready) == 0 && sidecarsReady)}
	first := corev1.PodCondition{Type: corev1.PodInitialized, Status: truth(initialized)}
	ended := false
	switch {
	case s.Phase == corev1.PodSucceeded:
		ended, ready.Status, ready.Reason = true, corev1.ConditionFalse, "PodCompleted"
		first.Reason = "PodCompleted"
	case s.Phase == corev1.PodFailed:
		ended, ready.Status, ready.Reason = true, corev1.ConditionFalse, "PodFailed"
	case ready.Status == corev1.ConditionFalse:
		ready.Reason = "ContainersNotReady"
		ready.Message = fmt.Sprintf("containers with unready status: [%s]", strings.Join(unready, " "))
	}
	if !initialized {
		first.Reason = "ContainersNotInitialized"
		first.Message = fmt.Sprintf("containers with incomplete status: [%s]", strings.Join(incomplete(containers), " "))
	}
	pod, all := ready, ready
	pod.Type, all.Type = corev1.PodReady, corev1.ContainersReady
	return []corev1.PodCondition{{Type: corev1.PodReadyToStartContainers, Status: truth(!ended)}, first, pod, all}
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

func unreadyNames(statuses []corev1.ContainerStatus) []string {
	var names []string
	for i := range statuses {
		if !statuses[i].Ready {
			names = append(names, statuses[i].Name)
		}
	}
	return names
}

func incomplete(containers []*container) []string {
	var names []string
	for _, c := range containers {
		if c.role != main && !c.passed() {
			names = append(names, c.spec.Name)
		}
	}
	return names
}

// phaseOf is Kubernetes' phase of a pod whose containers stand so.
func phaseOf(policy corev1.RestartPolicy, containers []*container, see seen) corev1.PodPhase {
	switch {
	case see.done && see.failure != "":
		return corev1.PodFailed
	case !begun(containers) && see.done && initFailed(containers):
		return corev1.PodFailed
	case !begun(containers) && !initialized(containers):
		return corev1.PodPending
	}
	fresh, failed := mainContainers(containers)
	switch {
	case see.done && see.stopping && begun(containers):
		if failed || fresh {
			return corev1.PodFailed
		}
		return corev1.PodSucceeded
	case fresh:
		return corev1.PodPending
	case !see.done:
		return corev1.PodRunning
	case failed:
		return corev1.PodFailed
	}
	return corev1.PodSucceeded
}

// initFailed tells whether an init container has failed for good, if nothing
// is left to do.
func initFailed(containers []*container) bool {
	return slices.ContainsFunc(containers, func(c *container) bool {
		return c.role == initial && c.phase == exited && c.exit.Code != 0
	})
}

// mainContainers tells whether one of them has never run, and whether one has
// failed the last time that it did.
func mainContainers(containers []*container) (fresh, failed bool) {
	for _, c := range containers {
		if c.role != main {
			continue
		}
		fresh = fresh || ((c.phase == waiting || c.phase == starting) && c.last == nil)
		failed = failed || (c.phase == exited && c.exit.Code != 0) || (c.phase == waiting && c.last != nil && c.last.ExitCode != 0)
	}
	return fresh, failed
}

func containerStatus(pod *corev1.Pod, c *container, initializing bool) corev1.ContainerStatus {
	up := c.phase == running
	s := corev1.ContainerStatus{
		Name: c.spec.Name, Image: c.spec.Image, ImageID: c.imageID, RestartCount: c.restarts, Started: &up,
		Ready: up && c.role != initial || c.role == initial && c.passed(),
	}
	if up {
		s.Image = c.image // not yet the one that is desired, perhaps
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
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: c.reason, Message: c.message}
		if c.reason == "" {
			s.State.Waiting.Reason = creating
			if initializing {
				s.State.Waiting.Reason = initializingPod
			}
		}
	}
	return s
}

func containerID(pod *corev1.Pod, id string) string {
	return "weft://" + string(pod.UID) + "/" + id
}

func terminated(pod *corev1.Pod, id string, exit *wasm.Exit) *corev1.ContainerStateTerminated {
	return &corev1.ContainerStateTerminated{
		ExitCode: exit.Code, Reason: terminatedReason(exit), Message: exit.Message,
		StartedAt: metav1.NewTime(exit.StartedAt), FinishedAt: metav1.NewTime(exit.FinishedAt),
		ContainerID: containerID(pod, id),
	}
}
