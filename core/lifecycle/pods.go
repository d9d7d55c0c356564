package lifecycle

import (
	"context"
	"fmt"
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
)

const taintSource = "taint-eviction-controller"

// maxSeconds is what a time.Duration holds: 292 years.
const maxSeconds = int64(math.MaxInt64 / time.Second)

func (l *Lifecycle) noticePod(c *core.Change) {
	pod, ok := c.Object.(*corev1.Pod)
	if !ok || c.Deleted || pod.Spec.NodeName == "" {
		return
	}
	if before, _ := c.Old.(*corev1.Pod); before != nil && before.Spec.NodeName != "" {
		return // only its node's taints matter, and those are watched
	}
	o, exists := l.client.Snapshot().Get(nodeKey(pod.Spec.NodeName))
	if !exists {
		l.queue.add(task{reap, c.Key}, reapAfter)
		return
	}
	if node, ok := o.(*corev1.Node); ok && len(node.Spec.Taints) > 0 {
		l.queue.add(task{evict, c.Key}, 0)
	}
}

// evictPod deletes a pod that does not tolerate its node's taints, or not for
// so long. It returns when to look again.
func (l *Lifecycle) evictPod(ctx context.Context, key core.Key) (time.Duration, error) {
	snapshot := l.client.Snapshot()
	o, ok := snapshot.Get(key)
	pod, isPod := o.(*corev1.Pod)
	if !ok || !isPod || pod.DeletionTimestamp != nil {
		return 0, nil
	}
	o, ok = snapshot.Get(nodeKey(pod.Spec.NodeName))
	node, isNode := o.(*corev1.Node)
	if !ok || !isNode {
		return 0, nil
	}
	due, evicted := evictionTime(pod, node)
	if !evicted {
		return 0, nil
	}
	if left := time.Until(due); left > 0 {
		return left, nil
	}
	l.config.Events.Event(taintSource, reference(pod), corev1.EventTypeNormal, "TaintManagerEviction",
		fmt.Sprintf("Marking for deletion Pod %s/%s", pod.Namespace, pod.Name))
	err := l.disrupt(ctx, key, pod, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint", false)
	if err != nil {
		return 0, err
	}
	return 0, l.remove(ctx, key, pod, metav1.DeletePropagationBackground)
}

// evictionTime returns when a pod must leave a node, and false if it need not.
func evictionTime(pod *corev1.Pod, node *corev1.Node) (time.Time, bool) {
	var due time.Time
	must := false
	for i := range node.Spec.Taints {
		taint := &node.Spec.Taints[i]
		if taint.Effect != corev1.TaintEffectNoExecute {
			continue
		}
		patience, tolerated := tolerance(pod.Spec.Tolerations, taint)
		if tolerated && patience < 0 {
			continue
		}
		var at time.Time
		if tolerated {
			at = node.CreationTimestamp.Time
			if taint.TimeAdded != nil {
				at = taint.TimeAdded.Time
			}
			at = at.Add(patience)
		}
		if !must || at.Before(due) {
			due, must = at, true
		}
	}
	return due, must
}

// tolerance returns how long a taint is tolerated; negative is for ever.
func tolerance(tolerations []corev1.Toleration, taint *corev1.Taint) (time.Duration, bool) {
	patience, found := time.Duration(-1), false
	for i := range tolerations {
		t := &tolerations[i]
		if !tolerates(t, taint) {
			continue
		}
		found = true
		if t.TolerationSeconds == nil {
			continue
		}
		seconds := time.Duration(min(max(*t.TolerationSeconds, 0), maxSeconds)) * time.Second
		if patience < 0 || seconds < patience {
			patience = seconds
		}
	}
	return patience, found
}

func tolerates(t *corev1.Toleration, taint *corev1.Taint) bool {
	if (t.Effect != "" && t.Effect != taint.Effect) || (t.Key != "" && t.Key != taint.Key) {
		return false
	}
	return t.Operator == corev1.TolerationOpExists || ((t.Operator == "" || t.Operator == corev1.TolerationOpEqual) && t.Value == taint.Value)
}

// disrupt says on a pod why it goes; a pod that nobody can stop any more has
// failed.
func (l *Lifecycle) disrupt(ctx context.Context, key core.Key, pod *corev1.Pod, reason, message string, failed bool) error {
	return l.change(ctx, key, pod.UID, "status", func(o core.Object) {
		p, ok := o.(*corev1.Pod)
		if !ok {
			return
		}
		if failed && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
			p.Status.Phase = corev1.PodFailed
		}
		condition := corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason, Message: message,
			LastTransitionTime: metav1.Now(), ObservedGeneration: p.Generation,
		}
		for i := range p.Status.Conditions {
			if p.Status.Conditions[i].Type == corev1.DisruptionTarget {
				if p.Status.Conditions[i].Status != corev1.ConditionTrue {
					p.Status.Conditions[i] = condition
				}
				return
			}
		}
		p.Status.Conditions = append(p.Status.Conditions, condition)
	})
}

// reapPod removes a pod whose node is no longer there: whoever deleted the
// node vouches that nothing runs on it.
func (l *Lifecycle) reapPod(ctx context.Context, key core.Key) error {
	snapshot := l.client.Snapshot()
	o, ok := snapshot.Get(key)
	pod, isPod := o.(*corev1.Pod)
	if !ok || !isPod || pod.Spec.NodeName == "" {
		return nil
	}
	if _, there := snapshot.Get(nodeKey(pod.Spec.NodeName)); there {
		return nil
	}
	if err := l.disrupt(ctx, key, pod, "DeletionByPodGC", "PodGC: node no longer exists", true); err != nil {
		return err
	}
	return l.force(ctx, key, pod)
}

// force deletes a pod without waiting for a node.
func (l *Lifecycle) force(ctx context.Context, key core.Key, pod *corev1.Pod) error {
	_, _, err := l.client.Delete(ctx, key, core.DeleteOptions{
		Preconditions: metav1.NewUIDPreconditions(string(pod.UID)), GracePeriodSeconds: new(int64),
	})
	if err != nil {
		return fmt.Errorf("remove %s: %w", key, err)
	}
	return nil
}
