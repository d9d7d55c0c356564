package registry

import (
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var templatePath = specPath.Child("template")

const selectorMismatch = "`selector` does not match template `labels`"

// validateTemplate checks the template of a workload's pods.
func validateTemplate(t *corev1.PodTemplateSpec) field.ErrorList {
	errs := unversioned.ValidateLabels(t.Labels, templatePath.Child("labels"))
	errs = append(errs, apivalidation.ValidateAnnotations(t.Annotations, templatePath.Child("annotations"))...)
	errs = append(errs, validatePodSpec(&t.Spec, templatePath.Child("spec"), false)...)
	if len(t.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(templatePath.Child("spec", "ephemeralContainers"), "ephemeral containers not allowed in pod template"))
	}
	return errs
}

// validateReplicated checks the selector and the template of a kind whose pods
// run for ever. kind is its name in lower case.
func validateReplicated(selector *metav1.LabelSelector, t *corev1.PodTemplateSpec, kind string) field.ErrorList {
	path := specPath.Child("selector")
	if selector == nil {
		return append(field.ErrorList{field.Required(path, "")}, validateLasting(t)...)
	}
	errs := unversioned.ValidateLabelSelector(selector, unversioned.LabelSelectorValidationOptions{}, path)
	if len(selector.MatchLabels)+len(selector.MatchExpressions) == 0 {
		errs = append(errs, field.Invalid(path, selector, "empty selector is invalid for "+kind))
	}
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return append(errs, field.Invalid(path, selector, "invalid label selector"))
	}
	if !parsed.Empty() && !parsed.Matches(labels.Set(t.Labels)) {
		errs = append(errs, field.Invalid(templatePath.Child("metadata", "labels"), t.Labels, selectorMismatch))
	}
	return append(errs, validateLasting(t)...)
}

// validateLasting is validateTemplate for pods that are to run for ever.
func validateLasting(t *corev1.PodTemplateSpec) field.ErrorList {
	errs := validateTemplate(t)
	if t.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(templatePath.Child("spec", "restartPolicy"), t.Spec.RestartPolicy,
			[]corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if t.Spec.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(templatePath.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in ReplicaSet is not Supported"))
	}
	return errs
}

// templateWarnings names the template's fields that have no effect; those of
// an update that leaves the template alone were named before.
func templateWarnings(t, old *corev1.PodTemplateSpec) []string {
	if old != nil && sameEncoding(&t.Spec, &old.Spec) {
		return nil
	}
	return podSpecWarnings(&t.Spec, templatePath.Child("spec"))
}

// immutable refuses a change of a field.
func immutable(value, old any, path *field.Path) field.ErrorList {
	return apivalidation.ValidateImmutableField(value, old, path)
}

// selectorText is a selector in the API's query form, empty if it is invalid.
func selectorText(s *metav1.LabelSelector) string {
	parsed, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return ""
	}
	return parsed.String()
}

// count is a number of objects in a status.
type count struct {
	name  string
	value int32
}

// validateCounts refuses negative numbers in a status, and more than of of
// those after the first, which is of what all of them count.
func validateCounts(counts ...count) field.ErrorList {
	var errs field.ErrorList
	for i, c := range counts {
		path := statusPath.Child(c.name)
		errs = append(errs, apivalidation.ValidateNonnegativeField(int64(c.value), path)...)
		if i > 0 && c.value > counts[0].value {
			errs = append(errs, field.Invalid(path, c.value, "cannot be greater than status.replicas"))
		}
	}
	return errs
}
