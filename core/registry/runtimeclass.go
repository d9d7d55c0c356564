package registry

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftrun/weft/core"
)

func runtimeClassStrategy() *Strategy {
	return typed[*nodev1.RuntimeClass]{
		kind: core.Kind{
			Group: core.RuntimeClasses.Group, Kind: "RuntimeClass", ListKind: "RuntimeClassList",
			Resource: core.RuntimeClasses.Resource, Singular: "runtimeclass", Storage: "v1",
		},
		create: func() *nodev1.RuntimeClass { return &nodev1.RuntimeClass{} },
		columns: []metav1.TableColumnDefinition{
			nameColumn(), column("Handler", "string", "Which of a node's handlers runs pods of this class."), ageColumn(),
		},
		cells: func(c *nodev1.RuntimeClass, now time.Time) []any {
			return []any{c.Name, c.Handler, age(c.CreationTimestamp, now)}
		},
		defaults: func(c *nodev1.RuntimeClass) {
			if c.Overhead != nil {
				roundResources(c.Overhead.PodFixed)
			}
		},
		validate: validateRuntimeClass,
		validateUpdate: func(c, old *nodev1.RuntimeClass) field.ErrorList {
			errs := append(validateRuntimeClass(c), validateMetaUpdate(&c.ObjectMeta, &old.ObjectMeta)...)
			return append(errs, apivalidation.ValidateImmutableField(c.Handler, old.Handler, field.NewPath("handler"))...)
		},
	}.strategy()
}

func validateRuntimeClass(c *nodev1.RuntimeClass) field.ErrorList {
	errs := validateClusterScoped(&c.ObjectMeta)
	errs = append(errs, dnsLabel(c.Handler, field.NewPath("handler"))...)
	if c.Overhead != nil {
		errs = append(errs, validateOverhead(c.Overhead.PodFixed, field.NewPath("overhead", "podFixed"))...)
	}
	if s := c.Scheduling; s != nil {
		path := field.NewPath("scheduling")
		errs = append(errs, unversioned.ValidateLabels(s.NodeSelector, path.Child("nodeSelector"))...)
		errs = append(errs, validateClassTolerations(s.Tolerations, path.Child("tolerations"))...)
	}
	return errs
}

// validateClassTolerations requires of a class's tolerations what is required
// of a pod's, and that each is there once.
func validateClassTolerations(tolerations []corev1.Toleration, path *field.Path) field.ErrorList {
	errs := validateTolerations(tolerations, path)
	for i := range tolerations {
		for j := range i {
			if equality.Semantic.DeepEqual(tolerations[i], tolerations[j]) {
				errs = append(errs, field.Duplicate(path.Index(i), tolerations[i]))
				break
			}
		}
	}
	return errs
}
