package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/weftrun/weft/core"
)

var (
	errOtherOverhead = errors.New("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
	errLoneOverhead  = errors.New("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
)

// AdmitRuntimeClass is Kubernetes' admission of the same name: a new pod's
// class must be there, and gives the pod its overhead, node selector and
// tolerations.
func AdmitRuntimeClass(_ context.Context, a *Attributes) error {
	if a.Operation != OperationCreate || a.Subresource != "" || a.Key.GroupResource() != core.Pods {
		return nil
	}
	pod, ok := a.Object.(*corev1.Pod)
	if !ok {
		return nil
	}
	if err := applyRuntimeClass(pod, a.Latest); err != nil {
		return apierrors.NewForbidden(core.Pods, a.Key.Name, err)
	}
	return nil
}

func applyRuntimeClass(pod *corev1.Pod, latest func(core.Key) (core.Object, bool)) error {
	class := &nodev1.RuntimeClass{}
	if name := pod.Spec.RuntimeClassName; name != nil {
		object, ok := latest(core.Key{Group: core.RuntimeClasses.Group, Resource: core.RuntimeClasses.Resource, Name: *name})
		found, is := object.(*nodev1.RuntimeClass)
		if !ok || !is {
			return fmt.Errorf("pod rejected: RuntimeClass %q not found", *name)
		}
		class = found
	}
	if class.Overhead == nil {
		if pod.Spec.Overhead != nil {
			return errLoneOverhead
		}
	} else {
		if pod.Spec.Overhead != nil && !equality.Semantic.DeepEqual(pod.Spec.Overhead, class.Overhead.PodFixed) {
			return errOtherOverhead
		}
		pod.Spec.Overhead = class.Overhead.PodFixed.DeepCopy()
	}
	if class.Scheduling == nil {
		return nil
	}
	selector := maps.Clone(class.Scheduling.NodeSelector)
	for key, value := range pod.Spec.NodeSelector {
		if other, ok := selector[key]; ok && other != value {
			return fmt.Errorf("conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", key, other, key, value)
		}
		if selector == nil {
			selector = map[string]string{}
		}
		selector[key] = value
	}
	pod.Spec.NodeSelector = selector
	pod.Spec.Tolerations = mergeTolerations(pod.Spec.Tolerations, class.Scheduling.Tolerations)
	return nil
}

// mergeTolerations joins two lists without what another of them covers.
func mergeTolerations(first, second []corev1.Toleration) []corev1.Toleration {
	all := append(append([]corev1.Toleration(nil), first...), second...)
	var merged []corev1.Toleration
	covered := func(i int) bool {
		for j := range merged {
			if coversToleration(&merged[j], &all[i]) {
				return true
			}
		}
		for j := i + 1; j < len(all); j++ {
			// Of two that are the same the first stays.
			if !equality.Semantic.DeepEqual(all[i], all[j]) && coversToleration(&all[j], &all[i]) {
				return true
			}
		}
		return false
	}
	for i := range all {
		if !covered(i) {
			merged = append(merged, *all[i].DeepCopy())
		}
	}
	return merged
}

// coversToleration tells whether a tolerates whatever b does.
func coversToleration(a, b *corev1.Toleration) bool {
	if equality.Semantic.DeepEqual(*a, *b) {
		return true
	}
	if b.Key != a.Key && (a.Key != "" || a.Operator != corev1.TolerationOpExists) {
		return false
	}
	if b.Effect != a.Effect && a.Effect != "" {
		return false
	}
	if a.Effect == corev1.TaintEffectNoExecute && a.TolerationSeconds != nil &&
		(b.TolerationSeconds == nil || *b.TolerationSeconds > *a.TolerationSeconds) {
		return false
	}
	if a.Operator == corev1.TolerationOpExists {
		return true
	}
	return b.Operator != corev1.TolerationOpExists && a.Value == b.Value
}
