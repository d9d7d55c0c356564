package registry

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftrun/weft/core"
)

func secretStrategy() *Strategy {
	return typed[*corev1.Secret]{
		kind: core.Kind{
			Kind: "Secret", ListKind: "SecretList", Resource: core.Secrets.Resource, Singular: "secret",
			Namespaced: true, Storage: "v1",
		},
		create: func() *corev1.Secret { return &corev1.Secret{} },
		columns: []metav1.TableColumnDefinition{
			nameColumn(), column("Type", "string", "What the secret is for."),
			column("Data", "integer", "How many keys it has."), ageColumn(),
		},
		cells: func(s *corev1.Secret, now time.Time) []any {
			return []any{s.Name, string(s.Type), int64(len(s.Data)), age(s.CreationTimestamp, now)}
		},
		fields:         func(s *corev1.Secret) map[string]string { return map[string]string{"type": string(s.Type)} },
		defaults:       defaultSecret,
		validate:       validateSecret,
		validateUpdate: validateSecretUpdate,
	}.strategy()
}

// defaultSecret also moves what is given as text to where it is kept.
func defaultSecret(s *corev1.Secret) {
	defaultTo(&s.Type, corev1.SecretTypeOpaque)
	if len(s.StringData) > 0 && s.Data == nil {
		s.Data = make(map[string][]byte, len(s.StringData))
	}
	for key, text := range s.StringData {
		s.Data[key] = []byte(text)
	}
	s.StringData = nil
}

func validateSecret(s *corev1.Secret) field.ErrorList {
	errs := validateNamespaced(&s.ObjectMeta)
	errs = append(errs, validateSecretData(s)...)
	return append(errs, validateSecretType(s)...)
}

func validateSecretData(s *corev1.Secret) field.ErrorList {
	var errs field.ErrorList
	size := 0
	for _, key := range slices.Sorted(maps.Keys(s.Data)) {
		for _, msg := range validation.IsConfigMapKey(key) {
			errs = append(errs, field.Invalid(dataPath.Key(key), key, msg))
		}
		size += len(s.Data[key])
	}
	if size > maxDataSize {
		errs = append(errs, field.TooLong(dataPath, "", maxDataSize))
	}
	return errs
}

// validateSecretType requires the keys that a type of secret is about. No
// value is repeated in an error.
func validateSecretType(s *corev1.Secret) field.ErrorList {
	var errs field.ErrorList
	demand := func(keys ...string) {
		for _, key := range keys {
			if _, ok := s.Data[key]; !ok {
				errs = append(errs, field.Required(dataPath.Key(key), ""))
			}
		}
	}
	switch s.Type {
	case corev1.SecretTypeServiceAccountToken:
		if s.Annotations[corev1.ServiceAccountNameKey] == "" {
			errs = append(errs, field.Required(metadataPath.Child("annotations").Key(corev1.ServiceAccountNameKey), ""))
		}
	case corev1.SecretTypeDockercfg:
		errs = append(errs, requireJSON(s, corev1.DockerConfigKey)...)
	case corev1.SecretTypeDockerConfigJson:
		errs = append(errs, requireJSON(s, corev1.DockerConfigJsonKey)...)
	case corev1.SecretTypeBasicAuth:
		_, user := s.Data[corev1.BasicAuthUsernameKey]
		if _, password := s.Data[corev1.BasicAuthPasswordKey]; !user && !password {
			demand(corev1.BasicAuthUsernameKey, corev1.BasicAuthPasswordKey)
		}
	case corev1.SecretTypeSSHAuth:
		if len(s.Data[corev1.SSHAuthPrivateKey]) == 0 {
			errs = append(errs, field.Required(dataPath.Key(corev1.SSHAuthPrivateKey), ""))
		}
	case corev1.SecretTypeTLS:
		demand(corev1.TLSCertKey, corev1.TLSPrivateKeyKey)
	}
	return errs
}

func requireJSON(s *corev1.Secret, key string) field.ErrorList {
	value, ok := s.Data[key]
	if !ok {
		return field.ErrorList{field.Required(dataPath.Key(key), "")}
	}
	if err := json.Unmarshal(value, &map[string]any{}); err != nil {
		return field.ErrorList{field.Invalid(dataPath.Key(key), "<secret contents redacted>", err.Error())}
	}
	return nil
}

func validateSecretUpdate(s, old *corev1.Secret) field.ErrorList {
	errs := validateMetaUpdate(&s.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, immutable(s.Type, old.Type, field.NewPath("type"))...)
	if isTrue(old.Immutable) {
		if !isTrue(s.Immutable) {
			errs = append(errs, field.Forbidden(field.NewPath("immutable"), immutableDetail))
		}
		if !equality.Semantic.DeepEqual(s.Data, old.Data) {
			errs = append(errs, field.Forbidden(dataPath, immutableDetail))
		}
	}
	return append(errs, validateSecret(s)...)
}

// memoryStrategy is that of what controllers remember: internal, and named by
// a UID.
func memoryStrategy() *Strategy {
	return typed[*corev1.Secret]{
		kind: core.Kind{
			Group: core.MemoryKind.Group, Kind: core.MemoryKind.Kind, ListKind: "MemoryList",
			Resource: core.Memories.Resource, Singular: "memory", Namespaced: true, Storage: core.MemoryKind.Version, Internal: true,
		},
		create: func() *corev1.Secret { return &corev1.Secret{} },
		validate: func(s *corev1.Secret) field.ErrorList {
			return append(validateNamespaced(&s.ObjectMeta), validateSecretData(s)...)
		},
		validateUpdate: func(s, old *corev1.Secret) field.ErrorList {
			return append(apivalidation.ValidateObjectMetaUpdate(&s.ObjectMeta, &old.ObjectMeta, metadataPath), validateSecretData(s)...)
		},
	}.strategy()
}
