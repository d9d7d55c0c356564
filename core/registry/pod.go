package registry

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftrun/weft/core"
)

func podStrategy() *Strategy {
	return typed[*corev1.Pod]{
		kind: core.Kind{
			Kind: "Pod", ListKind: "PodList", Resource: core.Pods.Resource, Singular: "pod",
			ShortNames: []string{"po"}, Categories: []string{"all"}, Namespaced: true, Storage: "v1",
			Subresources: []string{"binding", "eviction", "log", "status"},
		},
		create:         func() *corev1.Pod { return &corev1.Pod{} },
		columns:        podColumns(),
		cells:          podCells,
		fields:         podFields,
		defaults:       defaultPod,
		prepareCreate:  preparePod,
		prepareUpdate:  func(p, old *corev1.Pod) { p.Status = old.Status },
		validate:       validatePod,
		validateUpdate: validatePodUpdate,
		warnings:       podWarnings,
		copyStatus:     copyPodStatus,
		validateStatus: validatePodStatus,
		specChanged:    func(p, old *corev1.Pod) bool { return !sameEncoding(&p.Spec, &old.Spec) },
		subresources:   map[string]SubresourceFunc{"binding": bindPod},
		grace:          podGrace,
	}.strategy()
}

func podFields(p *corev1.Pod) map[string]string {
	ip := p.Status.PodIP
	if ip == "" && len(p.Status.PodIPs) > 0 {
		ip = p.Status.PodIPs[0].IP
	}
	return map[string]string{
		"spec.nodeName":            p.Spec.NodeName,
		"spec.restartPolicy":       string(p.Spec.RestartPolicy),
		"spec.schedulerName":       p.Spec.SchedulerName,
		"spec.serviceAccountName":  p.Spec.ServiceAccountName,
		"spec.hostNetwork":         fmt.Sprint(p.Spec.HostNetwork),
		"status.phase":             string(p.Status.Phase),
		"status.podIP":             ip,
		"status.nominatedNodeName": p.Status.NominatedNodeName,
	}
}

// evictionSeconds is how long a pod stays on a node that is not ready or not
// reachable, unless it says otherwise.
const evictionSeconds = 300

// preparePod starts a pod's life: pending, with its class of service known,
// and with the tolerations that bound its stay on a node in trouble.
func preparePod(p *corev1.Pod) {
	p.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: qosClass(&p.Spec)}
	if len(p.Spec.SchedulingGates) > 0 {
		p.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, LastTransitionTime: p.CreationTimestamp,
			Reason:             corev1.PodReasonSchedulingGated,
			Message:            "Scheduling is blocked due to non-empty scheduling gates",
			ObservedGeneration: p.Generation,
		}}
	}
	for _, key := range [...]string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		if toleratesNoExecute(p.Spec.Tolerations, key) {
			continue
		}
		seconds := int64(evictionSeconds)
		p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{
			Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds,
		})
	}
}

func toleratesNoExecute(tolerations []corev1.Toleration, key string) bool {
	for i := range tolerations {
		t := &tolerations[i]
		if (t.Key == key || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "") {
			return true
		}
	}
	return false
}

// podGrace is how long a pod that is being deleted may take to stop. One that
// no node runs goes at once.
func podGrace(p *corev1.Pod, requested *int64) int64 {
	if p.Spec.NodeName == "" || podFinished(p) {
		return 0
	}
	seconds := int64(0)
	switch {
	case requested != nil:
		seconds = *requested
	case p.Spec.TerminationGracePeriodSeconds != nil:
		seconds = *p.Spec.TerminationGracePeriodSeconds
	}
	if seconds < 0 {
		return 1
	}
	return seconds
}

func podFinished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// bindPod gives a pod its node.
func bindPod(_ context.Context, object, body core.Object) error {
	p, ok := object.(*corev1.Pod)
	if !ok {
		return fmt.Errorf("bind %T: not a pod", object)
	}
	b, ok := body.(*corev1.Binding)
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("bind pod %q: the body is a %T, a Binding is wanted", p.Name, body))
	}
	if errs := validateBinding(b); len(errs) > 0 {
		return apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Binding").GroupKind(), b.Name, errs)
	}
	if err := bindable(p); err != nil {
		return apierrors.NewConflict(core.GroupResource{Resource: "pods/binding"}, p.Name, err)
	}
	p.Spec.NodeName = b.Target.Name
	for k, v := range b.Annotations {
		if p.Annotations == nil {
			p.Annotations = map[string]string{}
		}
		p.Annotations[k] = v
	}
	setPodCondition(&p.Status, corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: now(), ObservedGeneration: p.Generation,
	})
	return nil
}

// bindable returns why a pod cannot be given a node.
func bindable(p *corev1.Pod) error {
	switch {
	case p.DeletionTimestamp != nil:
		return fmt.Errorf("pod %s is being deleted, cannot be assigned to a host", p.Name)
	case p.Spec.NodeName != "":
		return fmt.Errorf("pod %v is already assigned to node %q", p.Name, p.Spec.NodeName)
	case len(p.Spec.SchedulingGates) > 0:
		return fmt.Errorf("pod %v has non-empty .spec.schedulingGates", p.Name)
	}
	return nil
}

func validateBinding(b *corev1.Binding) field.ErrorList {
	var errs field.ErrorList
	target := field.NewPath("target")
	if b.Target.Kind != "" && b.Target.Kind != "Node" {
		errs = append(errs, field.NotSupported(target.Child("kind"), b.Target.Kind, []string{"Node", "<empty>"}))
	}
	if b.Target.Name == "" {
		errs = append(errs, field.Required(target.Child("name"), ""))
	}
	return errs
}

// setPodCondition replaces the condition of c's type, keeping the time of its
// last transition when its status stays.
func setPodCondition(status *corev1.PodStatus, c corev1.PodCondition) {
	for i := range status.Conditions {
		old := &status.Conditions[i]
		if old.Type != c.Type {
			continue
		}
		if old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
		*old = c
		return
	}
	status.Conditions = append(status.Conditions, c)
}

// qosClass is the pod's class of service, as its requests and limits make it.
func qosClass(spec *corev1.PodSpec) corev1.PodQOSClass {
	if r := spec.Resources; r != nil && (asksForCompute(r.Requests) || asksForCompute(r.Limits)) {
		if guaranteed(r.Requests, r.Limits) {
			return corev1.PodQOSGuaranteed
		}
		return corev1.PodQOSBurstable
	}
	asks, all := false, true
	for _, list := range [...][]corev1.Container{spec.Containers, spec.InitContainers} {
		for i := range list {
			r := &list[i].Resources
			asks = asks || asksForCompute(r.Requests) || asksForCompute(r.Limits)
			all = all && guaranteed(r.Requests, r.Limits)
		}
	}
	switch {
	case !asks:
		return corev1.PodQOSBestEffort
	case all:
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}

func asksForCompute(list corev1.ResourceList) bool {
	cpu, memory := list[corev1.ResourceCPU], list[corev1.ResourceMemory]
	return cpu.Sign() > 0 || memory.Sign() > 0
}

// guaranteed tells whether both cpu and memory are limited, and requested to
// the limit.
func guaranteed(requests, limits corev1.ResourceList) bool {
	for _, name := range [...]corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		limit := limits[name]
		if limit.Sign() <= 0 {
			return false
		}
		if request, ok := requests[name]; ok && !request.IsZero() && request.Cmp(limit) != 0 {
			return false
		}
	}
	return true
}

// podCondition returns the condition of a type, or nil.
func podCondition(p *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == kind {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}
