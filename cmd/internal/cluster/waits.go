package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/weftrun/weft/core"
)

// wait is something that is not as it should be yet.
type wait struct {
	what  string // one object: pod/hello-1
	group string // what it belongs to, for counting alike ones together
	why   string
	stuck bool // time alone will not help
}

// preparing is why a pod whose containers are being created waits.
const preparing = "its module is being fetched and compiled, which the next start need not do"

// stuckReasons are those of containers that need a person.
var stuckReasons = []string{
	"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CrashLoopBackOff",
	"CreateContainerConfigError", "CreateContainerError", "RunContainerError",
}

// waits says what is not yet as its manifest wants it, and why.
func waits(s core.Snapshot) []wait {
	var out []wait
	starting := map[string]bool{} // owners whose pods tell why they wait
	for _, object := range s.List(core.Pods, "") {
		pod, ok := object.(*corev1.Pod)
		if !ok {
			continue
		}
		if w, waiting := podWait(pod); waiting {
			out = append(out, w)
			starting[w.group] = true
		}
	}
	for _, object := range s.List(core.Jobs, "") {
		if job, ok := object.(*batchv1.Job); ok {
			if w, waiting := jobWait(job); waiting && !starting[w.group] {
				out = append(out, w)
			}
		}
	}
	for _, object := range s.List(core.Deployments, "") {
		if d, ok := object.(*appsv1.Deployment); ok {
			if w, waiting := deploymentWait(d); waiting && !starting[w.group] {
				out = append(out, w)
			}
		}
	}
	return out
}

func podWait(pod *corev1.Pod) (wait, bool) {
	w := wait{what: "pod/" + pod.Name, group: owner(pod)}
	switch {
	case pod.DeletionTimestamp != nil, pod.Status.Phase == corev1.PodSucceeded:
		return w, false
	case pod.Status.Phase == corev1.PodFailed:
		w.why, w.stuck = "failed: "+ended(pod), true
		return w, true
	case pod.Spec.NodeName == "":
		return unscheduled(pod, w), true
	}
	for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		switch state := c.State.Waiting; {
		case state != nil && state.Reason == "ContainerCreating":
			w.why = preparing
			return w, true
		case state != nil:
			w.why, w.stuck = said(state.Reason, state.Message), slices.Contains(stuckReasons, state.Reason)
			if last := c.LastTerminationState.Terminated; last != nil {
				w.why += fmt.Sprintf(" (it ended with exit code %d: %s)", last.ExitCode, said(last.Reason, last.Message))
			}
			return w, true
		}
	}
	switch ready := podCondition(pod, corev1.PodReady); {
	case pod.Status.Phase != corev1.PodRunning:
		w.why = "the node has not started it yet"
	case ready != nil && ready.Status != corev1.ConditionTrue:
		w.why = said("not ready", ready.Message)
	default:
		return w, false
	}
	return w, true
}

func unscheduled(pod *corev1.Pod, w wait) wait {
	w.why = "waits for the scheduler"
	if c := podCondition(pod, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionFalse {
		w.why, w.stuck = "no node takes it: "+cmp.Or(c.Message, c.Reason), true
	}
	return w
}

// ended says how a pod came to its end.
func ended(pod *corev1.Pod) string {
	for _, c := range pod.Status.ContainerStatuses {
		if t := c.State.Terminated; t != nil && t.ExitCode != 0 {
			return fmt.Sprintf("container %s ended with exit code %d: %s", c.Name, t.ExitCode, said(t.Reason, t.Message))
		}
	}
	return cmp.Or(said(pod.Status.Reason, pod.Status.Message), "no reason is known")
}

func said(reason, message string) string {
	if reason == "" || message == "" {
		return reason + message
	}
	return reason + ": " + message
}

func podCondition(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == kind {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// owner names what a pod belongs to, as a user knows it: a ReplicaSet made by
// a Deployment carries the Deployment's name and a hash.
func owner(pod *corev1.Pod) string {
	if len(pod.OwnerReferences) == 0 {
		return "pod/" + pod.Name
	}
	o := pod.OwnerReferences[0]
	if hash := pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey]; o.Kind == "ReplicaSet" && hash != "" {
		if name, ok := strings.CutSuffix(o.Name, "-"+hash); ok {
			return "deployment/" + name
		}
	}
	return strings.ToLower(o.Kind) + "/" + o.Name
}

func jobWait(job *batchv1.Job) (wait, bool) {
	w := wait{what: "job/" + job.Name, group: "job/" + job.Name}
	for _, c := range job.Status.Conditions {
		if c.Status != corev1.ConditionTrue {
			continue
		}
		switch c.Type {
		case batchv1.JobComplete, batchv1.JobSuspended:
			return w, false
		case batchv1.JobFailed:
			w.why, w.stuck = "failed: "+said(c.Reason, c.Message), true
			return w, true
		}
	}
	if job.Status.Active == 0 && job.Status.Succeeded == 0 && job.Status.Failed == 0 {
		w.why = "its controller has not made pods yet"
		return w, true
	}
	w.why = "runs"
	if job.Spec.Completions != nil {
		w.why = fmt.Sprintf("runs, %d of %d complete", job.Status.Succeeded, *job.Spec.Completions)
	}
	return w, true
}

func deploymentWait(d *appsv1.Deployment) (wait, bool) {
	w := wait{what: "deployment/" + d.Name, group: "deployment/" + d.Name}
	want := int32(1)
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	if d.Status.ObservedGeneration >= d.Generation && d.Status.UpdatedReplicas >= want && d.Status.AvailableReplicas >= want {
		return w, false
	}
	w.why = fmt.Sprintf("%d of %d available", d.Status.AvailableReplicas, want)
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue {
			w.why, w.stuck = said(c.Reason, c.Message), true
		}
	}
	return w, true
}

// summary puts alike waits into a line each, in the order in which they come
// first.
func summary(all []wait) []string {
	type alike struct{ group, why string }
	count, first := map[alike]int{}, map[alike]string{}
	var order []alike
	for _, w := range all {
		key := alike{w.group, strings.ReplaceAll(w.why, strings.TrimPrefix(w.what, "pod/"), "...")}
		if count[key] == 0 {
			order, first[key] = append(order, key), w.what+": "+w.why
			if w.what != w.group {
				first[key] = w.group + ": " + first[key]
			}
		}
		count[key]++
	}
	lines := make([]string, 0, len(order))
	for _, key := range order {
		if n := count[key]; n > 1 {
			lines = append(lines, fmt.Sprintf("%s: %d pods: %s", key.group, n, key.why))
			continue
		}
		lines = append(lines, first[key])
	}
	return lines
}

// brief says in one line what goes on.
func brief(all []wait) string {
	count, first := map[string]int{}, map[string]string{}
	var order []string
	for _, w := range all {
		if count[w.why] == 0 {
			order, first[w.why] = append(order, w.why), w.what
		}
		count[w.why]++
	}
	parts := make([]string, 0, len(order))
	for _, why := range order {
		who := first[why]
		if n := count[why]; n > 1 {
			who = fmt.Sprintf("%s and %d more", who, n-1)
		}
		parts = append(parts, who+": "+why)
	}
	return strings.Join(parts, "; ")
}
