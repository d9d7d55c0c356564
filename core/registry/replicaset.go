package registry

import (
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftrun/weft/core"
)

func replicaSetStrategy() *Strategy {
	return typed[*appsv1.ReplicaSet]{
		kind: core.Kind{
			Group: core.ReplicaSets.Group, Kind: "ReplicaSet", ListKind: "ReplicaSetList",
			Resource: core.ReplicaSets.Resource, Singular: "replicaset",
			ShortNames: []string{"rs"}, Categories: []string{"all"}, Namespaced: true, Storage: "v1",
			Subresources: []string{"scale", "status"},
		},
		create: func() *appsv1.ReplicaSet { return &appsv1.ReplicaSet{} },
		columns: append(append([]metav1.TableColumnDefinition{
			nameColumn(),
			column("Desired", "integer", "How many pods there should be."),
			column("Current", "integer", "How many pods there are."),
			column("Ready", "integer", "How many of them are ready."),
			ageColumn(),
		}, containerColumns()...), wide("Selector", "string", "Which pods are its own.")),
		cells: func(r *appsv1.ReplicaSet, now time.Time) []any {
			names, images := containerCells(r.Spec.Template.Spec.Containers)
			return []any{
				r.Name, int64(orOne(r.Spec.Replicas)), int64(r.Status.Replicas), int64(r.Status.ReadyReplicas),
				age(r.CreationTimestamp, now), names, images, metav1.FormatLabelSelector(r.Spec.Selector),
			}
		},
		fields: func(r *appsv1.ReplicaSet) map[string]string {
			return map[string]string{"status.replicas": strconv.Itoa(int(r.Status.Replicas))}
		},
		defaults: func(r *appsv1.ReplicaSet) {
			defaultNil(&r.Spec.Replicas, 1)
			defaultPodSpec(&r.Spec.Template.Spec)
		},
		prepareCreate:  func(r *appsv1.ReplicaSet) { r.Status = appsv1.ReplicaSetStatus{} },
		prepareUpdate:  func(r, old *appsv1.ReplicaSet) { r.Status = old.Status },
		validate:       validateReplicaSet,
		validateUpdate: validateReplicaSetUpdate,
		warnings: func(r, old *appsv1.ReplicaSet) []string {
			var before *corev1.PodTemplateSpec
			if old != nil {
				before = &old.Spec.Template
			}
			return templateWarnings(&r.Spec.Template, before)
		},
		copyStatus:     func(dst, src *appsv1.ReplicaSet) { dst.Status = src.Status },
		validateStatus: validateReplicaSetStatus,
		specChanged:    func(r, old *appsv1.ReplicaSet) bool { return !sameEncoding(&r.Spec, &old.Spec) },
		scale: &Scaling{
			Replicas: func(o core.Object) (spec, status int32, selector string) {
				r := o.(*appsv1.ReplicaSet)
				return orOne(r.Spec.Replicas), r.Status.Replicas, selectorText(r.Spec.Selector)
			},
			Set: func(o core.Object, replicas int32) { o.(*appsv1.ReplicaSet).Spec.Replicas = &replicas },
		},
	}.strategy()
}

// orOne is the number of replicas, which is one unless something is said.
func orOne(replicas *int32) int32 {
	if replicas == nil {
		return 1
	}
	return *replicas
}

func validateReplicaSet(r *appsv1.ReplicaSet) field.ErrorList {
	return append(validateNamespaced(&r.ObjectMeta), validateReplicaSetSpec(&r.Spec)...)
}

func validateReplicaSetSpec(s *appsv1.ReplicaSetSpec) field.ErrorList {
	errs := nonNegative(s.Replicas, specPath.Child("replicas"))
	errs = append(errs, nonNegative(&s.MinReadySeconds, specPath.Child("minReadySeconds"))...)
	return append(errs, validateReplicated(s.Selector, &s.Template, "replicaset")...)
}

func validateReplicaSetUpdate(r, old *appsv1.ReplicaSet) field.ErrorList {
	errs := validateMetaUpdate(&r.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, validateReplicaSetSpec(&r.Spec)...)
	return append(errs, immutable(r.Spec.Selector, old.Spec.Selector, specPath.Child("selector"))...)
}

func validateReplicaSetStatus(r, old *appsv1.ReplicaSet) field.ErrorList {
	s := &r.Status
	errs := validateMetaUpdate(&r.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, validateCounts(
		count{"replicas", s.Replicas}, count{"fullyLabeledReplicas", s.FullyLabeledReplicas},
		count{"readyReplicas", s.ReadyReplicas}, count{"availableReplicas", s.AvailableReplicas},
	)...)
	errs = append(errs, apivalidation.ValidateNonnegativeField(s.ObservedGeneration, statusPath.Child("observedGeneration"))...)
	if s.AvailableReplicas > s.ReadyReplicas {
		errs = append(errs, field.Invalid(statusPath.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than readyReplicas"))
	}
	return errs
}
