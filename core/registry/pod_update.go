package registry

import (
	"fmt"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// changeable are the fields of a pod's spec that an update may change, as the
// refusal names them.
const changeable = "`spec.containers[*].image`," +
	"`spec.initContainers[*].image`," +
	"`spec.activeDeadlineSeconds`," +
	"`spec.tolerations` (only additions to existing tolerations)," +
	"`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"

func validatePodUpdate(p, old *corev1.Pod) field.ErrorList {
	errs := validateMetaUpdate(&p.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, validatePodAlways(p)...)
	if sameEncoding(&p.Spec, &old.Spec) {
		return errs
	}
	for _, list := range [...]struct {
		name     string
		now, old []corev1.Container
	}{
		{"containers", p.Spec.Containers, old.Spec.Containers},
		{"initContainers", p.Spec.InitContainers, old.Spec.InitContainers},
	} {
		if len(list.now) != len(list.old) {
			return append(errs, field.Forbidden(specPath.Child(list.name), "pod updates may not add or remove containers"))
		}
	}
	if deadline := validateDeadlineUpdate(p.Spec.ActiveDeadlineSeconds, old.Spec.ActiveDeadlineSeconds); len(deadline) > 0 {
		return append(errs, deadline...)
	}
	errs = append(errs, onlyAddedTolerations(p.Spec.Tolerations, old.Spec.Tolerations)...)
	errs = append(errs, onlyDeletedGates(p.Spec.SchedulingGates, old.Spec.SchedulingGates)...)
	rest := withoutChangeable(p, old)
	if len(old.Spec.SchedulingGates) > 0 && !equality.Semantic.DeepEqual(rest.NodeSelector, old.Spec.NodeSelector) {
		errs = append(errs, onlyAddedLabels(rest.NodeSelector, old.Spec.NodeSelector)...)
		rest.NodeSelector = old.Spec.NodeSelector
	}
	if !equality.Semantic.DeepEqual(rest, &old.Spec) {
		errs = append(errs, field.Forbidden(specPath,
			fmt.Sprintf("pod updates may not change fields other than %s\n%v", changeable, diff.Diff(old.Spec, *rest))))
	}
	return errs
}

// withoutChangeable is p's spec with old's values where a change is allowed:
// what still differs is not.
func withoutChangeable(p, old *corev1.Pod) *corev1.PodSpec {
	s := p.Spec.DeepCopy()
	for i := range s.Containers {
		s.Containers[i].Image = old.Spec.Containers[i].Image
	}
	for i := range s.InitContainers {
		s.InitContainers[i].Image = old.Spec.InitContainers[i].Image
	}
	s.ActiveDeadlineSeconds = old.Spec.ActiveDeadlineSeconds
	s.SchedulingGates = old.Spec.SchedulingGates
	s.Tolerations = old.Spec.Tolerations
	if g, was := s.TerminationGracePeriodSeconds, old.Spec.TerminationGracePeriodSeconds; g != nil && *g == 1 && was != nil && *was < 0 {
		s.TerminationGracePeriodSeconds = was
	}
	return s
}

// validateDeadlineUpdate lets a deadline be set, and be made shorter.
func validateDeadlineUpdate(deadline, old *int64) field.ErrorList {
	path := specPath.Child("activeDeadlineSeconds")
	switch {
	case deadline == nil && old != nil:
		return field.ErrorList{field.Invalid(path, deadline, "must not update from a positive integer to nil value")}
	case deadline == nil:
		return nil
	case *deadline < 0 || *deadline > math.MaxInt32:
		return field.ErrorList{field.Invalid(path, *deadline, validation.InclusiveRangeError(0, math.MaxInt32))}
	case old != nil && *old < *deadline:
		return field.ErrorList{field.Invalid(path, *deadline, "must be less than or equal to previous value")}
	}
	return nil
}

func onlyAddedTolerations(tolerations, old []corev1.Toleration) field.ErrorList {
	for i := range old {
		kept := slices.ContainsFunc(tolerations, func(t corev1.Toleration) bool {
			t.TolerationSeconds = old[i].TolerationSeconds
			return t == old[i]
		})
		if !kept {
			return field.ErrorList{field.Forbidden(specPath.Child("tolerations"),
				"existing toleration can not be modified except its tolerationSeconds")}
		}
	}
	return nil
}

func onlyDeletedGates(gates, old []corev1.PodSchedulingGate) field.ErrorList {
	var errs field.ErrorList
	for i, gate := range gates {
		if !slices.Contains(old, gate) {
			errs = append(errs, field.Forbidden(specPath.Child("schedulingGates").Index(i).Child("name"),
				fmt.Sprintf("only deletion is allowed, but found new scheduling gate '%s'", gate.Name)))
		}
	}
	return errs
}

// onlyAddedLabels lets the node selector of a gated pod become narrower.
func onlyAddedLabels(selector, old map[string]string) field.ErrorList {
	for k, v := range old {
		if now, ok := selector[k]; !ok || now != v {
			return field.ErrorList{field.Invalid(specPath.Child("nodeSelector"), selector,
				"only additions to nodeSelector are allowed (no mutations or deletions)")}
		}
	}
	return nil
}

// copyPodStatus gives dst src's status; the class of service, which never
// changes, stays when src does not know it.
func copyPodStatus(dst, src *corev1.Pod) {
	class := dst.Status.QOSClass
	dst.Status = src.Status
	defaultTo(&dst.Status.QOSClass, class)
}

func validatePodStatus(p, old *corev1.Pod) field.ErrorList {
	errs := validateMetaUpdate(&p.ObjectMeta, &old.ObjectMeta)
	if p.Spec.NodeName != old.Spec.NodeName {
		errs = append(errs, field.Forbidden(statusPath.Child("nodeName"), "may not be changed directly"))
	}
	if n := p.Status.NominatedNodeName; n != "" {
		errs = append(errs, dnsSubdomain(n, statusPath.Child("nominatedNodeName"))...)
	}
	if old.Status.QOSClass != "" && p.Status.QOSClass != old.Status.QOSClass {
		errs = append(errs, field.Invalid(statusPath.Child("qosClass"), p.Status.QOSClass, apivalidation.FieldImmutableErrorMsg))
	}
	for i := range p.Status.Conditions {
		kind := string(p.Status.Conditions[i].Type)
		if strings.Contains(kind, "/") {
			errs = append(errs, qualifiedName(kind, statusPath.Child("conditions").Index(i).Child("type"))...)
		}
	}
	for i, ip := range p.Status.PodIPs {
		errs = append(errs, ipAddress(ip.IP, statusPath.Child("podIPs").Index(i))...)
	}
	errs = append(errs, staysEnded(p.Status.ContainerStatuses, old.Status.ContainerStatuses, p, "containerStatuses")...)
	return append(errs, staysEnded(p.Status.InitContainerStatuses, old.Status.InitContainerStatuses, p, "initContainerStatuses")...)
}

// staysEnded refuses that a container runs again which its policy says must
// not.
func staysEnded(statuses, old []corev1.ContainerStatus, p *corev1.Pod, name string) field.ErrorList {
	var errs field.ErrorList
	if p.Spec.RestartPolicy == corev1.RestartPolicyAlways {
		return nil
	}
	for i := range old {
		end := old[i].State.Terminated
		if end == nil || end.ExitCode != 0 && p.Spec.RestartPolicy == corev1.RestartPolicyOnFailure || ownPolicy(p, old[i].Name) {
			continue
		}
		for j := range statuses {
			if statuses[j].Name == old[i].Name && statuses[j].State.Terminated == nil {
				errs = append(errs, field.Forbidden(statusPath.Child(name).Index(i).Child("state"),
					"may not be transitioned to non-terminated state"))
			}
		}
	}
	return errs
}

// ownPolicy tells whether a container has a restart policy of its own.
func ownPolicy(p *corev1.Pod, name string) bool {
	has := func(c corev1.Container) bool { return c.Name == name && c.RestartPolicy != nil }
	return slices.ContainsFunc(p.Spec.Containers, has) || slices.ContainsFunc(p.Spec.InitContainers, has)
}
