package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
)

// lookAgain is how often a namespace that cannot be emptied is looked at when
// nothing in it changes.
const lookAgain = 5 * time.Second

// noticeNamespaced wakes a namespace that waits for what it holds to go.
func (l *Lifecycle) noticeNamespaced(namespace string) {
	key := core.Key{Resource: core.Namespaces.Resource, Name: namespace}
	if o, ok := l.client.Snapshot().Get(key); ok && o.GetDeletionTimestamp() != nil {
		l.queue.add(task{empty, key}, 10*time.Millisecond) // many go together
	}
}

// content is what a namespace still holds.
type content struct {
	kinds      map[string]int // by resource
	finalizers map[string]int
	failures   []error
}

// emptyNamespace deletes what a deleted namespace holds and, when nothing is
// left, lets it go.
func (l *Lifecycle) emptyNamespace(ctx context.Context, key core.Key) (time.Duration, error) {
	snapshot := l.client.Snapshot()
	object, ok := snapshot.Get(key)
	namespace, isNamespace := object.(*corev1.Namespace)
	if !ok || !isNamespace || namespace.DeletionTimestamp == nil || !slices.Contains(namespace.Spec.Finalizers, corev1.FinalizerKubernetes) {
		return 0, nil
	}
	left := l.deleteContent(ctx, snapshot, namespace.Name)
	if err := l.describeNamespace(ctx, key, namespace, left); err != nil {
		return 0, err
	}
	if len(left.failures) > 0 {
		return 0, errors.Join(left.failures...)
	}
	if len(left.kinds) > 0 {
		return lookAgain, nil
	}
	body := namespace.DeepCopy()
	body.ResourceVersion = "" // its status was just written
	body.Spec.Finalizers = slices.DeleteFunc(body.Spec.Finalizers, func(f corev1.FinalizerName) bool { return f == corev1.FinalizerKubernetes })
	if _, err := l.client.Update(ctx, key, body, core.WriteOptions{Subresource: "finalize"}); err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("finalize %s: %w", key, err)
	}
	return 0, nil
}

// deleteContent deletes all objects in a namespace and tells what has not gone
// at once.
func (l *Lifecycle) deleteContent(ctx context.Context, snapshot core.Snapshot, namespace string) content {
	left := content{kinds: map[string]int{}, finalizers: map[string]int{}}
	for kind := range l.client.Kinds() {
		if !kind.Namespaced {
			continue
		}
		for key, object := range snapshot.List(kind.GroupResource(), namespace) {
			l.deleteOne(ctx, key, object, &left)
		}
	}
	return left
}

func (l *Lifecycle) deleteOne(ctx context.Context, key core.Key, object core.Object, left *content) {
	live := true
	if object.GetDeletionTimestamp() == nil {
		last, remains, err := l.client.Delete(ctx, key, core.DeleteOptions{
			Preconditions: metav1.NewUIDPreconditions(string(object.GetUID())), Propagation: new(metav1.DeletePropagationBackground),
		})
		switch {
		case apierrors.IsNotFound(err):
			live = false
		case err != nil:
			left.failures = append(left.failures, fmt.Errorf("delete %s: %w", key, err))
		default:
			live, object = remains, last
		}
	}
	if !live {
		return
	}
	left.kinds[resourceName(key)]++
	for _, f := range object.GetFinalizers() {
		left.finalizers[f]++
	}
}

func resourceName(key core.Key) string {
	if key.Group == "" {
		return key.Resource + "."
	}
	return key.Resource + "." + key.Group
}

// describeNamespace writes the conditions that tell how far the emptying is,
// as Kubernetes words them.
func (l *Lifecycle) describeNamespace(ctx context.Context, key core.Key, namespace *corev1.Namespace, left content) error {
	wanted := conditionsOf(left)
	if !slices.ContainsFunc(wanted, func(c corev1.NamespaceCondition) bool { return differs(namespace, c) }) {
		return nil
	}
	err := l.change(ctx, key, namespace.UID, "status", func(o core.Object) {
		n, ok := o.(*corev1.Namespace)
		if !ok {
			return
		}
		n.Status.Phase = corev1.NamespaceTerminating
		for _, c := range wanted {
			setNamespaceCondition(n, c)
		}
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func conditionsOf(left content) []corev1.NamespaceCondition {
	no := func(kind corev1.NamespaceConditionType, reason, message string) corev1.NamespaceCondition {
		return corev1.NamespaceCondition{Type: kind, Status: corev1.ConditionFalse, Reason: reason, Message: message}
	}
	list := []corev1.NamespaceCondition{
		no(corev1.NamespaceDeletionDiscoveryFailure, "ResourcesDiscovered", "All resources successfully discovered"),
		no(corev1.NamespaceDeletionGVParsingFailure, "ParsedGroupVersions", "All legacy kube types successfully parsed"),
		no(corev1.NamespaceDeletionContentFailure, "ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
		no(corev1.NamespaceContentRemaining, "ContentRemoved", "All content successfully removed"),
		no(corev1.NamespaceFinalizersRemaining, "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
	}
	if len(left.failures) > 0 {
		list[2].Status, list[2].Reason, list[2].Message = corev1.ConditionTrue, "ContentDeletionFailed",
			"Failed to delete all resource types, "+fmt.Sprint(len(left.failures))+" remaining: "+left.failures[0].Error()
	}
	if len(left.kinds) > 0 {
		list[3].Status, list[3].Reason = corev1.ConditionTrue, "SomeResourcesRemain"
		list[3].Message = "Some resources are remaining: " + count(left.kinds, "%s has %d resource instances")
	}
	if len(left.finalizers) > 0 {
		list[4].Status, list[4].Reason = corev1.ConditionTrue, "SomeFinalizersRemain"
		list[4].Message = "Some content in the namespace has finalizers remaining: " + count(left.finalizers, "%s in %d resource instances")
	}
	return list
}

func count(m map[string]int, format string) string {
	parts := make([]string, 0, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf(format, name, m[name]))
	}
	return strings.Join(parts, ", ")
}

func differs(n *corev1.Namespace, c corev1.NamespaceCondition) bool {
	return !slices.ContainsFunc(n.Status.Conditions, func(is corev1.NamespaceCondition) bool {
		return is.Type == c.Type && is.Status == c.Status && is.Reason == c.Reason && is.Message == c.Message
	})
}

func setNamespaceCondition(n *corev1.Namespace, c corev1.NamespaceCondition) {
	c.LastTransitionTime = metav1.Now()
	for i := range n.Status.Conditions {
		if is := &n.Status.Conditions[i]; is.Type == c.Type {
			if is.Status == c.Status {
				c.LastTransitionTime = is.LastTransitionTime
			}
			*is = c
			return
		}
	}
	n.Status.Conditions = append(n.Status.Conditions, c)
}
