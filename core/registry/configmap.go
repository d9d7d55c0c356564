package registry

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftrun/weft/core"
)

// maxDataSize is the limit on the values of a ConfigMap or Secret together, in
// bytes.
const maxDataSize = corev1.MaxSecretSize

const immutableDetail = "field is immutable when `immutable` is set"

func configMapStrategy() *Strategy {
	return typed[*corev1.ConfigMap]{
		kind: core.Kind{
			Kind: "ConfigMap", ListKind: "ConfigMapList", Resource: core.ConfigMaps.Resource, Singular: "configmap",
			ShortNames: []string{"cm"}, Namespaced: true, Storage: "v1",
		},
		create: func() *corev1.ConfigMap { return &corev1.ConfigMap{} },
		columns: []metav1.TableColumnDefinition{
			nameColumn(), column("Data", "string", "How many keys it has."), ageColumn(),
		},
		cells: func(c *corev1.ConfigMap, now time.Time) []any {
			return []any{c.Name, int64(len(c.Data) + len(c.BinaryData)), age(c.CreationTimestamp, now)}
		},
		validate:       validateConfigMap,
		validateUpdate: validateConfigMapUpdate,
	}.strategy()
}

func validateConfigMap(c *corev1.ConfigMap) field.ErrorList {
	errs := validateNamespaced(&c.ObjectMeta)
	size := 0
	for _, key := range slices.Sorted(maps.Keys(c.Data)) {
		path := dataPath.Key(key)
		for _, msg := range validation.IsConfigMapKey(key) {
			errs = append(errs, field.Invalid(path, key, msg))
		}
		if _, twice := c.BinaryData[key]; twice {
			errs = append(errs, field.Invalid(path, key, "duplicate of key present in binaryData"))
		}
		size += len(c.Data[key])
	}
	for _, key := range slices.Sorted(maps.Keys(c.BinaryData)) {
		for _, msg := range validation.IsConfigMapKey(key) {
			errs = append(errs, field.Invalid(field.NewPath("binaryData").Key(key), key, msg))
		}
		size += len(c.BinaryData[key])
	}
	if size > maxDataSize {
		errs = append(errs, field.TooLong(field.NewPath(""), "", maxDataSize))
	}
	return errs
}

func validateConfigMapUpdate(c, old *corev1.ConfigMap) field.ErrorList {
	errs := validateMetaUpdate(&c.ObjectMeta, &old.ObjectMeta)
	if isTrue(old.Immutable) {
		if !isTrue(c.Immutable) {
			errs = append(errs, field.Forbidden(field.NewPath("immutable"), immutableDetail))
		}
		if !equality.Semantic.DeepEqual(c.Data, old.Data) {
			errs = append(errs, field.Forbidden(dataPath, immutableDetail))
		}
		if !equality.Semantic.DeepEqual(c.BinaryData, old.BinaryData) {
			errs = append(errs, field.Forbidden(field.NewPath("binaryData"), immutableDetail))
		}
	}
	return append(errs, validateConfigMap(c)...)
}

func isTrue(b *bool) bool { return b != nil && *b }
