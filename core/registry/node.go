package registry

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftrun/weft/core"
)

func nodeStrategy() *Strategy {
	return typed[*corev1.Node]{
		kind: core.Kind{
			Kind: "Node", ListKind: "NodeList", Resource: core.Nodes.Resource, Singular: "node",
			ShortNames: []string{"no"}, Storage: "v1", Subresources: []string{"status"},
		},
		create:  func() *corev1.Node { return &corev1.Node{} },
		columns: nodeColumns(),
		cells:   nodeCells,
		fields: func(n *corev1.Node) map[string]string {
			return map[string]string{"spec.unschedulable": fmt.Sprint(n.Spec.Unschedulable)}
		},
		defaults:       defaultNode,
		prepareUpdate:  func(n, old *corev1.Node) { n.Status = old.Status },
		validate:       validateNode,
		validateUpdate: validateNodeUpdate,
		copyStatus:     func(dst, src *corev1.Node) { dst.Status = src.Status },
		validateStatus: func(n, old *corev1.Node) field.ErrorList {
			return append(validateMetaUpdate(&n.ObjectMeta, &old.ObjectMeta), validateNodeResources(n)...)
		},
	}.strategy()
}

func nodeColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		nameColumn(),
		column("Status", "string", "Whether the node is ready, and whether it takes new pods."),
		column("Roles", "string", "The node's roles, from its labels."),
		ageColumn(),
		column("Version", "string", "The version of the node's agent."),
		wide("Internal-IP", "string", "The node's address within the cluster."),
		wide("External-IP", "string", "The node's address from outside."),
		wide("OS-Image", "string", "The node's operating system."),
		wide("Kernel-Version", "string", "The node's kernel."),
		wide("Container-Runtime", "string", "What runs the node's containers."),
	}
}

func nodeCells(n *corev1.Node, now time.Time) []any {
	roles := strings.Join(nodeRoles(n), ",")
	info := &n.Status.NodeInfo
	return []any{
		n.Name, nodeStatus(n), orNone(roles), age(n.CreationTimestamp, now), info.KubeletVersion,
		nodeAddress(n, corev1.NodeInternalIP), nodeAddress(n, corev1.NodeExternalIP),
		orUnknown(info.OSImage), orUnknown(info.KernelVersion), orUnknown(info.ContainerRuntimeVersion),
	}
}

func nodeStatus(n *corev1.Node) string {
	status := "Unknown"
	for i := range n.Status.Conditions {
		c := &n.Status.Conditions[i]
		if c.Type != corev1.NodeReady {
			continue
		}
		status = "NotReady"
		if c.Status == corev1.ConditionTrue {
			status = "Ready"
		}
	}
	if n.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	return status
}

// nodeRoles reads the labels node-role.kubernetes.io/<role> and
// kubernetes.io/role=<role>.
func nodeRoles(n *corev1.Node) []string {
	var roles []string
	for k, v := range n.Labels {
		if role, ok := strings.CutPrefix(k, "node-role.kubernetes.io/"); ok && role != "" {
			roles = append(roles, role)
		} else if k == "kubernetes.io/role" && v != "" {
			roles = append(roles, v)
		}
	}
	slices.Sort(roles)
	return slices.Compact(roles)
}

func nodeAddress(n *corev1.Node, kind corev1.NodeAddressType) string {
	for _, a := range n.Status.Addresses {
		if a.Type == kind {
			return a.Address
		}
	}
	return none
}

func orUnknown(s string) string {
	if s == "" {
		return unknown
	}
	return s
}

func defaultNode(n *corev1.Node) {
	if n.Status.Allocatable == nil && n.Status.Capacity != nil {
		n.Status.Allocatable = n.Status.Capacity.DeepCopy()
	}
	roundResources(n.Status.Capacity)
	roundResources(n.Status.Allocatable)
}

func validateNode(n *corev1.Node) field.ErrorList {
	errs := validateClusterScoped(&n.ObjectMeta)
	errs = append(errs, validateTaints(n.Spec.Taints, specPath.Child("taints"))...)
	errs = append(errs, validateNodeResources(n)...)
	return append(errs, validatePodCIDRs(n)...)
}

func validateNodeResources(n *corev1.Node) field.ErrorList {
	var errs field.ErrorList
	for _, list := range []struct {
		name  string
		items corev1.ResourceList
	}{{"capacity", n.Status.Capacity}, {"allocatable", n.Status.Allocatable}} {
		for _, name := range sortedResources(list.items) {
			path := statusPath.Child(list.name).Key(string(name))
			errs = append(errs, validateResourceName(name, path)...)
			errs = append(errs, validateQuantity(name, list.items[name], path)...)
		}
	}
	return errs
}

func validatePodCIDRs(n *corev1.Node) field.ErrorList {
	var errs field.ErrorList
	path := specPath.Child("podCIDRs")
	for i, cidr := range n.Spec.PodCIDRs {
		if _, err := netip.ParsePrefix(cidr); err != nil {
			errs = append(errs, field.Invalid(path.Index(i), cidr, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"))
		}
	}
	return errs
}

func validateNodeUpdate(n, old *corev1.Node) field.ErrorList {
	errs := validateMetaUpdate(&n.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, validateNode(n)...)
	if old.Spec.PodCIDR != "" && n.Spec.PodCIDR != old.Spec.PodCIDR ||
		len(old.Spec.PodCIDRs) > 0 && !slices.Equal(n.Spec.PodCIDRs, old.Spec.PodCIDRs) {
		errs = append(errs, field.Forbidden(specPath.Child("podCIDRs"),
			"node updates may not change podCIDR except from \"\" to valid"))
	}
	if old.Spec.ProviderID != "" && n.Spec.ProviderID != old.Spec.ProviderID {
		errs = append(errs, field.Forbidden(specPath.Child("providerID"),
			"node updates may not change providerID except from \"\" to valid"))
	}
	if !equality.Semantic.DeepEqual(n.Spec.ConfigSource, old.Spec.ConfigSource) && n.Spec.ConfigSource != nil { //nolint:staticcheck // refused as Kubernetes refuses it
		errs = append(errs, field.Forbidden(specPath.Child("configSource"),
			"configSource may not be set; the DynamicKubeletConfig feature is removed"))
	}
	return errs
}

// validateTaints requires well-formed taints, unique by key and effect.
func validateTaints(taints []corev1.Taint, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i := range taints {
		t := &taints[i]
		at := path.Index(i)
		errs = append(errs, unversioned.ValidateLabelName(t.Key, at.Child("key"))...)
		for _, msg := range validation.IsValidLabelValue(t.Value) {
			errs = append(errs, field.Invalid(at.Child("value"), t.Value, msg))
		}
		errs = append(errs, validateTaintEffect(t.Effect, false, at.Child("effect"))...)
		id := string(t.Effect) + "\x00" + t.Key
		if t.Effect != "" && seen[id] {
			twice := field.Duplicate(at, *t)
			twice.Detail = "taints must be unique by key and effect pair"
			errs = append(errs, twice)
		}
		seen[id] = true
	}
	return errs
}

func validateTaintEffect(effect corev1.TaintEffect, allowEmpty bool, path *field.Path) field.ErrorList {
	switch effect {
	case corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute:
		return nil
	case "":
		if allowEmpty {
			return nil
		}
		return field.ErrorList{field.Required(path, "")}
	}
	return field.ErrorList{field.NotSupported(path, effect, []corev1.TaintEffect{
		corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute,
	})}
}
