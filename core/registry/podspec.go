package registry

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validatePodSpec returns what is wrong with the spec of a pod (isPod) or of a
// template. It expects the spec to be defaulted. Paths are made only where
// something is said, because this runs for each pod that is created.
func validatePodSpec(s *corev1.PodSpec, path *field.Path, isPod bool) field.ErrorList {
	var errs field.ErrorList
	if s.TerminationGracePeriodSeconds == nil {
		errs = append(errs, field.Required(path.Child("terminationGracePeriodSeconds"), ""))
	}
	errs = append(errs, validateVolumes(s.Volumes, path)...)
	errs = append(errs, validateContainers(s, path)...)
	errs = append(errs, validateInitContainers(s, path)...)
	errs = append(errs, validateEphemeralContainers(s, path)...)
	if s.HostNetwork {
		errs = append(errs, validateHostNetworkPorts(s.Containers, path.Child("containers"), isPod)...)
	}
	errs = append(errs, validatePodPolicies(s, path)...)
	if len(s.NodeSelector) > 0 {
		errs = append(errs, unversioned.ValidateLabels(s.NodeSelector, path.Child("nodeSelector"))...)
	}
	if s.SecurityContext != nil {
		errs = append(errs, validatePodSecurityContext(s, path.Child("securityContext"))...)
	}
	if s.Affinity != nil {
		errs = append(errs, validateAffinity(s.Affinity, path.Child("affinity"))...)
	}
	errs = append(errs, validateGates(s, path)...)
	errs = append(errs, validateSpreading(s.TopologySpreadConstraints, path)...)
	errs = append(errs, validatePodNames(s, path)...)
	if d := s.ActiveDeadlineSeconds; d != nil && (*d < 1 || *d > math.MaxInt32) {
		errs = append(errs, field.Invalid(path.Child("activeDeadlineSeconds"), *d, validation.InclusiveRangeError(1, math.MaxInt32)))
	}
	if len(s.Tolerations) > 0 {
		errs = append(errs, validateTolerations(s.Tolerations, path.Child("tolerations"))...)
	}
	errs = append(errs, validateDNS(s, path)...)
	return append(errs, validatePodResources(s, path)...)
}

// dnsLabel refuses what is no DNS label.
func dnsLabel(value string, path *field.Path) field.ErrorList {
	return invalidEach(path, value, validation.IsDNS1123Label(value))
}

func dnsSubdomain(value string, path *field.Path) field.ErrorList {
	return invalidEach(path, value, validation.IsDNS1123Subdomain(value))
}

func qualifiedName(value string, path *field.Path) field.ErrorList {
	return invalidEach(path, value, validation.IsQualifiedName(value))
}

// invalidEach makes an error of each message about value.
func invalidEach(path *field.Path, value any, messages []string) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range messages {
		errs = append(errs, field.Invalid(path, value, msg))
	}
	return errs
}

// oneOf refuses a value that is not among supported: an empty one as required.
func oneOf[T ~string](value T, path *field.Path, name string, supported ...T) field.ErrorList {
	if slices.Contains(supported, value) {
		return nil
	}
	if value == "" {
		return field.ErrorList{field.Required(path.Child(name), "")}
	}
	return field.ErrorList{field.NotSupported(path.Child(name), value, supported)}
}

func validatePodPolicies(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch s.RestartPolicy {
	case corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever:
	default:
		errs = append(errs, oneOf(s.RestartPolicy, path, "restartPolicy",
			corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)...)
	}
	switch s.DNSPolicy {
	case corev1.DNSClusterFirstWithHostNet, corev1.DNSClusterFirst, corev1.DNSDefault, corev1.DNSNone:
	default:
		errs = append(errs, oneOf(s.DNSPolicy, path, "dnsPolicy",
			corev1.DNSClusterFirstWithHostNet, corev1.DNSClusterFirst, corev1.DNSDefault, corev1.DNSNone)...)
	}
	if p := s.PreemptionPolicy; p != nil {
		errs = append(errs, oneOf(*p, path, "preemptionPolicy", corev1.PreemptLowerPriority, corev1.PreemptNever)...)
	}
	return errs
}

// validatePodNames checks the names of other objects, and the host's own.
func validatePodNames(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.ServiceAccountName != "" {
		errs = append(errs, dnsSubdomain(s.ServiceAccountName, path.Child("serviceAccountName"))...)
	}
	if s.NodeName != "" {
		errs = append(errs, dnsSubdomain(s.NodeName, path.Child("nodeName"))...)
	}
	if s.Hostname != "" {
		errs = append(errs, dnsLabel(s.Hostname, path.Child("hostname"))...)
	}
	if s.Subdomain != "" {
		errs = append(errs, dnsLabel(s.Subdomain, path.Child("subdomain"))...)
	}
	if s.PriorityClassName != "" {
		errs = append(errs, dnsSubdomain(s.PriorityClassName, path.Child("priorityClassName"))...)
	}
	if s.RuntimeClassName != nil {
		errs = append(errs, dnsSubdomain(*s.RuntimeClassName, path.Child("runtimeClassName"))...)
	}
	for i, alias := range s.HostAliases {
		at := path.Child("hostAliases").Index(i)
		errs = append(errs, ipAddress(alias.IP, at.Child("ip"))...)
		for j, name := range alias.Hostnames {
			errs = append(errs, dnsSubdomain(name, at.Child("hostnames").Index(j))...)
		}
	}
	return errs
}

func ipAddress(value string, path *field.Path) field.ErrorList {
	if _, err := netip.ParseAddr(value); err != nil {
		return field.ErrorList{field.Invalid(path, value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")}
	}
	return nil
}

func validateHostNetworkPorts(containers []corev1.Container, path *field.Path, isPod bool) field.ErrorList {
	var errs field.ErrorList
	for i := range containers {
		for j, port := range containers[i].Ports {
			if (isPod || port.HostPort != 0) && port.HostPort != port.ContainerPort {
				errs = append(errs, field.Invalid(path.Index(i).Child("ports").Index(j).Child("hostPort"), port.HostPort,
					"must match `containerPort` when `hostNetwork` is true"))
			}
		}
	}
	return errs
}

// validateGates checks readiness gates and scheduling gates.
func validateGates(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, gate := range s.ReadinessGates {
		errs = append(errs, qualifiedName(string(gate.ConditionType), path.Child("readinessGates").Index(i).Child("conditionType"))...)
	}
	seen := map[string]bool{}
	for i, gate := range s.SchedulingGates {
		at := path.Child("schedulingGates").Index(i)
		errs = append(errs, qualifiedName(gate.Name, at)...)
		if seen[gate.Name] {
			errs = append(errs, field.Duplicate(at, gate.Name))
		}
		seen[gate.Name] = true
	}
	return errs
}

func validateDNS(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	c := s.DNSConfig
	path = path.Child("dnsConfig")
	if s.DNSPolicy == corev1.DNSNone {
		if c == nil {
			return field.ErrorList{field.Required(path, "must provide `dnsConfig` when `dnsPolicy` is None")}
		}
		if len(c.Nameservers) == 0 {
			return field.ErrorList{field.Required(path.Child("nameservers"), "must provide at least one DNS nameserver when `dnsPolicy` is None")}
		}
	}
	if c == nil {
		return nil
	}
	var errs field.ErrorList
	if len(c.Nameservers) > maxNameservers {
		errs = append(errs, field.Invalid(path.Child("nameservers"), c.Nameservers, fmt.Sprintf("must not have more than %v nameservers", maxNameservers)))
	}
	for i, server := range c.Nameservers {
		errs = append(errs, ipAddress(server, path.Child("nameservers").Index(i))...)
	}
	if len(c.Searches) > maxSearchPaths {
		errs = append(errs, field.Invalid(path.Child("searches"), c.Searches, fmt.Sprintf("must not have more than %v search paths", maxSearchPaths)))
	}
	for i, search := range c.Searches {
		if search != "." {
			errs = append(errs, invalidEach(path.Child("searches").Index(i), search,
				validation.IsDNS1123SubdomainWithUnderscore(strings.TrimSuffix(search, ".")))...)
		}
	}
	for i, option := range c.Options {
		if option.Name == "" {
			errs = append(errs, field.Required(path.Child("options").Index(i), "must not be empty"))
		}
	}
	return errs
}

const (
	maxNameservers = 3
	maxSearchPaths = 32
)

// validatePodResources checks what is asked for the pod as a whole.
func validatePodResources(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.Resources != nil {
		at := path.Child("resources")
		if s.Resources.Claims != nil {
			errs = append(errs, field.Forbidden(at.Child("claims"), "claims cannot be set for Resources at pod-level"))
		}
		errs = append(errs, validateResources(s.Resources, at)...)
	}
	return append(errs, validateOverhead(s.Overhead, path.Child("overhead"))...)
}

// validateOverhead checks what a pod takes besides its containers.
func validateOverhead(overhead corev1.ResourceList, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, name := range sortedResources(overhead) {
		at := path.Key(string(name))
		errs = append(errs, validateContainerResourceName(name, at)...)
		errs = append(errs, validateQuantity(name, overhead[name], at)...)
	}
	return errs
}

// validateResources checks what is requested against what is allowed.
func validateResources(r *corev1.ResourceRequirements, path *field.Path) field.ErrorList {
	if len(r.Limits) == 0 && len(r.Requests) == 0 {
		return nil
	}
	var errs field.ErrorList
	limits, requests := path.Child("limits"), path.Child("requests")
	compute, huge := false, false
	note := func(name corev1.ResourceName) {
		compute = compute || name == corev1.ResourceCPU || name == corev1.ResourceMemory
		huge = huge || isHugePage(name)
	}
	for _, name := range sortedResources(r.Limits) {
		at := limits.Key(string(name))
		errs = append(errs, validateContainerResourceName(name, at)...)
		errs = append(errs, validateQuantity(name, r.Limits[name], at)...)
		note(name)
	}
	for _, name := range sortedResources(r.Requests) {
		at := requests.Key(string(name))
		request := r.Requests[name]
		errs = append(errs, validateContainerResourceName(name, at)...)
		errs = append(errs, validateQuantity(name, request, at)...)
		note(name)
		limit, limited := r.Limits[name]
		switch {
		case !limited:
			if !overcommit(name) {
				errs = append(errs, field.Required(limits, "Limit must be set for non overcommitable resources"))
			}
		case !overcommit(name) && request.Cmp(limit) != 0:
			errs = append(errs, field.Invalid(requests, request.String(), fmt.Sprintf("must be equal to %s limit of %s", name, limit.String())))
		case request.Cmp(limit) > 0:
			errs = append(errs, field.Invalid(requests, request.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String())))
		}
	}
	if huge && !compute {
		errs = append(errs, field.Forbidden(path, "HugePages require cpu or memory"))
	}
	return errs
}

// validatePodSecurityContext checks the numbers; what they mean is not
// honoured, and a warning says so.
func validatePodSecurityContext(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	c := s.SecurityContext
	var errs field.ErrorList
	errs = append(errs, validateUser(c.RunAsUser, c.RunAsGroup, path)...)
	if c.FSGroup != nil {
		errs = append(errs, invalidEach(path.Child("fsGroup"), *c.FSGroup, validation.IsValidGroupID(*c.FSGroup))...)
	}
	for i, g := range c.SupplementalGroups {
		errs = append(errs, invalidEach(path.Child("supplementalGroups").Index(i), g, validation.IsValidGroupID(g))...)
	}
	if isTrue(s.ShareProcessNamespace) && s.HostPID {
		errs = append(errs, field.Invalid(path.Child("shareProcessNamespace"), true, "ShareProcessNamespace and HostPID cannot both be enabled"))
	}
	return errs
}

func validateUser(user, group *int64, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if user != nil {
		errs = append(errs, invalidEach(path.Child("runAsUser"), *user, validation.IsValidUserID(*user))...)
	}
	if group != nil {
		errs = append(errs, invalidEach(path.Child("runAsGroup"), *group, validation.IsValidGroupID(*group))...)
	}
	return errs
}

// validatePod returns what is wrong with a new pod.
func validatePod(p *corev1.Pod) field.ErrorList {
	errs := validatePodAlways(p)
	if len(p.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(specPath.Child("ephemeralContainers"), "cannot be set on create"))
	}
	if p.Spec.NodeName != "" && len(p.Spec.SchedulingGates) > 0 {
		errs = append(errs, field.Forbidden(specPath.Child("nodeName"), "cannot be set until all schedulingGates have been cleared"))
	}
	return errs
}

// validatePodAlways is what holds for new and for changed pods.
func validatePodAlways(p *corev1.Pod) field.ErrorList {
	errs := apivalidation.ValidateObjectMeta(&p.ObjectMeta, true, apivalidation.NameIsDNSSubdomain, metadataPath)
	errs = append(errs, validatePodSpec(&p.Spec, specPath, true)...)
	for _, list := range [...]struct {
		name  string
		items []corev1.Container
	}{{"containers", p.Spec.Containers}, {"initContainers", p.Spec.InitContainers}} {
		for i := range list.items {
			if image := list.items[i].Image; len(image) != len(strings.TrimSpace(image)) {
				errs = append(errs, field.Invalid(specPath.Child(list.name).Index(i).Child("image"), image,
					"must not have leading or trailing whitespace"))
			}
		}
	}
	return errs
}
