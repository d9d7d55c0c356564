package registry

import (
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Paths that nearly every kind speaks of. A field.Path is immutable.
var (
	metadataPath = field.NewPath("metadata")
	specPath     = field.NewPath("spec")
	statusPath   = field.NewPath("status")
	dataPath     = field.NewPath("data")
)

// validateNamespaced returns what is wrong with the metadata of a namespaced
// object whose name is a DNS subdomain, as most are.
func validateNamespaced(m *metav1.ObjectMeta) field.ErrorList {
	return apivalidation.ValidateObjectMeta(m, true, apivalidation.NameIsDNSSubdomain, metadataPath)
}

// validateClusterScoped is validateNamespaced for objects without a namespace.
func validateClusterScoped(m *metav1.ObjectMeta) field.ErrorList {
	return apivalidation.ValidateObjectMeta(m, false, apivalidation.NameIsDNSSubdomain, metadataPath)
}

// validateMetaUpdate returns what an update may not do to metadata.
func validateMetaUpdate(m, old *metav1.ObjectMeta) field.ErrorList {
	return apivalidation.ValidateObjectMetaUpdate(m, old, metadataPath)
}

// nonNegative refuses a negative number; nil is fine.
func nonNegative[N int32 | int64](value *N, path *field.Path) field.ErrorList {
	if value == nil || *value >= 0 {
		return nil
	}
	return apivalidation.ValidateNonnegativeField(int64(*value), path)
}
