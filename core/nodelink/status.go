package nodelink

import (
	"context"
	"fmt"
	"slices"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
)

// nodeConditions of a pod are those that its node writes.
var nodeConditions = []corev1.PodConditionType{
	corev1.PodReady, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReadyToStartContainers,
}

// mergePodStatus puts what a node observed into a pod's status, and leaves
// what others write: PodScheduled, DisruptionTarget, readiness gates. A pod that
// has ended does not run again, whatever a node says. dst then shares the
// memory of seen.
func mergePodStatus(dst, seen *corev1.PodStatus) {
	if terminal(dst.Phase) && !terminal(seen.Phase) {
		return
	}
	kept := slices.DeleteFunc(slices.Clone(dst.Conditions), func(c corev1.PodCondition) bool {
		return slices.Contains(nodeConditions, c.Type)
	})
	own := slices.DeleteFunc(slices.Clone(seen.Conditions), func(c corev1.PodCondition) bool {
		return !slices.Contains(nodeConditions, c.Type)
	})
	before := *dst
	*dst = *seen
	dst.Conditions = append(own, kept...)
	dst.QOSClass = before.QOSClass
	dst.NominatedNodeName = before.NominatedNodeName
	dst.ResourceClaimStatuses = before.ResourceClaimStatuses
	dst.Resize = before.Resize
	if terminal(before.Phase) {
		dst.Phase = before.Phase // the first verdict stands
	}
}

func terminal(phase corev1.PodPhase) bool {
	return phase == corev1.PodSucceeded || phase == corev1.PodFailed
}

// mergeNodeStatus puts what a node says of itself into its status, with now as
// the time of what changed, and tells whether anything but times differs.
func mergeNodeStatus(dst *corev1.NodeStatus, seen corev1.NodeStatus, now metav1.Time) bool {
	before := dst.DeepCopy()
	dst.Capacity, dst.Allocatable = seen.Capacity, seen.Allocatable
	dst.Addresses, dst.NodeInfo = seen.Addresses, seen.NodeInfo
	dst.RuntimeHandlers = seen.RuntimeHandlers
	changed := !equality.Semantic.DeepEqual(*before, *dst)
	for _, c := range seen.Conditions {
		i := slices.IndexFunc(dst.Conditions, func(o corev1.NodeCondition) bool { return o.Type == c.Type })
		c.LastHeartbeatTime = now
		c.LastTransitionTime = now
		if i < 0 {
			dst.Conditions = append(dst.Conditions, c)
			changed = true
			continue
		}
		old := dst.Conditions[i]
		if old.Status == c.Status && !old.LastTransitionTime.IsZero() {
			c.LastTransitionTime = old.LastTransitionTime
		}
		if old.Status != c.Status || old.Reason != c.Reason || old.Message != c.Message {
			changed = true
		}
		dst.Conditions[i] = c
	}
	return changed
}

// leaseSeconds is how long a node's Lease says that it is valid.
const leaseSeconds = 40

// renew keeps the node's Lease, which says when the node was last heard of.
func (h *Hub) renew(ctx context.Context, node string) error {
	key := core.Key{Group: core.Leases.Group, Resource: core.Leases.Resource, Namespace: corev1.NamespaceNodeLease, Name: node}
	now := metav1.NowMicro()
	_, err := h.config.Client.Mutate(ctx, key, func(o core.Object) error {
		lease, ok := o.(*coordinationv1.Lease)
		if !ok {
			return fmt.Errorf("%s is a %T", key, o)
		}
		lease.Spec.RenewTime = &now
		return nil
	}, core.WriteOptions{})
	if !apierrors.IsNotFound(err) {
		return err
	}
	seconds := int32(leaseSeconds)
	lease := &coordinationv1.Lease{
		TypeMeta:   metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"},
		ObjectMeta: metav1.ObjectMeta{Name: node, Namespace: corev1.NamespaceNodeLease},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &node, LeaseDurationSeconds: &seconds, RenewTime: &now},
	}
	if object, ok := h.config.Client.Snapshot().Get(core.Key{Resource: core.Nodes.Resource, Name: node}); ok {
		lease.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node, UID: object.GetUID()}}
	}
	_, err = h.config.Client.Create(ctx, lease, core.WriteOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}
