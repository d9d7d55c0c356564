package registry

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// roundResources rounds amounts up to thousandths, the finest that is kept.
func roundResources(list corev1.ResourceList) {
	for name, amount := range list {
		if amount.RoundUp(-3) {
			continue
		}
		list[name] = amount
	}
}

func sortedResources(list corev1.ResourceList) []corev1.ResourceName {
	if len(list) == 0 {
		return nil
	}
	names := make([]corev1.ResourceName, 0, len(list))
	for name := range list {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// standardResource tells whether a container may ask for name without saying
// whose resource it is.
func standardResource(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
		return true
	}
	return isHugePage(name)
}

func isHugePage(name corev1.ResourceName) bool {
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

// nativeResource tells whether name is one of Kubernetes' own: without a
// domain, or in kubernetes.io.
func nativeResource(name corev1.ResourceName) bool {
	return !strings.Contains(string(name), "/") || strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix)
}

// extendedResource tells whether name is a countable resource of a domain of
// its own.
func extendedResource(name corev1.ResourceName) bool {
	if nativeResource(name) || strings.HasPrefix(string(name), corev1.DefaultResourceRequestsPrefix) {
		return false
	}
	return len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+string(name))) == 0
}

// overcommit tells whether more of name may be promised than there is.
func overcommit(name corev1.ResourceName) bool {
	return nativeResource(name) && !isHugePage(name)
}

// quotaResource tells whether name, without a domain, is known to mean
// something anywhere.
func quotaResource(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage, corev1.ResourceStorage,
		corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceRequestsStorage, corev1.ResourceRequestsEphemeralStorage,
		corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceLimitsEphemeralStorage,
		corev1.ResourcePods, corev1.ResourceQuotas, corev1.ResourceServices, corev1.ResourceReplicationControllers,
		corev1.ResourceSecrets, corev1.ResourceConfigMaps, corev1.ResourcePersistentVolumeClaims:
		return true
	}
	return isHugePage(name)
}

// validateResourceName requires a qualified name, and of one without a domain
// that it is known.
func validateResourceName(name corev1.ResourceName, path *field.Path) field.ErrorList {
	errs := invalidEach(path, name, validation.IsQualifiedName(string(name)))
	if len(errs) == 0 && !strings.Contains(string(name), "/") && !quotaResource(name) {
		errs = append(errs, field.Invalid(path, name, "must be a standard resource type or fully qualified"))
	}
	return errs
}

// validateContainerResourceName is validateResourceName for what a container
// asks for.
func validateContainerResourceName(name corev1.ResourceName, path *field.Path) field.ErrorList {
	if standardResource(name) {
		return nil
	}
	errs := validateResourceName(name, path)
	switch {
	case !strings.Contains(string(name), "/"):
		errs = append(errs, field.Invalid(path, name, "must be a standard resource for containers"))
	case !nativeResource(name) && !extendedResource(name):
		errs = append(errs, field.Invalid(path, name, "doesn't follow extended resource name standard"))
	}
	return errs
}

// validateQuantity requires an amount that is not negative, and whole for what
// can only be counted.
func validateQuantity(name corev1.ResourceName, amount resource.Quantity, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if amount.Sign() < 0 {
		errs = append(errs, field.Invalid(path, amount.String(), "must be greater than or equal to 0"))
	}
	if (extendedResource(name) || name == corev1.ResourcePods) && amount.MilliValue()%1000 != 0 {
		errs = append(errs, field.Invalid(path, amount.String(), "must be an integer"))
	}
	return errs
}
