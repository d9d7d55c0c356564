package lifecycle

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
)

const nodeSource = "node-controller"

func nodeKey(name string) core.Key { return core.Key{Resource: core.Nodes.Resource, Name: name} }

func (l *Lifecycle) noticeNode(c *core.Change) {
	if c.Deleted {
		l.mu.Lock()
		delete(l.heard, c.Key.Name)
		l.mu.Unlock()
		for key := range l.client.Snapshot().Indexed(core.ByNode, c.Key.Name) {
			l.queue.add(task{reap, key}, reapAfter)
		}
		return
	}
	before, _ := c.Old.(*corev1.Node)
	node, ok := c.Object.(*corev1.Node)
	if !ok {
		return
	}
	snapshot := l.client.Snapshot()
	if newest, there := snapshot.Get(c.Key); there { // a past status is no sign of life
		if n, isNode := newest.(*corev1.Node); isNode {
			l.hear(n, snapshot)
		}
	}
	l.queue.add(task{watchOver, c.Key}, 0)
	if before == nil || !equality.Semantic.DeepEqual(before.Spec.Taints, node.Spec.Taints) {
		for key := range snapshot.Indexed(core.ByNode, node.Name) {
			l.queue.add(task{evict, key}, 0)
		}
	}
}

// noticeLease hears of a node: its Lease was renewed. What counts is when that
// was seen here, not what the node's clock says.
func (l *Lifecycle) noticeLease(c *core.Change) {
	if c.Deleted || c.Key.Namespace != corev1.NamespaceNodeLease {
		return
	}
	snapshot := l.client.Snapshot()
	o, _ := snapshot.Get(nodeKey(c.Key.Name))
	node, ok := o.(*corev1.Node)
	if ok && l.hear(node, snapshot) > l.config.NodeGrace {
		l.queue.add(task{watchOver, nodeKey(c.Key.Name)}, 0)
	}
}

// hear notes signs of life that a snapshot holds of a node: a renewed Lease,
// or a status that is known again. It returns how long the node had been
// silent before.
func (l *Lifecycle) hear(node *corev1.Node, snapshot core.Snapshot) time.Duration {
	now := sign{at: time.Now(), status: readiness(node)}
	lease, ok := snapshot.Get(core.Key{Group: core.Leases.Group, Resource: core.Leases.Resource, Namespace: corev1.NamespaceNodeLease, Name: node.Name})
	if ok {
		now.lease = core.Revision(lease)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	last, known := l.heard[node.Name]
	alive := !known || now.lease > last.lease || (now.status != last.status && now.status != corev1.ConditionUnknown)
	now.lease = max(now.lease, last.lease)
	silence := now.at.Sub(last.at)
	if !alive {
		now.at = last.at
	}
	l.heard[node.Name] = now
	if !known {
		return 0
	}
	return silence
}

// watchNode marks a node that is silent, and keeps the taints that follow from
// whether it is ready. It returns when to look again.
func (l *Lifecycle) watchNode(ctx context.Context, key core.Key) (time.Duration, error) {
	snapshot := l.client.Snapshot()
	object, ok := snapshot.Get(key)
	node, isNode := object.(*corev1.Node)
	if !ok || !isNode {
		return 0, nil
	}
	l.hear(node, snapshot)
	l.mu.Lock()
	left := time.Until(l.heard[key.Name].at.Add(l.config.NodeGrace))
	l.mu.Unlock()
	if left <= 0 && !allUnknown(node) {
		if err := l.markUnknown(ctx, key, node); err != nil {
			return 0, err
		}
		l.log.Warn("node is silent", "node", key.Name)
		l.config.Events.Event(nodeSource, reference(node), corev1.EventTypeNormal, "NodeNotReady", "Node "+key.Name+" status is now: NodeNotReady")
		if object, ok = l.client.Snapshot().Get(key); !ok {
			return 0, nil
		}
		if node, isNode = object.(*corev1.Node); !isNode {
			return 0, nil
		}
	}
	if err := l.keepTaints(ctx, key, node); err != nil {
		return 0, err
	}
	if left <= 0 {
		return l.config.NodeGrace, nil
	}
	return left + time.Millisecond, nil
}

// watched are the conditions that a silent node cannot vouch for.
var watched = []corev1.NodeConditionType{corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure}

func readiness(node *corev1.Node) corev1.ConditionStatus {
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.Type == corev1.NodeReady {
			return c.Status
		}
	}
	return corev1.ConditionUnknown
}

func allUnknown(node *corev1.Node) bool {
	found := 0
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; slices.Contains(watched, c.Type) {
			if c.Status != corev1.ConditionUnknown {
				return false
			}
			found++
		}
	}
	return found == len(watched)
}

func (l *Lifecycle) markUnknown(ctx context.Context, key core.Key, node *corev1.Node) error {
	return l.change(ctx, key, node.UID, "status", func(o core.Object) {
		n, ok := o.(*corev1.Node)
		if !ok {
			return
		}
		now := metav1.Now()
		for _, kind := range watched {
			i := slices.IndexFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == kind })
			if i < 0 {
				n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{
					Type: kind, Status: corev1.ConditionUnknown, Reason: "NodeStatusNeverUpdated",
					Message: "Kubelet never posted node status.", LastHeartbeatTime: n.CreationTimestamp, LastTransitionTime: now,
				})
				continue
			}
			if c := &n.Status.Conditions[i]; c.Status != corev1.ConditionUnknown {
				c.Status, c.Reason, c.Message = corev1.ConditionUnknown, "NodeStatusUnknown", "Kubelet stopped posting node status."
				c.LastTransitionTime = now
			}
		}
	})
}

// keepTaints makes the taints of readiness what the conditions say.
func (l *Lifecycle) keepTaints(ctx context.Context, key core.Key, node *corev1.Node) error {
	if equality.Semantic.DeepEqual(taintsOf(node, metav1.Time{}), node.Spec.Taints) {
		return nil
	}
	now := metav1.Now()
	return l.change(ctx, key, node.UID, "", func(o core.Object) {
		if n, ok := o.(*corev1.Node); ok {
			n.Spec.Taints = taintsOf(n, now)
		}
	})
}

// taintsOf returns the taints that a node should have: its own, and those of
// its conditions, whose time is kept if they are there already.
func taintsOf(node *corev1.Node, now metav1.Time) []corev1.Taint {
	var wanted []corev1.Taint
	want := func(key string, effect corev1.TaintEffect) {
		wanted = append(wanted, corev1.Taint{Key: key, Effect: effect})
	}
	switch readiness(node) {
	case corev1.ConditionTrue:
	case corev1.ConditionFalse:
		want(corev1.TaintNodeNotReady, corev1.TaintEffectNoSchedule)
		want(corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute)
	default:
		want(corev1.TaintNodeUnreachable, corev1.TaintEffectNoSchedule)
		want(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute)
	}
	for i := range node.Status.Conditions {
		c := &node.Status.Conditions[i]
		if key, ok := pressures[c.Type]; ok && c.Status == corev1.ConditionTrue {
			want(key, corev1.TaintEffectNoSchedule)
		}
	}
	if node.Spec.Unschedulable {
		want(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule)
	}
	var result []corev1.Taint
	for _, t := range node.Spec.Taints {
		at := slices.IndexFunc(wanted, func(w corev1.Taint) bool { return w.Key == t.Key && w.Effect == t.Effect })
		switch {
		case at >= 0:
			wanted = slices.Delete(wanted, at, at+1)
			result = append(result, t)
		case !ours(t):
			result = append(result, t)
		}
	}
	for _, w := range wanted {
		w.TimeAdded = &now
		result = append(result, w)
	}
	return result
}

var pressures = map[corev1.NodeConditionType]string{
	corev1.NodeMemoryPressure:     corev1.TaintNodeMemoryPressure,
	corev1.NodeDiskPressure:       corev1.TaintNodeDiskPressure,
	corev1.NodePIDPressure:        corev1.TaintNodePIDPressure,
	corev1.NodeNetworkUnavailable: corev1.TaintNodeNetworkUnavailable,
}

// ours tells whether a taint is one that follows from the node's state.
func ours(t corev1.Taint) bool {
	switch t.Key {
	case corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable:
		return t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
	case corev1.TaintNodeMemoryPressure, corev1.TaintNodeDiskPressure, corev1.TaintNodePIDPressure,
		corev1.TaintNodeNetworkUnavailable, corev1.TaintNodeUnschedulable:
		return t.Effect == corev1.TaintEffectNoSchedule
	default:
		return false
	}
}
