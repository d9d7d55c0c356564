package job

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// matchFailure notes in v what the first rule that matches its pod says. A
// failure that no rule matches counts.
func matchFailure(policy *batchv1.PodFailurePolicy, v *view) {
	for i := range policy.Rules {
		rule := &policy.Rules[i]
		why, matched := matchRule(rule, v.pod)
		if !matched {
			continue
		}
		switch rule.Action {
		case batchv1.PodFailurePolicyActionIgnore:
			v.ignored = true
		case batchv1.PodFailurePolicyActionFailIndex:
			v.failsIndex = true
		case batchv1.PodFailurePolicyActionFailJob:
			v.failsJob = fmt.Sprintf("%s matching %v rule at index %d", why, rule.Action, i)
		case batchv1.PodFailurePolicyActionCount:
		default:
			continue // an action of a later version: as if the rule were not there
		}
		return
	}
}

// matchRule says whether the rule applies to pod, and in words why.
func matchRule(rule *batchv1.PodFailurePolicyRule, pod *corev1.Pod) (why string, matched bool) {
	if rule.OnExitCodes != nil {
		for _, statuses := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
			if s := matchExitCode(rule.OnExitCodes, statuses); s != nil {
				return fmt.Sprintf("Container %s for pod %s/%s failed with exit code %v",
					s.Name, pod.Namespace, pod.Name, s.State.Terminated.ExitCode), true
			}
		}
		return "", false
	}
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		for _, pattern := range rule.OnPodConditions {
			if c.Type == pattern.Type && c.Status == pattern.Status {
				return fmt.Sprintf("Pod %s/%s has condition %v", pod.Namespace, pod.Name, c.Type), true
			}
		}
	}
	return "", false
}

// matchExitCode returns the first container that ended with a code other than
// 0 which the requirement names.
func matchExitCode(want *batchv1.PodFailurePolicyOnExitCodesRequirement, statuses []corev1.ContainerStatus) *corev1.ContainerStatus {
	for i := range statuses {
		s := &statuses[i]
		if s.State.Terminated == nil || s.State.Terminated.ExitCode == 0 {
			continue
		}
		if want.ContainerName != nil && *want.ContainerName != s.Name {
			continue
		}
		among := slices.Contains(want.Values, s.State.Terminated.ExitCode)
		if want.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn && among ||
			want.Operator == batchv1.PodFailurePolicyOnExitCodesOpNotIn && !among {
			return s
		}
	}
	return nil
}

// matchSuccess says which rule of the success policy the finished indexes
// meet.
func matchSuccess(policy *batchv1.SuccessPolicy, completions int, done spans) (string, bool) {
	if policy == nil || len(done) == 0 {
		return "", false
	}
	for i, rule := range policy.Rules {
		var met bool
		if rule.SucceededIndexes != nil {
			wanted := parseSpans(*rule.SucceededIndexes, completions)
			both := wanted.common(done)
			met = len(wanted) > 0 && (both == wanted.total() || rule.SucceededCount != nil && both >= int(*rule.SucceededCount))
		} else if rule.SucceededCount != nil {
			met = done.total() >= int(*rule.SucceededCount)
		}
		if met {
			return fmt.Sprintf("Matched rules at index %d", i), true
		}
	}
	return "", false
}
