package registry

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// unhonoured is a field that is kept and has no effect. Whoever makes it work
// deletes its line.
type unhonoured[T any] struct {
	name string
	set  func(*T) bool
}

// unhonouredInPod are those of a pod's spec.
func unhonouredInPod() []unhonoured[corev1.PodSpec] {
	type S = corev1.PodSpec
	return []unhonoured[S]{
		{"volumes", func(s *S) bool { return len(s.Volumes) > 0 }},
		{"ephemeralContainers", func(s *S) bool { return len(s.EphemeralContainers) > 0 }},
		{"securityContext", func(s *S) bool {
			return s.SecurityContext != nil && !equality.Semantic.DeepEqual(*s.SecurityContext, corev1.PodSecurityContext{})
		}},
		{"hostNetwork", func(s *S) bool { return s.HostNetwork }},
		{"hostPID", func(s *S) bool { return s.HostPID }},
		{"hostIPC", func(s *S) bool { return s.HostIPC }},
		{"hostUsers", func(s *S) bool { return s.HostUsers != nil }},
		{"shareProcessNamespace", func(s *S) bool { return s.ShareProcessNamespace != nil }},
		{"affinity.podAffinity", func(s *S) bool { return s.Affinity != nil && s.Affinity.PodAffinity != nil }},
		{"affinity.podAntiAffinity", func(s *S) bool { return s.Affinity != nil && s.Affinity.PodAntiAffinity != nil }},
		{"topologySpreadConstraints", func(s *S) bool { return len(s.TopologySpreadConstraints) > 0 }},
		{"priorityClassName", func(s *S) bool { return s.PriorityClassName != "" }},
		{"preemptionPolicy", func(s *S) bool { return s.PreemptionPolicy != nil }},
		{"resources", func(s *S) bool { return s.Resources != nil }},
		{"resourceClaims", func(s *S) bool { return len(s.ResourceClaims) > 0 }},
		{"readinessGates", func(s *S) bool { return len(s.ReadinessGates) > 0 }},
		{"imagePullSecrets", func(s *S) bool { return len(s.ImagePullSecrets) > 0 }},
		{"subdomain", func(s *S) bool { return s.Subdomain != "" }},
		{"hostAliases", func(s *S) bool { return len(s.HostAliases) > 0 }},
		{"dnsConfig", func(s *S) bool { return s.DNSConfig != nil }},
		{"os", func(s *S) bool { return s.OS != nil }},
	}
}

// unhonouredInContainer are those of each of its containers.
func unhonouredInContainer() []unhonoured[corev1.Container] {
	type C = corev1.Container
	return []unhonoured[C]{
		{"ports", func(c *C) bool { return len(c.Ports) > 0 }},
		{"livenessProbe", func(c *C) bool { return c.LivenessProbe != nil }},
		{"readinessProbe", func(c *C) bool { return c.ReadinessProbe != nil }},
		{"startupProbe", func(c *C) bool { return c.StartupProbe != nil }},
		{"lifecycle", func(c *C) bool { return c.Lifecycle != nil }},
		{"securityContext", func(c *C) bool { return c.SecurityContext != nil }},
		{"volumeMounts", func(c *C) bool { return len(c.VolumeMounts) > 0 }},
		{"volumeDevices", func(c *C) bool { return len(c.VolumeDevices) > 0 }},
		{"workingDir", func(c *C) bool { return c.WorkingDir != "" }},
		{"stdin", func(c *C) bool { return c.Stdin }},
		{"tty", func(c *C) bool { return c.TTY }},
		{"resizePolicy", func(c *C) bool { return len(c.ResizePolicy) > 0 }},
		{"restartPolicy", func(c *C) bool { return c.RestartPolicy != nil }},
	}
}

var (
	podTable       = unhonouredInPod()
	containerTable = unhonouredInContainer()
)

func noEffect(path *field.Path) string {
	return path.String() + ": Weft does not honour this field yet; it is kept and has no effect"
}

// warnUnhonoured names what is set in object and is not honoured.
func warnUnhonoured[T any](table []unhonoured[T], object *T, path *field.Path, warnings []string) []string {
	for i := range table {
		if table[i].set(object) {
			warnings = append(warnings, noEffect(path.Child(table[i].name)))
		}
	}
	return warnings
}

// podSpecWarnings names each field of a pod's or template's spec that has no
// effect.
func podSpecWarnings(s *corev1.PodSpec, path *field.Path) []string {
	warnings := warnUnhonoured(podTable, s, path, nil)
	for i := range s.InitContainers {
		c := s.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			c.RestartPolicy = nil // a sidecar is honoured
		}
		warnings = warnUnhonoured(containerTable, &c, path.Child("initContainers").Index(i), warnings)
	}
	for i := range s.Containers {
		warnings = warnUnhonoured(containerTable, &s.Containers[i], path.Child("containers").Index(i), warnings)
	}
	return warnings
}

func podWarnings(p, old *corev1.Pod) []string {
	if old != nil && sameEncoding(&p.Spec, &old.Spec) {
		return nil
	}
	return podSpecWarnings(&p.Spec, specPath)
}
