package registry

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateEnv(vars []corev1.EnvVar, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range vars {
		v := &vars[i]
		if v.Name == "" {
			errs = append(errs, field.Required(path.Child("env").Index(i).Child("name"), ""))
		} else if msgs := validation.IsRelaxedEnvVarName(v.Name); len(msgs) > 0 {
			errs = append(errs, invalidEach(path.Child("env").Index(i).Child("name"), v.Name, msgs)...)
		}
		if v.ValueFrom != nil {
			errs = append(errs, validateEnvSource(v, path.Child("env").Index(i).Child("valueFrom"))...)
		}
	}
	return errs
}

func validateEnvSource(v *corev1.EnvVar, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	from, sources := v.ValueFrom, 0
	if r := from.FieldRef; r != nil {
		sources++
		errs = append(errs, validateFieldRef(r, envFieldPaths(), path.Child("fieldRef"))...)
	}
	if r := from.ResourceFieldRef; r != nil {
		sources++
		errs = append(errs, validateResourceFieldRef(r, false, path.Child("resourceFieldRef"))...)
	}
	if r := from.ConfigMapKeyRef; r != nil {
		sources++
		errs = append(errs, validateKeyRef(r.Name, r.Key, path.Child("configMapKeyRef"))...)
	}
	if r := from.SecretKeyRef; r != nil {
		sources++
		errs = append(errs, validateKeyRef(r.Name, r.Key, path.Child("secretKeyRef"))...)
	}
	if r := from.FileKeyRef; r != nil {
		sources++
		errs = append(errs, validateFileKeyRef(r, path.Child("fileKeyRef"))...)
	}
	switch {
	case sources == 0:
		errs = append(errs, field.Invalid(path, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"))
	case v.Value != "":
		errs = append(errs, field.Invalid(path, "", "may not be specified when `value` is not empty"))
	case sources > 1:
		errs = append(errs, field.Invalid(path, "", "may not have more than one field specified at a time"))
	}
	return errs
}

// envFieldPaths are the fields of a pod that its environment may name.
func envFieldPaths() []string {
	return []string{
		"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
		"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
	}
}

// volumeFieldPaths are those that a file may hold.
func volumeFieldPaths() []string {
	return []string{"metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"}
}

func validateFieldRef(r *corev1.ObjectFieldSelector, paths []string, path *field.Path) field.ErrorList {
	if r.APIVersion == "" {
		return field.ErrorList{field.Required(path.Child("apiVersion"), "")}
	}
	if r.FieldPath == "" {
		return field.ErrorList{field.Required(path.Child("fieldPath"), "")}
	}
	at := path.Child("fieldPath")
	if r.APIVersion != "v1" {
		return field.ErrorList{field.Invalid(at, r.FieldPath, "error converting fieldPath: unsupported pod version: "+r.APIVersion)}
	}
	base, rest, subscripted := strings.Cut(r.FieldPath, "['")
	if key, ok := strings.CutSuffix(rest, "']"); subscripted && ok {
		switch base {
		case "metadata.annotations":
			return qualifiedName(strings.ToLower(key), path)
		case "metadata.labels":
			return qualifiedName(key, path)
		}
		return field.ErrorList{field.Invalid(at, r.FieldPath, "error converting fieldPath: field label does not support subscript: "+r.FieldPath)}
	}
	if slices.Contains(paths, r.FieldPath) {
		return nil
	}
	if slices.Contains(envFieldPaths(), r.FieldPath) || slices.Contains(volumeFieldPaths(), r.FieldPath) {
		return field.ErrorList{field.NotSupported(at, r.FieldPath, paths)}
	}
	return field.ErrorList{field.Invalid(at, r.FieldPath, "error converting fieldPath: field label not supported: "+r.FieldPath)}
}

func validateResourceFieldRef(r *corev1.ResourceFieldSelector, volume bool, path *field.Path) field.ErrorList {
	known := []string{
		"limits.cpu", "limits.ephemeral-storage", "limits.memory",
		"requests.cpu", "requests.ephemeral-storage", "requests.memory",
	}
	var errs field.ErrorList
	switch {
	case volume && r.ContainerName == "":
		errs = append(errs, field.Required(path.Child("containerName"), ""))
	case r.Resource == "":
		errs = append(errs, field.Required(path.Child("resource"), ""))
	case !slices.Contains(known, r.Resource) && !strings.HasPrefix(r.Resource, "requests.hugepages-") &&
		!strings.HasPrefix(r.Resource, "limits.hugepages-"):
		errs = append(errs, field.NotSupported(path.Child("resource"), r.Resource, known))
	}
	if r.Divisor.IsZero() {
		return errs
	}
	divisors, what := []string{"1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"}, ""
	switch _, name, _ := strings.Cut(r.Resource, "."); {
	case name == "cpu":
		divisors, what = []string{"1m", "1"}, "cpu"
	case name == "memory":
		what = "memory"
	case name == "ephemeral-storage":
		what = "local ephemeral storage"
	case strings.HasPrefix(name, corev1.ResourceHugePagesPrefix):
		what = "hugepages"
	default:
		return errs
	}
	if !slices.Contains(divisors, r.Divisor.String()) {
		list := strings.Join(divisors, ", ")
		if what == "cpu" {
			list = "1m and 1"
		}
		errs = append(errs, field.Invalid(path.Child("divisor"), r.Resource,
			"only divisor's values "+list+" are supported with the "+what+" resource"))
	}
	return errs
}

// validateKeyRef checks a reference to one key of a ConfigMap or Secret.
func validateKeyRef(name, key string, path *field.Path) field.ErrorList {
	errs := dnsSubdomain(name, path.Child("name"))
	if key == "" {
		return append(errs, field.Required(path.Child("key"), ""))
	}
	return append(errs, invalidEach(path.Child("key"), key, validation.IsConfigMapKey(key))...)
}

func validateFileKeyRef(r *corev1.FileKeySelector, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, f := range [...]struct{ name, value string }{{"key", r.Key}, {"volumeName", r.VolumeName}, {"path", r.Path}} {
		if f.value == "" {
			errs = append(errs, field.Required(path.Child(f.name), ""))
		}
	}
	return append(errs, relativePath(r.Path, path.Child("path"))...)
}

func validateEnvFrom(sources []corev1.EnvFromSource, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range sources {
		s := &sources[i]
		all := path.Child("envFrom")
		at := all.Index(i)
		if s.Prefix != "" {
			errs = append(errs, invalidEach(at.Child("prefix"), s.Prefix, validation.IsRelaxedEnvVarName(s.Prefix))...)
		}
		if s.ConfigMapRef != nil {
			errs = append(errs, requiredName(s.ConfigMapRef.Name, at.Child("configMapRef", "name"))...)
		}
		if s.SecretRef != nil {
			errs = append(errs, requiredName(s.SecretRef.Name, at.Child("secretRef", "name"))...)
		}
		if s.ConfigMapRef == nil && s.SecretRef == nil {
			errs = append(errs, field.Invalid(all, "", "must specify one of: `configMapRef` or `secretRef`"))
		} else if s.ConfigMapRef != nil && s.SecretRef != nil {
			errs = append(errs, field.Invalid(all, "", "may not have more than one field specified at a time"))
		}
	}
	return errs
}

// requiredName requires the name of an object.
func requiredName(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return dnsSubdomain(name, path)
}
