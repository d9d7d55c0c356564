package registry

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Limits of a job, as in Kubernetes.
const (
	maxIndexed        = 100_000 // parallelism, and failed indexes, of an indexed job
	maxFailureRules   = 20
	maxExitCodes      = 255
	maxPodConditions  = 20
	maxSuccessRules   = 20
	maxManagedBy      = 63
	needsIndexes      = "requires indexed completion mode"
	fewerIndexesAbove = 100_000 // completions above which failed indexes are bounded closer
	maxFewerIndexes   = 10_000
)

func validateJob(j *batchv1.Job) field.ErrorList {
	errs := validateNamespaced(&j.ObjectMeta)
	errs = append(errs, validateGenerated(j)...)
	errs = append(errs, validateJobSpec(&j.Spec)...)
	if indexed(&j.Spec) && j.Spec.Completions != nil && *j.Spec.Completions > 0 {
		hostname := fmt.Sprintf("%s-%d", j.Name, *j.Spec.Completions-1)
		if len(validation.IsDNS1123Label(hostname)) > 0 {
			errs = append(errs, field.Invalid(metadataPath.Child("name"), j.Name,
				"will not able to create pod with invalid DNS label: "+hostname))
		}
	}
	return errs
}

func indexed(s *batchv1.JobSpec) bool {
	return s.CompletionMode != nil && *s.CompletionMode == batchv1.IndexedCompletion
}

// validateGenerated refuses labels and a selector that are not as generated.
func validateGenerated(j *batchv1.Job) field.ErrorList {
	if isTrue(j.Spec.ManualSelector) || j.Spec.Selector == nil {
		return nil
	}
	var errs field.ErrorList
	if j.UID == "" {
		errs = append(errs, field.Required(metadataPath.Child("uid"), ""))
	}
	expected := labels.Set{}
	for _, l := range [...]struct{ key, value string }{
		{oldControllerUIDLabel, string(j.UID)},
		{oldJobNameLabel, j.Name},
		{batchv1.ControllerUidLabel, string(j.UID)},
		{batchv1.JobNameLabel, j.Name},
	} {
		expected[l.key] = l.value
		path := templatePath.Child("metadata", "labels").Key(l.key)
		detail := fmt.Sprintf("must be '%s'", l.value)
		if actual, found := j.Spec.Template.Labels[l.key]; !found {
			errs = append(errs, field.Required(path, detail))
		} else if actual != l.value {
			errs = append(errs, field.Invalid(path, j.Spec.Template.Labels, detail))
		}
	}
	if selector, err := metav1.LabelSelectorAsSelector(j.Spec.Selector); err == nil && !selector.Matches(expected) {
		errs = append(errs, field.Invalid(specPath.Child("selector"), j.Spec.Selector, "`selector` not auto-generated"))
	}
	return errs
}

func validateJobSpec(s *batchv1.JobSpec) field.ErrorList {
	errs := validateJobNumbers(s)
	errs = append(errs, validateCompletionMode(s)...)
	if s.PodFailurePolicy != nil {
		errs = append(errs, validateFailurePolicy(s)...)
	}
	if s.SuccessPolicy != nil {
		errs = append(errs, validateSuccessPolicy(s)...)
	}
	errs = append(errs, validateReplacement(s)...)
	errs = append(errs, validateTemplate(&s.Template)...)
	errs = append(errs, validateJobRestart(s)...)
	path := specPath.Child("selector")
	if s.Selector == nil {
		return append(errs, field.Required(path, ""))
	}
	errs = append(errs, unversioned.ValidateLabelSelector(s.Selector, unversioned.LabelSelectorValidationOptions{}, path)...)
	if selector, err := metav1.LabelSelectorAsSelector(s.Selector); err == nil && !selector.Matches(labels.Set(s.Template.Labels)) {
		errs = append(errs, field.Invalid(templatePath.Child("metadata", "labels"), s.Template.Labels, selectorMismatch))
	}
	return errs
}

func validateJobNumbers(s *batchv1.JobSpec) field.ErrorList {
	var errs field.ErrorList
	errs = append(errs, nonNegative(s.Parallelism, specPath.Child("parallelism"))...)
	errs = append(errs, nonNegative(s.Completions, specPath.Child("completions"))...)
	errs = append(errs, nonNegative(s.ActiveDeadlineSeconds, specPath.Child("activeDeadlineSeconds"))...)
	errs = append(errs, nonNegative(s.BackoffLimit, specPath.Child("backoffLimit"))...)
	errs = append(errs, nonNegative(s.TTLSecondsAfterFinished, specPath.Child("ttlSecondsAfterFinished"))...)
	errs = append(errs, nonNegative(s.BackoffLimitPerIndex, specPath.Child("backoffLimitPerIndex"))...)
	if s.MaxFailedIndexes != nil {
		errs = append(errs, nonNegative(s.MaxFailedIndexes, specPath.Child("maxFailedIndexes"))...)
		if s.BackoffLimitPerIndex == nil {
			errs = append(errs, field.Required(specPath.Child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"))
		}
	}
	if s.ManagedBy != nil {
		path := specPath.Child("managedBy")
		errs = append(errs, validation.IsDomainPrefixedPath(path, *s.ManagedBy)...)
		if len(*s.ManagedBy) > maxManagedBy {
			errs = append(errs, field.TooLong(path, "", maxManagedBy))
		}
	}
	return errs
}

func validateCompletionMode(s *batchv1.JobSpec) field.ErrorList {
	var errs field.ErrorList
	path := specPath.Child("completionMode")
	if m := s.CompletionMode; m != nil && *m != batchv1.IndexedCompletion && *m != batchv1.NonIndexedCompletion {
		errs = append(errs, field.NotSupported(path, *m, []batchv1.CompletionMode{batchv1.NonIndexedCompletion, batchv1.IndexedCompletion}))
	}
	if indexed(s) {
		return append(errs, validateIndexed(s)...)
	}
	if s.BackoffLimitPerIndex != nil {
		errs = append(errs, field.Invalid(specPath.Child("backoffLimitPerIndex"), *s.BackoffLimitPerIndex, needsIndexes))
	}
	if s.MaxFailedIndexes != nil {
		errs = append(errs, field.Invalid(specPath.Child("maxFailedIndexes"), *s.MaxFailedIndexes, needsIndexes))
	}
	return errs
}

func validateIndexed(s *batchv1.JobSpec) field.ErrorList {
	var errs field.ErrorList
	if s.Completions == nil {
		errs = append(errs, field.Required(specPath.Child("completions"), "when completion mode is Indexed"))
	}
	if s.Parallelism != nil && *s.Parallelism > maxIndexed {
		errs = append(errs, field.Invalid(specPath.Child("parallelism"), *s.Parallelism,
			fmt.Sprintf("must be less than or equal to %d when completion mode is Indexed", maxIndexed)))
	}
	failed := s.MaxFailedIndexes
	path := specPath.Child("maxFailedIndexes")
	if failed != nil {
		if s.Completions != nil && *failed > *s.Completions {
			errs = append(errs, field.Invalid(path, *failed, "must be less than or equal to completions"))
		}
		if *failed > maxIndexed {
			errs = append(errs, field.Invalid(path, *failed, fmt.Sprintf("must be less than or equal to %d", maxIndexed)))
		}
	}
	if s.Completions == nil || *s.Completions <= fewerIndexesAbove || s.BackoffLimitPerIndex == nil {
		return errs
	}
	switch {
	case failed == nil:
		errs = append(errs, field.Required(path, fmt.Sprintf("must be specified when completions is above %d", fewerIndexesAbove)))
	case *failed > maxFewerIndexes:
		errs = append(errs, field.Invalid(path, *failed,
			fmt.Sprintf("must be less than or equal to %d when completions are above %d and used with backoff limit per index", maxFewerIndexes, fewerIndexesAbove)))
	}
	if s.Parallelism != nil && *s.Parallelism > maxFewerIndexes {
		errs = append(errs, field.Invalid(specPath.Child("parallelism"), *s.Parallelism,
			fmt.Sprintf("must be less than or equal to %d when completions are above %d and used with backoff limit per index", maxFewerIndexes, fewerIndexesAbove)))
	}
	return errs
}

// validateJobRestart refuses a policy under which pods never end. Always is
// what a template without a policy has been defaulted to, so it is reported as
// if nothing had been said.
func validateJobRestart(s *batchv1.JobSpec) field.ErrorList {
	var errs field.ErrorList
	path := templatePath.Child("spec", "restartPolicy")
	policy := s.Template.Spec.RestartPolicy
	switch policy {
	case corev1.RestartPolicyAlways, "":
		errs = append(errs, field.Required(path,
			fmt.Sprintf("valid values: %q, %q", corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)))
	case corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever:
	default:
		errs = append(errs, field.NotSupported(path, policy, []corev1.RestartPolicy{corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}))
	}
	if policy == corev1.RestartPolicyNever {
		return errs
	}
	if s.PodFailurePolicy != nil {
		errs = append(errs, field.Invalid(path, policy, `only "Never" is supported when podFailurePolicy is specified`))
	}
	if s.BackoffLimitPerIndex != nil {
		errs = append(errs, field.Invalid(path, policy, `only "Never" is supported when backoffLimitPerIndex is specified`))
	}
	return errs
}

func validateReplacement(s *batchv1.JobSpec) field.ErrorList {
	if s.PodReplacementPolicy == nil {
		return nil
	}
	supported := []batchv1.PodReplacementPolicy{batchv1.Failed, batchv1.TerminatingOrFailed}
	if s.PodFailurePolicy != nil {
		supported = supported[:1]
	}
	if !slices.Contains(supported, *s.PodReplacementPolicy) {
		return field.ErrorList{field.NotSupported(specPath.Child("podReplacementPolicy"), *s.PodReplacementPolicy, supported)}
	}
	return nil
}

func validateFailurePolicy(s *batchv1.JobSpec) field.ErrorList {
	var errs field.ErrorList
	rules := s.PodFailurePolicy.Rules
	path := specPath.Child("podFailurePolicy", "rules")
	if len(rules) > maxFailureRules {
		errs = append(errs, field.TooMany(path, len(rules), maxFailureRules))
	}
	for i := range rules {
		errs = append(errs, validateFailureRule(&rules[i], s, path.Index(i))...)
	}
	return errs
}

func validateFailureRule(r *batchv1.PodFailurePolicyRule, s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	actions := []batchv1.PodFailurePolicyAction{
		batchv1.PodFailurePolicyActionCount, batchv1.PodFailurePolicyActionFailIndex,
		batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionIgnore,
	}
	switch {
	case r.Action == "":
		errs = append(errs, field.Required(path.Child("action"), fmt.Sprintf("valid values: %q", actions)))
	case r.Action == batchv1.PodFailurePolicyActionFailIndex && s.BackoffLimitPerIndex == nil:
		errs = append(errs, field.Invalid(path.Child("action"), r.Action, "requires the backoffLimitPerIndex to be set"))
	case !slices.Contains(actions, r.Action):
		errs = append(errs, field.NotSupported(path.Child("action"), r.Action, actions))
	}
	if r.OnExitCodes != nil {
		errs = append(errs, validateExitCodes(r.OnExitCodes, s, path.Child("onExitCodes"))...)
	}
	conditions := path.Child("onPodConditions")
	if len(r.OnPodConditions) > maxPodConditions {
		errs = append(errs, field.TooMany(conditions, len(r.OnPodConditions), maxPodConditions))
	}
	for i, c := range r.OnPodConditions {
		at := conditions.Index(i)
		errs = append(errs, qualifiedName(string(c.Type), at.Child("type"))...)
		statuses := []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown}
		if c.Status == "" {
			errs = append(errs, field.Required(at.Child("status"), fmt.Sprintf("valid values: %q", statuses)))
		} else if !slices.Contains(statuses, c.Status) {
			errs = append(errs, field.NotSupported(at.Child("status"), c.Status, statuses))
		}
	}
	switch both := r.OnExitCodes != nil; {
	case both && len(r.OnPodConditions) > 0:
		errs = append(errs, field.Invalid(path, field.OmitValueType{}, "specifying both OnExitCodes and OnPodConditions is not supported"))
	case !both && len(r.OnPodConditions) == 0:
		errs = append(errs, field.Invalid(path, field.OmitValueType{}, "specifying one of OnExitCodes and OnPodConditions is required"))
	}
	return errs
}

func validateExitCodes(r *batchv1.PodFailurePolicyOnExitCodesRequirement, s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	operators := []batchv1.PodFailurePolicyOnExitCodesOperator{
		batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn,
	}
	if r.Operator == "" {
		errs = append(errs, field.Required(path.Child("operator"), fmt.Sprintf("valid values: %q", operators)))
	} else if !slices.Contains(operators, r.Operator) {
		errs = append(errs, field.NotSupported(path.Child("operator"), r.Operator, operators))
	}
	if n := r.ContainerName; n != nil && !named(s.Template.Spec.Containers, *n) && !named(s.Template.Spec.InitContainers, *n) {
		errs = append(errs, field.Invalid(path.Child("containerName"), *n, "must be one of the container or initContainer names in the pod template"))
	}
	values := path.Child("values")
	if len(r.Values) == 0 {
		return append(errs, field.Invalid(values, r.Values, "at least one value is required"))
	}
	if len(r.Values) > maxExitCodes {
		errs = append(errs, field.TooMany(values, len(r.Values), maxExitCodes))
	}
	seen := map[int32]bool{}
	for i, v := range r.Values {
		if r.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn && v == 0 {
			errs = append(errs, field.Invalid(values.Index(i), v, "must not be 0 for the In operator"))
		}
		if seen[v] {
			errs = append(errs, field.Duplicate(values.Index(i), v))
		}
		seen[v] = true
	}
	if !slices.IsSorted(r.Values) {
		errs = append(errs, field.Invalid(values, r.Values, "must be ordered"))
	}
	return errs
}

func validateSuccessPolicy(s *batchv1.JobSpec) field.ErrorList {
	path := specPath.Child("successPolicy")
	if !indexed(s) {
		return field.ErrorList{field.Invalid(path, *s.SuccessPolicy, needsIndexes)}
	}
	path = path.Child("rules")
	rules := s.SuccessPolicy.Rules
	if len(rules) == 0 {
		return field.ErrorList{field.Required(path, "at least one rules must be specified when the successPolicy is specified")}
	}
	var errs field.ErrorList
	if len(rules) > maxSuccessRules {
		errs = append(errs, field.TooMany(path, len(rules), maxSuccessRules))
	}
	for i := range rules {
		errs = append(errs, validateSuccessRule(&rules[i], s, path.Index(i))...)
	}
	return errs
}

func validateSuccessRule(r *batchv1.SuccessPolicyRule, s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if r.SucceededCount == nil && r.SucceededIndexes == nil {
		return field.ErrorList{field.Required(path, "at least one of succeededCount or succeededIndexes must be specified")}
	}
	total := int32(-1)
	if s.Completions != nil {
		total = *s.Completions
	}
	listed := int64(-1)
	if r.SucceededIndexes != nil {
		n, err := countIndexes(*r.SucceededIndexes, total)
		if err != nil {
			errs = append(errs, field.Invalid(path.Child("succeededIndexes"), *r.SucceededIndexes, "error parsing succeededIndexes: "+err.Error()))
		} else {
			listed = n
		}
	}
	if c := r.SucceededCount; c != nil {
		at := path.Child("succeededCount")
		errs = append(errs, nonNegative(c, at)...)
		if total >= 0 && *c > total {
			errs = append(errs, field.Invalid(at, *c, fmt.Sprintf("must be less than or equal to %d (the number of specified completions)", total)))
		}
		if listed >= 0 && int64(*c) > listed {
			errs = append(errs, field.Invalid(at, *c, fmt.Sprintf("must be less than or equal to %d (the number of indexes in the specified succeededIndexes field)", listed)))
		}
	}
	return errs
}

// countIndexes counts the indexes in a list such as 1,3-5: rising, and below
// total if that is not negative.
func countIndexes(list string, total int32) (int64, error) {
	n, last := int64(0), int64(-1)
	if list == "" {
		return 0, nil
	}
	for part := range strings.SplitSeq(list, ",") {
		low, high, ranged := strings.Cut(part, "-")
		from, err := strconv.ParseInt(low, 10, 32)
		if err != nil {
			return 0, fmt.Errorf("cannot convert string to integer for index: %q", low)
		}
		to := from
		if ranged {
			if to, err = strconv.ParseInt(high, 10, 32); err != nil {
				return 0, fmt.Errorf("cannot convert string to integer for index: %q", high)
			}
			if to <= from {
				return 0, fmt.Errorf("non-increasing order, previous: %d, current: %d", from, to)
			}
		}
		if from <= last {
			return 0, fmt.Errorf("non-increasing order, previous: %d, current: %d", last, from)
		}
		if total >= 0 && to >= int64(total) {
			return 0, fmt.Errorf("too large index: %q", part)
		}
		n += to - from + 1
		last = to
	}
	return n, nil
}

func validateJobUpdate(j, old *batchv1.Job) field.ErrorList {
	s, was := &j.Spec, &old.Spec
	errs := validateMetaUpdate(&j.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, validateGenerated(j)...)
	errs = append(errs, validateJobSpec(s)...)
	errs = append(errs, validateCompletionsUpdate(s, was)...)
	errs = append(errs, immutable(s.Selector, was.Selector, specPath.Child("selector"))...)
	errs = append(errs, validateJobTemplateUpdate(s, old)...)
	errs = append(errs, immutable(s.CompletionMode, was.CompletionMode, specPath.Child("completionMode"))...)
	errs = append(errs, immutable(s.PodFailurePolicy, was.PodFailurePolicy, specPath.Child("podFailurePolicy"))...)
	errs = append(errs, immutable(s.BackoffLimitPerIndex, was.BackoffLimitPerIndex, specPath.Child("backoffLimitPerIndex"))...)
	errs = append(errs, immutable(s.ManagedBy, was.ManagedBy, specPath.Child("managedBy"))...)
	return append(errs, immutable(s.SuccessPolicy, was.SuccessPolicy, specPath.Child("successPolicy"))...)
}

// validateCompletionsUpdate lets an indexed job grow and shrink together with
// its parallelism; others keep their number.
func validateCompletionsUpdate(s, old *batchv1.JobSpec) field.ErrorList {
	path := specPath.Child("completions")
	if !indexed(s) || !indexed(old) {
		return immutable(s.Completions, old.Completions, path)
	}
	if equality.Semantic.DeepEqual(s.Completions, old.Completions) {
		return nil
	}
	if s.Completions == nil || s.Parallelism == nil || *s.Completions != *s.Parallelism {
		return field.ErrorList{field.Invalid(path, s.Completions, "can only be modified in tandem with "+specPath.Child("parallelism").String())}
	}
	return nil
}

// validateJobTemplateUpdate keeps the template, but for where the pods of a
// job that never ran may go.
func validateJobTemplateUpdate(s *batchv1.JobSpec, old *batchv1.Job) field.ErrorList {
	was := &old.Spec.Template
	if isTrue(old.Spec.Suspend) && old.Status.StartTime == nil {
		was = was.DeepCopy()
		was.Labels, was.Annotations = s.Template.Labels, s.Template.Annotations
		was.Spec.NodeSelector, was.Spec.Tolerations = s.Template.Spec.NodeSelector, s.Template.Spec.Tolerations
		was.Spec.SchedulingGates, was.Spec.Affinity = s.Template.Spec.SchedulingGates, s.Template.Spec.Affinity
	}
	return immutable(s.Template, *was, templatePath)
}

func validateJobStatus(j, old *batchv1.Job) field.ErrorList {
	s := &j.Status
	errs := validateMetaUpdate(&j.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, nonNegative(&s.Active, statusPath.Child("active"))...)
	errs = append(errs, nonNegative(&s.Succeeded, statusPath.Child("succeeded"))...)
	errs = append(errs, nonNegative(&s.Failed, statusPath.Child("failed"))...)
	errs = append(errs, nonNegative(s.Ready, statusPath.Child("ready"))...)
	errs = append(errs, nonNegative(s.Terminating, statusPath.Child("terminating"))...)
	if jobIs(j, batchv1.JobComplete) && jobIs(j, batchv1.JobFailed) {
		errs = append(errs, field.Invalid(statusPath.Child("conditions"), field.OmitValueType{}, "cannot set Complete=True and Failed=true conditions"))
	}
	return errs
}
