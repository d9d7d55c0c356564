package node

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/wasm"
)

// lookup returns a ConfigMap or Secret.
type lookup func(core.Key) (core.Object, bool)

// environment builds a container's environment as Kubernetes does: envFrom
// first, then env, whose values may refer to variables before them as $(NAME).
// The error is shown as CreateContainerConfigError. Beside HOSTNAME there is
// where the container hears that it should stop, which a pod can put elsewhere
// or, by an empty value, do without.
func environment(pod *corev1.Pod, c *corev1.Container, find lookup) (map[string]string, []string, error) {
	vars := map[string]string{"HOSTNAME": hostname(pod), wasm.StopVariable: wasm.StopFile}
	for i := range c.EnvFrom {
		if err := envFrom(vars, pod.Namespace, &c.EnvFrom[i], find); err != nil {
			return nil, nil, err
		}
	}
	for i := range c.Env {
		e := &c.Env[i]
		if e.ValueFrom == nil {
			vars[e.Name] = expand(e.Value, vars)
			continue
		}
		value, ok, err := valueFrom(pod, c, e.ValueFrom, find)
		if err != nil {
			return nil, nil, err
		}
		if ok {
			vars[e.Name] = value
		}
	}
	list := make([]string, 0, len(vars))
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		list = append(list, name+"="+vars[name])
	}
	return vars, list, nil
}

func hostname(pod *corev1.Pod) string {
	if pod.Spec.Hostname != "" {
		return pod.Spec.Hostname
	}
	return pod.Name
}

func envFrom(vars map[string]string, namespace string, from *corev1.EnvFromSource, find lookup) error {
	resource, name, optional := core.ConfigMaps, "", false
	switch {
	case from.ConfigMapRef != nil:
		name, optional = from.ConfigMapRef.Name, isTrue(from.ConfigMapRef.Optional)
	case from.SecretRef != nil:
		resource, name, optional = core.Secrets, from.SecretRef.Name, isTrue(from.SecretRef.Optional)
	default:
		return nil
	}
	data, ok := content(resource, namespace, name, find)
	if !ok && !optional {
		return fmt.Errorf("%s %q not found", singular(resource), name)
	}
	for key, value := range data {
		if len(validation.IsEnvVarName(from.Prefix+key)) == 0 {
			vars[from.Prefix+key] = value
		}
	}
	return nil
}

func valueFrom(pod *corev1.Pod, c *corev1.Container, from *corev1.EnvVarSource, find lookup) (value string, ok bool, err error) {
	switch {
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		return keyOf(core.ConfigMaps, pod.Namespace, ref.Name, ref.Key, isTrue(ref.Optional), find)
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		return keyOf(core.Secrets, pod.Namespace, ref.Name, ref.Key, isTrue(ref.Optional), find)
	case from.FieldRef != nil:
		value, err = field(pod, from.FieldRef.FieldPath)
		return value, err == nil, err
	case from.ResourceFieldRef != nil:
		value, err = resourceField(c, from.ResourceFieldRef)
		return value, err == nil, err
	}
	return "", false, nil
}

func keyOf(resource core.GroupResource, namespace, name, key string, optional bool, find lookup) (string, bool, error) {
	data, ok := content(resource, namespace, name, find)
	if !ok {
		if optional {
			return "", false, nil
		}
		return "", false, fmt.Errorf("%s %q not found", singular(resource), name)
	}
	value, ok := data[key]
	if !ok && !optional {
		return "", false, fmt.Errorf("couldn't find key %s in %s %s/%s", key, singular(resource), namespace, name)
	}
	return value, ok, nil
}

func singular(resource core.GroupResource) string { return strings.TrimSuffix(resource.Resource, "s") }

func content(resource core.GroupResource, namespace, name string, find lookup) (map[string]string, bool) {
	object, ok := find(core.Key{Resource: resource.Resource, Namespace: namespace, Name: name})
	if !ok {
		return nil, false
	}
	data := map[string]string{}
	switch o := object.(type) {
	case *corev1.ConfigMap:
		maps.Copy(data, o.Data)
	case *corev1.Secret:
		for key, value := range o.Data {
			data[key] = string(value)
		}
	}
	return data, true
}

func isTrue(b *bool) bool { return b != nil && *b }

// field resolves a downward API field path.
func field(pod *corev1.Pod, path string) (string, error) {
	if key, ok := subscript(path, "metadata.labels"); ok {
		return pod.Labels[key], nil
	}
	if key, ok := subscript(path, "metadata.annotations"); ok {
		return pod.Annotations[key], nil
	}
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.hostIP", "status.hostIPs":
		return pod.Status.HostIP, nil
	case "status.podIP", "status.podIPs":
		return pod.Status.PodIP, nil
	}
	return "", fmt.Errorf("unsupported fieldPath: %s", path)
}

func subscript(path, of string) (string, bool) {
	rest, ok := strings.CutPrefix(path, of+"['")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(rest, "']")
}

func resourceField(c *corev1.Container, ref *corev1.ResourceFieldSelector) (string, error) {
	where, name, ok := strings.Cut(ref.Resource, ".")
	list := c.Resources.Limits
	if where == "requests" {
		list = c.Resources.Requests
	}
	if !ok || (where != "limits" && where != "requests") {
		return "", fmt.Errorf("unsupported container resource: %s", ref.Resource)
	}
	q := list[corev1.ResourceName(name)]
	divisor := ref.Divisor.Value()
	if divisor <= 0 {
		divisor = 1
	}
	if name == string(corev1.ResourceCPU) {
		unit := max(ref.Divisor.MilliValue(), 0)
		if unit == 0 {
			unit = 1000
		}
		return fmt.Sprint((q.MilliValue() + unit - 1) / unit), nil
	}
	return fmt.Sprint((q.Value() + divisor - 1) / divisor), nil
}

// expand replaces $(NAME) by the variable's value if there is one; $$ stands
// for $.
func expand(text string, vars map[string]string) string {
	if !strings.Contains(text, "$") {
		return text
	}
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '$' || i+1 == len(text) {
			out.WriteByte(text[i])
			continue
		}
		if text[i+1] == '$' {
			out.WriteByte('$')
			i++
			continue
		}
		end := strings.IndexByte(text[i:], ')')
		if text[i+1] == '(' && end > 0 {
			if value, ok := vars[text[i+2:i+end]]; ok {
				out.WriteString(value)
				i += end
				continue
			}
		}
		out.WriteByte('$')
	}
	return out.String()
}

// arguments builds argv: the command, or the module's own name, and the args.
func arguments(c *corev1.Container, module string, vars map[string]string) []string {
	argv := make([]string, 0, len(c.Command)+len(c.Args)+1)
	for _, word := range c.Command {
		argv = append(argv, expand(word, vars))
	}
	if len(c.Command) == 0 {
		argv = append(argv, module)
	}
	for _, word := range c.Args {
		argv = append(argv, expand(word, vars))
	}
	return argv
}
