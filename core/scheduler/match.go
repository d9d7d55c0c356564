package scheduler

import (
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

// tolerates tells whether any of the tolerations is of the taint.
func tolerates(tolerations []corev1.Toleration, taint *corev1.Taint) bool {
	for i := range tolerations {
		if toleratesOne(&tolerations[i], taint) {
			return true
		}
	}
	return false
}

func toleratesOne(t *corev1.Toleration, taint *corev1.Taint) bool {
	if (t.Effect != "" && t.Effect != taint.Effect) || (t.Key != "" && t.Key != taint.Key) {
		return false
	}
	switch t.Operator {
	case "", corev1.TolerationOpEqual:
		return t.Value == taint.Value
	case corev1.TolerationOpExists:
		return true
	default:
		return false
	}
}

// untolerated returns the first taint that keeps the pod away, or nil.
func untolerated(tolerations []corev1.Toleration, taints []corev1.Taint) *corev1.Taint {
	for i := range taints {
		if taints[i].Effect != corev1.TaintEffectPreferNoSchedule && !tolerates(tolerations, &taints[i]) {
			return &taints[i]
		}
	}
	return nil
}

// matchesNode tells whether the node is one that the pod's selector and
// required affinity allow.
func matchesNode(spec *corev1.PodSpec, node *corev1.Node) bool {
	for key, value := range spec.NodeSelector {
		if is, ok := node.Labels[key]; !ok || is != value {
			return false
		}
	}
	if spec.Affinity == nil || spec.Affinity.NodeAffinity == nil {
		return true
	}
	required := spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	if required == nil {
		return true
	}
	return slices.ContainsFunc(required.NodeSelectorTerms, func(t corev1.NodeSelectorTerm) bool { return matchesTerm(&t, node) })
}

// matchesTerm tells whether the node meets all requirements of a term; an
// empty term is met by none.
func matchesTerm(t *corev1.NodeSelectorTerm, node *corev1.Node) bool {
	if len(t.MatchExpressions) == 0 && len(t.MatchFields) == 0 {
		return false
	}
	for i := range t.MatchExpressions {
		value, ok := node.Labels[t.MatchExpressions[i].Key]
		if !meets(&t.MatchExpressions[i], value, ok) {
			return false
		}
	}
	for i := range t.MatchFields {
		if t.MatchFields[i].Key != "metadata.name" || !meets(&t.MatchFields[i], node.Name, true) {
			return false
		}
	}
	return true
}

func meets(r *corev1.NodeSelectorRequirement, value string, there bool) bool {
	switch r.Operator {
	case corev1.NodeSelectorOpIn:
		return there && slices.Contains(r.Values, value)
	case corev1.NodeSelectorOpNotIn:
		return !there || !slices.Contains(r.Values, value)
	case corev1.NodeSelectorOpExists:
		return there
	case corev1.NodeSelectorOpDoesNotExist:
		return !there
	case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
		if !there || len(r.Values) != 1 {
			return false
		}
		have, err1 := strconv.ParseInt(value, 10, 64)
		want, err2 := strconv.ParseInt(r.Values[0], 10, 64)
		if err1 != nil || err2 != nil {
			return false
		}
		if r.Operator == corev1.NodeSelectorOpGt {
			return have > want
		}
		return have < want
	default:
		return false
	}
}

// preference adds up the weights of the preferred terms that the node meets.
func preference(spec *corev1.PodSpec, node *corev1.Node) (sum int64) {
	if spec.Affinity == nil || spec.Affinity.NodeAffinity == nil {
		return 0
	}
	preferred := spec.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution
	for i := range preferred {
		if matchesTerm(&preferred[i].Preference, node) {
			sum += int64(preferred[i].Weight)
		}
	}
	return sum
}

// avoided counts the taints that would rather not have the pod.
func avoided(tolerations []corev1.Toleration, taints []corev1.Taint) (n int64) {
	for i := range taints {
		if taints[i].Effect == corev1.TaintEffectPreferNoSchedule && !tolerates(tolerations, &taints[i]) {
			n++
		}
	}
	return n
}
