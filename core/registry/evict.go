package registry

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/weftrun/weft/core"
)

// evict performs an Eviction: the pod is marked as disrupted and its deletion
// begins, in one record. It returns the pod.
func (r *Registry) evict(ctx context.Context, e *entry, key core.Key, body core.Object, o core.WriteOptions) (core.Object, error) {
	eviction, ok := body.(*policyv1.Eviction)
	if !ok || key.GroupResource() != core.Pods {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("evict %s: a policy/v1 Eviction of a pod is wanted, not a %s", key, body.GetObjectKind().GroupVersionKind()))
	}
	options := core.DeleteOptions{DryRun: o.DryRun}
	if d := eviction.DeleteOptions; d != nil {
		options.Preconditions, options.GracePeriodSeconds, options.Propagation = d.Preconditions, d.GracePeriodSeconds, d.PropagationPolicy
		options.DryRun = options.DryRun || len(d.DryRun) > 0
	}
	if err := validateDeletion(&options); err != nil {
		return nil, err
	}
	fixed := options.Preconditions != nil && options.Preconditions.ResourceVersion != nil
	pod, _, err := r.write(ctx, options.DryRun, fixed, func() (plan, error) {
		return r.planEviction(ctx, e, key, eviction, &options)
	})
	return pod, err
}

func (r *Registry) planEviction(ctx context.Context, e *entry, key core.Key, eviction *policyv1.Eviction, options *core.DeleteOptions) (plan, error) {
	old, ok := r.store.Latest(key)
	if !ok {
		return plan{}, apierrors.NewNotFound(e.resource, key.Name)
	}
	if err := e.preconditions(old, eviction); err != nil {
		return plan{}, err
	}
	if err := deletePreconditions(e, old, options.Preconditions); err != nil {
		return plan{}, err
	}
	t := &transaction{below: r.store, touched: map[core.Key]int{}}
	q := &request{WriteOptions: core.WriteOptions{Subresource: "status"}}
	p, err := r.planChange(ctx, t, e, key, q, func(old core.Object) (core.Object, error) {
		object := core.Copy(old)
		if pod, ok := object.(*corev1.Pod); ok && !podFinished(pod) && pod.DeletionTimestamp == nil {
			setPodCondition(&pod.Status, corev1.PodCondition{
				Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, LastTransitionTime: now(),
				ObservedGeneration: pod.Generation, Reason: "EvictionByEvictionAPI", Message: "Eviction API: evicting",
			})
		}
		return object, nil
	})
	if err != nil {
		return plan{}, err
	}
	t.add(p)
	if p, err = r.planDelete(ctx, t, e, key, &core.DeleteOptions{
		GracePeriodSeconds: options.GracePeriodSeconds, Propagation: options.Propagation,
	}); err != nil {
		return plan{}, err
	}
	t.add(p)
	return t.plans[0], nil
}
