package registry

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftrun/weft/core"
)

func deploymentStrategy() *Strategy {
	return typed[*appsv1.Deployment]{
		kind: core.Kind{
			Group: core.Deployments.Group, Kind: "Deployment", ListKind: "DeploymentList",
			Resource: core.Deployments.Resource, Singular: "deployment",
			ShortNames: []string{"deploy"}, Categories: []string{"all"}, Namespaced: true, Storage: "v1",
			Subresources: []string{"scale", "status"},
		},
		create: func() *appsv1.Deployment { return &appsv1.Deployment{} },
		columns: append(append([]metav1.TableColumnDefinition{
			nameColumn(),
			column("Ready", "string", "How many of the wanted pods are ready."),
			column("Up-to-date", "string", "How many pods are of the newest template."),
			column("Available", "string", "How many pods have been ready for long enough."),
			ageColumn(),
		}, containerColumns()...), wide("Selector", "string", "Which pods are its own.")),
		cells: func(d *appsv1.Deployment, now time.Time) []any {
			names, images := containerCells(d.Spec.Template.Spec.Containers)
			return []any{
				d.Name, fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, orOne(d.Spec.Replicas)), int64(d.Status.UpdatedReplicas),
				int64(d.Status.AvailableReplicas), age(d.CreationTimestamp, now), names, images, metav1.FormatLabelSelector(d.Spec.Selector),
			}
		},
		defaults:      defaultDeployment,
		prepareCreate: func(d *appsv1.Deployment) { d.Status = appsv1.DeploymentStatus{} },
		prepareUpdate: func(d, old *appsv1.Deployment) { d.Status = old.Status },
		validate: func(d *appsv1.Deployment) field.ErrorList {
			return append(validateNamespaced(&d.ObjectMeta), validateDeploymentSpec(&d.Spec)...)
		},
		validateUpdate: validateDeploymentUpdate,
		warnings: func(d, old *appsv1.Deployment) []string {
			var before *corev1.PodTemplateSpec
			if old != nil {
				before = &old.Spec.Template
			}
			return templateWarnings(&d.Spec.Template, before)
		},
		copyStatus:     func(dst, src *appsv1.Deployment) { dst.Status = src.Status },
		validateStatus: validateDeploymentStatus,
		// Annotations count: the newest ReplicaSet carries them too.
		specChanged: func(d, old *appsv1.Deployment) bool {
			return !sameEncoding(&d.Spec, &old.Spec) || !equality.Semantic.DeepEqual(d.Annotations, old.Annotations)
		},
		scale: &Scaling{
			Replicas: func(o core.Object) (spec, status int32, selector string) {
				d := o.(*appsv1.Deployment)
				return orOne(d.Spec.Replicas), d.Status.Replicas, selectorText(d.Spec.Selector)
			},
			Set: func(o core.Object, replicas int32) { o.(*appsv1.Deployment).Spec.Replicas = &replicas },
		},
	}.strategy()
}

func defaultDeployment(d *appsv1.Deployment) {
	s := &d.Spec
	defaultNil(&s.Replicas, 1)
	defaultTo(&s.Strategy.Type, appsv1.RollingUpdateDeploymentStrategyType)
	if s.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		defaultNil(&s.Strategy.RollingUpdate, appsv1.RollingUpdateDeployment{})
		defaultNil(&s.Strategy.RollingUpdate.MaxUnavailable, intstr.FromString("25%"))
		defaultNil(&s.Strategy.RollingUpdate.MaxSurge, intstr.FromString("25%"))
	}
	defaultNil(&s.RevisionHistoryLimit, 10)
	defaultNil(&s.ProgressDeadlineSeconds, 600)
	defaultPodSpec(&s.Template.Spec)
}

func validateDeploymentSpec(s *appsv1.DeploymentSpec) field.ErrorList {
	errs := nonNegative(s.Replicas, specPath.Child("replicas"))
	errs = append(errs, validateReplicated(s.Selector, &s.Template, "deployment")...)
	errs = append(errs, validateDeploymentStrategy(&s.Strategy)...)
	errs = append(errs, nonNegative(&s.MinReadySeconds, specPath.Child("minReadySeconds"))...)
	errs = append(errs, nonNegative(s.RevisionHistoryLimit, specPath.Child("revisionHistoryLimit"))...)
	if deadline := s.ProgressDeadlineSeconds; deadline != nil {
		path := specPath.Child("progressDeadlineSeconds")
		errs = append(errs, nonNegative(deadline, path)...)
		if *deadline <= s.MinReadySeconds {
			errs = append(errs, field.Invalid(path, *deadline, "must be greater than minReadySeconds"))
		}
	}
	return errs
}

func validateDeploymentStrategy(s *appsv1.DeploymentStrategy) field.ErrorList {
	path := specPath.Child("strategy")
	rolling := path.Child("rollingUpdate")
	switch s.Type {
	case appsv1.RecreateDeploymentStrategyType:
		if s.RollingUpdate != nil {
			return field.ErrorList{field.Forbidden(rolling, "may not be specified when strategy `type` is 'Recreate'")}
		}
		return nil
	case appsv1.RollingUpdateDeploymentStrategyType:
		if s.RollingUpdate == nil {
			return field.ErrorList{field.Required(rolling, "this should be defaulted and never be nil")}
		}
		return validateRollingUpdate(s.RollingUpdate, rolling)
	}
	return field.ErrorList{field.NotSupported(path, s.Type, []appsv1.DeploymentStrategyType{
		appsv1.RecreateDeploymentStrategyType, appsv1.RollingUpdateDeploymentStrategyType,
	})}
}

func validateRollingUpdate(r *appsv1.RollingUpdateDeployment, path *field.Path) field.ErrorList {
	unavailable := path.Child("maxUnavailable")
	errs := validateIntOrPercent(r.MaxUnavailable, unavailable)
	errs = append(errs, validateIntOrPercent(r.MaxSurge, path.Child("maxSurge"))...)
	if intOrPercent(r.MaxUnavailable) == 0 && intOrPercent(r.MaxSurge) == 0 {
		errs = append(errs, field.Invalid(unavailable, r.MaxUnavailable, "may not be 0 when `maxSurge` is 0"))
	}
	if r.MaxUnavailable != nil && r.MaxUnavailable.Type == intstr.String && intOrPercent(r.MaxUnavailable) > 100 {
		errs = append(errs, field.Invalid(unavailable, r.MaxUnavailable, "must not be greater than 100%"))
	}
	return errs
}

func validateIntOrPercent(v *intstr.IntOrString, path *field.Path) field.ErrorList {
	switch {
	case v == nil:
		return nil
	case v.Type == intstr.String:
		return invalidEach(path, v, validation.IsValidPercent(v.StrVal))
	}
	return apivalidation.ValidateNonnegativeField(int64(v.IntVal), path)
}

// intOrPercent is the number in v: of a percentage the number before the sign,
// 0 of what is no percentage.
func intOrPercent(v *intstr.IntOrString) int {
	if v == nil {
		return 0
	}
	if v.Type == intstr.Int {
		return int(v.IntVal)
	}
	n, err := strconv.Atoi(strings.TrimSuffix(v.StrVal, "%"))
	if err != nil || !strings.HasSuffix(v.StrVal, "%") {
		return 0
	}
	return n
}

func validateDeploymentUpdate(d, old *appsv1.Deployment) field.ErrorList {
	errs := validateMetaUpdate(&d.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, validateDeploymentSpec(&d.Spec)...)
	return append(errs, immutable(d.Spec.Selector, old.Spec.Selector, specPath.Child("selector"))...)
}

func validateDeploymentStatus(d, old *appsv1.Deployment) field.ErrorList {
	s := &d.Status
	errs := validateMetaUpdate(&d.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, validateCounts(
		count{"replicas", s.Replicas}, count{"updatedReplicas", s.UpdatedReplicas},
		count{"readyReplicas", s.ReadyReplicas}, count{"availableReplicas", s.AvailableReplicas},
	)...)
	errs = append(errs, nonNegative(&s.UnavailableReplicas, statusPath.Child("unavailableReplicas"))...)
	errs = append(errs, nonNegative(&s.ObservedGeneration, statusPath.Child("observedGeneration"))...)
	errs = append(errs, nonNegative(s.CollisionCount, statusPath.Child("collisionCount"))...)
	if s.AvailableReplicas > s.ReadyReplicas {
		errs = append(errs, field.Invalid(statusPath.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than readyReplicas"))
	}
	if before := old.Status.CollisionCount; before != nil && (s.CollisionCount == nil || *s.CollisionCount < *before) {
		errs = append(errs, field.Invalid(statusPath.Child("collisionCount"), s.CollisionCount, "cannot be decremented"))
	}
	return errs
}
