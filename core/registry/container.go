package registry

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateContainers checks the regular containers, of which there must be
// one.
func validateContainers(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	path = path.Child("containers")
	if len(s.Containers) == 0 {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	for i := range s.Containers {
		c := &s.Containers[i]
		at := path.Index(i)
		errs = append(errs, validateContainer(c, s, at)...)
		if named(s.Containers[:i], c.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
		errs = append(errs, validateLifecycle(c.Lifecycle, s.TerminationGracePeriodSeconds, at)...)
		errs = append(errs, validateProbes(c, s.TerminationGracePeriodSeconds, at)...)
		if p := c.RestartPolicy; p != nil {
			errs = append(errs, oneOf(*p, at, "restartPolicy", corev1.ContainerRestartPolicyAlways,
				corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure)...)
		}
	}
	return append(errs, uniqueHostPorts(s.Containers, path)...)
}

// named tells whether a container is called name. Pods have few containers:
// looking is cheaper than a map.
func named(containers []corev1.Container, name string) bool {
	return slices.ContainsFunc(containers, func(c corev1.Container) bool { return c.Name == name })
}

func validateInitContainers(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	if len(s.InitContainers) == 0 {
		return nil
	}
	var errs field.ErrorList
	path = path.Child("initContainers")
	for i := range s.InitContainers {
		c := &s.InitContainers[i]
		at := path.Index(i)
		errs = append(errs, validateContainer(c, s, at)...)
		if p := c.RestartPolicy; p != nil {
			errs = append(errs, oneOf(*p, at, "restartPolicy", corev1.ContainerRestartPolicyAlways,
				corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure)...)
		}
		if c.Name != "" && (named(s.Containers, c.Name) || named(s.InitContainers[:i], c.Name)) {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
		errs = append(errs, uniqueHostPorts(s.InitContainers[i:i+1], path)...)
		if longLived(c) {
			errs = append(errs, validateLifecycle(c.Lifecycle, s.TerminationGracePeriodSeconds, at)...)
			errs = append(errs, validateProbes(c, s.TerminationGracePeriodSeconds, at)...)
			continue
		}
		for _, refused := range [...]struct {
			name string
			set  bool
		}{
			{"lifecycle", c.Lifecycle != nil},
			{"livenessProbe", c.LivenessProbe != nil},
			{"readinessProbe", c.ReadinessProbe != nil},
			{"startupProbe", c.StartupProbe != nil},
		} {
			if refused.set {
				errs = append(errs, field.Forbidden(at.Child(refused.name), "may not be set for init containers without restartPolicy=Always"))
			}
		}
	}
	return errs
}

func validateEphemeralContainers(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range s.EphemeralContainers {
		e := &s.EphemeralContainers[i]
		at := path.Child("ephemeralContainers").Index(i)
		errs = append(errs, validateContainer((*corev1.Container)(&e.EphemeralContainerCommon), s, at)...)
		taken := named(s.Containers, e.Name) || named(s.InitContainers, e.Name)
		for j := range s.EphemeralContainers[:i] {
			taken = taken || s.EphemeralContainers[j].Name == e.Name
		}
		if taken {
			errs = append(errs, field.Duplicate(at.Child("name"), e.Name))
		}
		if target := e.TargetContainerName; target != "" && !named(s.Containers, target) && !named(s.InitContainers, target) {
			errs = append(errs, field.NotFound(at.Child("targetContainerName"), target))
		}
	}
	return errs
}

// validateContainer checks what all kinds of containers share.
func validateContainer(c *corev1.Container, s *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if c.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	} else if msgs := validation.IsDNS1123Label(c.Name); len(msgs) > 0 {
		errs = append(errs, invalidEach(path.Child("name"), c.Name, msgs)...)
	}
	if c.Image == "" {
		errs = append(errs, field.Required(path.Child("image"), ""))
	}
	errs = append(errs, oneOf(c.TerminationMessagePolicy, path, "terminationMessagePolicy",
		corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError)...)
	errs = append(errs, validatePorts(c.Ports, path)...)
	errs = append(errs, validateEnv(c.Env, path)...)
	errs = append(errs, validateEnvFrom(c.EnvFrom, path)...)
	errs = append(errs, validateMounts(c, s.Volumes, path)...)
	errs = append(errs, oneOf(c.ImagePullPolicy, path, "imagePullPolicy", corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)...)
	if len(c.Resources.Limits) > 0 || len(c.Resources.Requests) > 0 {
		errs = append(errs, validateResources(&c.Resources, path.Child("resources"))...)
	}
	errs = append(errs, validateResizePolicy(c.ResizePolicy, s.RestartPolicy, path)...)
	return append(errs, validateSecurityContext(c.SecurityContext, path)...)
}

func validatePorts(ports []corev1.ContainerPort, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := map[string]bool{}
	for i := range ports {
		p := &ports[i]
		at := path.Child("ports").Index(i)
		if p.Name != "" {
			if msgs := validation.IsValidPortName(p.Name); len(msgs) > 0 {
				errs = append(errs, invalidEach(at.Child("name"), p.Name, msgs)...)
			} else if names[p.Name] {
				errs = append(errs, field.Duplicate(at.Child("name"), p.Name))
			}
			names[p.Name] = true
		}
		if p.ContainerPort == 0 {
			errs = append(errs, field.Required(at.Child("containerPort"), ""))
		} else {
			errs = append(errs, invalidEach(at.Child("containerPort"), p.ContainerPort, validation.IsValidPortNum(int(p.ContainerPort)))...)
		}
		if p.HostPort != 0 {
			errs = append(errs, invalidEach(at.Child("hostPort"), p.HostPort, validation.IsValidPortNum(int(p.HostPort)))...)
		}
		errs = append(errs, oneOf(p.Protocol, at, "protocol", corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP)...)
	}
	return errs
}

// uniqueHostPorts refuses a port of the host that is asked for twice.
func uniqueHostPorts(containers []corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	var seen map[string]bool
	for i := range containers {
		for j, p := range containers[i].Ports {
			if p.HostPort == 0 {
				continue
			}
			id := fmt.Sprintf("%s/%s/%d", p.Protocol, p.HostIP, p.HostPort)
			if seen[id] {
				errs = append(errs, field.Duplicate(path.Index(i).Child("ports").Index(j).Child("hostPort"), id))
			}
			if seen == nil {
				seen = map[string]bool{}
			}
			seen[id] = true
		}
	}
	return errs
}

func validateResizePolicy(policies []corev1.ContainerResizePolicy, restart corev1.RestartPolicy, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[corev1.ResourceName]bool{}
	for i, p := range policies {
		at := path.Child("resizePolicy")
		if seen[p.ResourceName] {
			errs = append(errs, field.Duplicate(at.Index(i), p.ResourceName))
		}
		seen[p.ResourceName] = true
		errs = append(errs, oneOf(p.ResourceName, path, "resizePolicy", corev1.ResourceCPU, corev1.ResourceMemory)...)
		errs = append(errs, oneOf(p.RestartPolicy, path, "resizePolicy", corev1.NotRequired, corev1.RestartContainer)...)
		if restart == corev1.RestartPolicyNever && p.RestartPolicy != corev1.NotRequired {
			errs = append(errs, field.Invalid(at, p.RestartPolicy, "must be 'NotRequired' when `restartPolicy` is 'Never'"))
		}
	}
	return errs
}

func validateSecurityContext(c *corev1.SecurityContext, path *field.Path) field.ErrorList {
	if c == nil {
		return nil
	}
	path = path.Child("securityContext")
	errs := validateUser(c.RunAsUser, c.RunAsGroup, path)
	if c.AllowPrivilegeEscalation != nil && !*c.AllowPrivilegeEscalation {
		if isTrue(c.Privileged) {
			errs = append(errs, field.Invalid(path, c, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"))
		}
		if c.Capabilities != nil && slices.Contains(c.Capabilities.Add, "CAP_SYS_ADMIN") {
			errs = append(errs, field.Invalid(path, c, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"))
		}
	}
	return errs
}
