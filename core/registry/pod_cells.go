package registry

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

func podColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		nameColumn(),
		column("Ready", "string", "How many of the pod's containers are ready."),
		column("Status", "string", "What the pod does, or why it does not."),
		column("Restarts", "string", "How often its containers were started again, and when last."),
		ageColumn(),
		wide("IP", "string", "The pod's address."),
		wide("Node", "string", "The node that the pod is bound to."),
		wide("Nominated Node", "string", "The node that the pod waits for others to leave."),
		wide("Readiness Gates", "string", "How many of the pod's own conditions of readiness are met."),
	}
}

func podCells(p *corev1.Pod, now time.Time) []any {
	v := viewPod(p)
	ip := ""
	if len(p.Status.PodIPs) > 0 {
		ip = p.Status.PodIPs[0].IP
	} else {
		ip = p.Status.PodIP
	}
	return []any{
		p.Name, fmt.Sprintf("%d/%d", v.ready, v.total), v.status, v.restartCell(now), age(p.CreationTimestamp, now),
		orNone(ip), orNone(p.Spec.NodeName), orNone(p.Status.NominatedNodeName), readinessGates(p),
	}
}

// podView is what a row says of a pod.
type podView struct {
	status       string
	ready, total int
	// restarts, and the end of the last run before one, are those of all
	// containers; the long-lived init containers are also counted apart,
	// because ordinary ones no longer count once they are done.
	restarts, sidecarRestarts int
	last, sidecarLast         metav1.Time
}

func (v *podView) restartCell(now time.Time) string {
	if v.restarts != 0 && !v.last.IsZero() {
		return fmt.Sprintf("%d (%s ago)", v.restarts, duration.HumanDuration(now.Sub(v.last.Time)))
	}
	return strconv.Itoa(v.restarts)
}

// viewPod follows the rules of kubectl's STATUS column: the first init
// container that is not done hides everything else, then the first container's
// reason wins over the phase, and deletion wins over all.
func viewPod(p *corev1.Pod) podView {
	v := podView{status: string(p.Status.Phase), total: len(p.Spec.Containers)}
	if p.Status.Reason != "" {
		v.status = p.Status.Reason
	}
	if c := podCondition(p, corev1.PodScheduled); c != nil && c.Reason == corev1.PodReasonSchedulingGated {
		v.status = corev1.PodReasonSchedulingGated
	}
	if initializing := v.viewInit(p); !initializing || conditionTrue(p, corev1.PodInitialized) {
		v.viewContainers(p)
	}
	if p.DeletionTimestamp != nil {
		if p.Status.Reason == "NodeLost" {
			v.status = string(corev1.PodUnknown)
		} else if !podFinished(p) {
			v.status = "Terminating"
		}
	}
	return v
}

func conditionTrue(p *corev1.Pod, kind corev1.PodConditionType) bool {
	c := podCondition(p, kind)
	return c != nil && c.Status == corev1.ConditionTrue
}

// viewInit looks at the init containers and tells whether one is still to be
// waited for.
func (v *podView) viewInit(p *corev1.Pod) bool {
	sidecars := map[string]bool{}
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; longLived(c) {
			sidecars[c.Name] = true
			v.total++
		}
	}
	for i := range p.Status.InitContainerStatuses {
		c := &p.Status.InitContainerStatuses[i]
		v.count(c)
		if sidecars[c.Name] {
			v.sidecarRestarts += int(c.RestartCount)
			v.sidecarLast = later(v.sidecarLast, lastEnd(c))
		}
		switch {
		case c.State.Terminated != nil && c.State.Terminated.ExitCode == 0:
			continue
		case sidecars[c.Name] && c.Started != nil && *c.Started:
			if c.Ready {
				v.ready++
			}
			continue
		case c.State.Terminated != nil:
			v.status = "Init:" + ended(c.State.Terminated)
		case c.State.Waiting != nil && c.State.Waiting.Reason != "" && c.State.Waiting.Reason != "PodInitializing":
			v.status = "Init:" + c.State.Waiting.Reason
		default:
			v.status = fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers))
		}
		return true
	}
	return false
}

func longLived(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func (v *podView) viewContainers(p *corev1.Pod) {
	v.restarts, v.last = v.sidecarRestarts, v.sidecarLast
	running := false
	for i := len(p.Status.ContainerStatuses) - 1; i >= 0; i-- {
		c := &p.Status.ContainerStatuses[i]
		v.count(c)
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "":
			v.status = c.State.Waiting.Reason
		case c.State.Terminated != nil:
			v.status = ended(c.State.Terminated)
		case c.Ready && c.State.Running != nil:
			running = true
			v.ready++
		}
	}
	// One that runs on makes little of another that is done.
	if v.status == "Completed" && running {
		v.status = "NotReady"
		if conditionTrue(p, corev1.PodReady) {
			v.status = "Running"
		}
	}
}

func (v *podView) count(c *corev1.ContainerStatus) {
	v.restarts += int(c.RestartCount)
	v.last = later(v.last, lastEnd(c))
}

// lastEnd is when the run before the current one ended.
func lastEnd(c *corev1.ContainerStatus) metav1.Time {
	if t := c.LastTerminationState.Terminated; t != nil {
		return t.FinishedAt
	}
	return metav1.Time{}
}

func later(a, b metav1.Time) metav1.Time {
	if a.Before(&b) {
		return b
	}
	return a
}

// ended names a container's end by its reason, else its signal or exit code.
func ended(t *corev1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	}
	return fmt.Sprintf("ExitCode:%d", t.ExitCode)
}

func readinessGates(p *corev1.Pod) string {
	if len(p.Spec.ReadinessGates) == 0 {
		return none
	}
	met := 0
	for _, gate := range p.Spec.ReadinessGates {
		if conditionTrue(p, gate.ConditionType) {
			met++
		}
	}
	return fmt.Sprintf("%d/%d", met, len(p.Spec.ReadinessGates))
}
