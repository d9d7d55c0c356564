package registry

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// defaultPod fills a pod, including what a template leaves to its pods.
func defaultPod(p *corev1.Pod) {
	defaultPodSpec(&p.Spec)
	requestLimits(p.Spec.Containers)
	requestLimits(p.Spec.InitContainers)
	if r := p.Spec.Resources; r != nil {
		requestLimit(r)
	}
	if p.Spec.EnableServiceLinks == nil {
		p.Spec.EnableServiceLinks = new(bool(corev1.DefaultEnableServiceLinks))
	}
	if p.Spec.HostNetwork {
		defaultHostPorts(p.Spec.Containers)
		defaultHostPorts(p.Spec.InitContainers)
	}
}

// defaultTo sets what is the zero value.
func defaultTo[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// defaultNil sets a pointer that is nil to a new value.
func defaultNil[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}

// requestLimits makes the request for what is limited but not requested the
// limit.
func requestLimits(containers []corev1.Container) {
	for i := range containers {
		requestLimit(&containers[i].Resources)
	}
}

func requestLimit(r *corev1.ResourceRequirements) {
	if r.Limits == nil {
		return
	}
	if r.Requests == nil {
		r.Requests = make(corev1.ResourceList, len(r.Limits))
	}
	for name, limit := range r.Limits {
		if _, ok := r.Requests[name]; !ok {
			r.Requests[name] = limit.DeepCopy()
		}
	}
}

func defaultHostPorts(containers []corev1.Container) {
	for i := range containers {
		for j := range containers[i].Ports {
			port := &containers[i].Ports[j]
			defaultTo(&port.HostPort, port.ContainerPort)
		}
	}
}

// defaultPodSpec fills the spec of a pod or of a template.
func defaultPodSpec(s *corev1.PodSpec) {
	defaultTo(&s.DNSPolicy, corev1.DNSClusterFirst)
	defaultTo(&s.RestartPolicy, corev1.RestartPolicyAlways)
	defaultTo(&s.SchedulerName, corev1.DefaultSchedulerName)
	if s.SecurityContext == nil {
		s.SecurityContext = &corev1.PodSecurityContext{}
	}
	defaultNil(&s.TerminationGracePeriodSeconds, int64(corev1.DefaultTerminationGracePeriodSeconds))
	// serviceAccount is the old name of serviceAccountName; both are kept.
	defaultTo(&s.ServiceAccountName, s.DeprecatedServiceAccount)
	s.DeprecatedServiceAccount = s.ServiceAccountName
	roundResources(s.Overhead)
	if s.Resources != nil {
		roundResources(s.Resources.Limits)
		roundResources(s.Resources.Requests)
	}
	for i := range s.Volumes {
		defaultVolume(&s.Volumes[i])
	}
	for i := range s.InitContainers {
		defaultContainer(&s.InitContainers[i])
	}
	for i := range s.Containers {
		defaultContainer(&s.Containers[i])
	}
	for i := range s.EphemeralContainers {
		defaultContainer((*corev1.Container)(&s.EphemeralContainers[i].EphemeralContainerCommon))
	}
}

func defaultContainer(c *corev1.Container) {
	if c.ImagePullPolicy == "" {
		c.ImagePullPolicy = pullPolicy(c.Image)
	}
	defaultTo(&c.TerminationMessagePath, corev1.TerminationMessagePathDefault)
	defaultTo(&c.TerminationMessagePolicy, corev1.TerminationMessageReadFile)
	roundResources(c.Resources.Limits)
	roundResources(c.Resources.Requests)
	for i := range c.Ports {
		defaultTo(&c.Ports[i].Protocol, corev1.ProtocolTCP)
	}
	for i := range c.Env {
		if from := c.Env[i].ValueFrom; from != nil {
			defaultFieldRef(from.FieldRef)
			if from.FileKeyRef != nil {
				defaultNil(&from.FileKeyRef.Optional, false)
			}
		}
	}
	defaultProbe(c.LivenessProbe)
	defaultProbe(c.ReadinessProbe)
	defaultProbe(c.StartupProbe)
	if c.Lifecycle != nil {
		for _, h := range [...]*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
			if h != nil {
				defaultHTTPGet(h.HTTPGet)
			}
		}
	}
}

// pullPolicy is Always for an image that is tagged latest, be it by saying
// nothing. A file and a digest never change.
func pullPolicy(image string) corev1.PullPolicy {
	if image == "" || strings.HasPrefix(image, "file:") || strings.Contains(image, "@") {
		return corev1.PullIfNotPresent
	}
	last := image[strings.LastIndexByte(image, '/')+1:]
	if _, tag, tagged := strings.Cut(last, ":"); tagged && tag != "latest" {
		return corev1.PullIfNotPresent
	}
	return corev1.PullAlways
}

func defaultFieldRef(ref *corev1.ObjectFieldSelector) {
	if ref != nil {
		defaultTo(&ref.APIVersion, "v1")
	}
}

func defaultHTTPGet(h *corev1.HTTPGetAction) {
	if h != nil {
		defaultTo(&h.Path, "/")
		defaultTo(&h.Scheme, corev1.URISchemeHTTP)
	}
}

func defaultProbe(p *corev1.Probe) {
	if p == nil {
		return
	}
	defaultTo(&p.TimeoutSeconds, 1)
	defaultTo(&p.PeriodSeconds, 10)
	defaultTo(&p.SuccessThreshold, 1)
	defaultTo(&p.FailureThreshold, 3)
	defaultHTTPGet(p.HTTPGet)
	if p.GRPC != nil {
		defaultNil(&p.GRPC.Service, "")
	}
}

const defaultFileMode int32 = 0o644

func defaultVolume(v *corev1.Volume) {
	s := &v.VolumeSource
	switch {
	case *s == (corev1.VolumeSource{}):
		s.EmptyDir = &corev1.EmptyDirVolumeSource{}
	case s.Secret != nil:
		defaultNil(&s.Secret.DefaultMode, defaultFileMode)
	case s.ConfigMap != nil:
		defaultNil(&s.ConfigMap.DefaultMode, defaultFileMode)
	case s.DownwardAPI != nil:
		defaultNil(&s.DownwardAPI.DefaultMode, defaultFileMode)
		for i := range s.DownwardAPI.Items {
			defaultFieldRef(s.DownwardAPI.Items[i].FieldRef)
		}
	case s.Projected != nil:
		defaultProjected(s.Projected)
	case s.HostPath != nil:
		defaultNil(&s.HostPath.Type, corev1.HostPathUnset)
	case s.Image != nil:
		if s.Image.PullPolicy == "" {
			s.Image.PullPolicy = pullPolicy(s.Image.Reference)
		}
	case s.Ephemeral != nil && s.Ephemeral.VolumeClaimTemplate != nil:
		defaultNil(&s.Ephemeral.VolumeClaimTemplate.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)
	case s.ISCSI != nil:
		defaultTo(&s.ISCSI.ISCSIInterface, "default")
	}
}

func defaultProjected(p *corev1.ProjectedVolumeSource) {
	defaultNil(&p.DefaultMode, defaultFileMode)
	for i := range p.Sources {
		if token := p.Sources[i].ServiceAccountToken; token != nil {
			defaultNil(&token.ExpirationSeconds, 3600)
		}
		if d := p.Sources[i].DownwardAPI; d != nil {
			for j := range d.Items {
				defaultFieldRef(d.Items[j].FieldRef)
			}
		}
	}
}
