package replicaset

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/workloads"
)

// batch bounds the pods that one decision creates or deletes, so that one
// large ReplicaSet neither makes a huge decision nor starves others.
const batch = 500

// Controller is the ReplicaSet controller. It is stateless and safe for
// concurrent use.
type Controller struct{}

var _ core.Controller = Controller{}

// New returns the controller.
func New() Controller { return Controller{} }

// Describe names ReplicaSet as the parent of pods, which it adopts.
func (Controller) Describe() core.Description {
	return core.Description{
		Name:     "replicaset",
		Kind:     appsv1.SchemeGroupVersion.WithKind("ReplicaSet"),
		Resource: core.ReplicaSets,
		Children: []core.Child{{
			Kind:     corev1.SchemeGroupVersion.WithKind("Pod"),
			Resource: core.Pods,
			Adopt:    true,
		}},
	}
}

// Relate needs nothing but the pods.
func (Controller) Relate(core.Object) []core.Relation { return nil }

// Decide creates the pods that are missing or deletes those too many, and
// counts what there is.
func (Controller) Decide(_ context.Context, seen core.Observation) (core.Decision, error) {
	rs, ok := seen.Parent.(*appsv1.ReplicaSet)
	if !ok {
		return core.Decision{}, fmt.Errorf("decide replicaset: parent is %T", seen.Parent)
	}
	r := round{seen: seen, rs: rs}
	r.count()
	if rs.DeletionTimestamp == nil {
		r.manage()
	}
	r.setStatus()
	r.notes.Failures(seen.Failures)
	r.decision.Events = r.notes.List()
	return r.decision, nil
}

// round is the making of one decision.
type round struct {
	seen     core.Observation
	rs       *appsv1.ReplicaSet
	active   []*corev1.Pod
	status   appsv1.ReplicaSetStatus
	notes    workloads.Notes
	decision core.Decision
}

// count makes the new status and finds the active pods.
func (r *round) count() {
	minReady := workloads.Seconds(r.rs.Spec.MinReadySeconds)
	var terminating int32
	var wait time.Duration
	r.active = make([]*corev1.Pod, 0, len(r.seen.Children))
	for _, child := range r.seen.Children {
		pod, ok := child.(*corev1.Pod)
		if !ok {
			continue
		}
		if !workloads.Active(pod) {
			if workloads.Terminating(pod) {
				terminating++
			}
			continue
		}
		r.active = append(r.active, pod)
		if hasLabels(pod.Labels, r.rs.Spec.Template.Labels) {
			r.status.FullyLabeledReplicas++
		}
		if !workloads.Ready(pod) {
			continue
		}
		r.status.ReadyReplicas++
		available, remains := workloads.Available(pod, minReady, r.seen.Now)
		if available {
			r.status.AvailableReplicas++
		}
		wait = workloads.Sooner(wait, remains)
	}
	r.status.Replicas = int32(len(r.active))
	r.status.TerminatingReplicas = &terminating
	r.status.ObservedGeneration = r.rs.Generation
	r.decision.RequeueAfter = wait
}

func hasLabels(labels, wanted map[string]string) bool {
	for k, v := range wanted {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// manage brings the active pods to the wanted number. What a batch leaves
// over is done in the round that the batch's own changes bring about.
func (r *round) manage() {
	missing := r.wanted() - len(r.active)
	switch {
	case missing > 0:
		r.create(min(missing, batch))
	case missing < 0:
		r.delete(min(-missing, batch))
	}
}

// wanted is spec.replicas, or 1 for an object that escaped defaulting.
func (r *round) wanted() int {
	if r.rs.Spec.Replicas == nil {
		return 1
	}
	return int(*r.rs.Spec.Replicas)
}

func (r *round) create(n int) {
	namer := workloads.NewNamer(r.seen)
	r.decision.Create = make([]core.Object, 0, n)
	for range n {
		pod := workloads.PodFromTemplate(r.rs.Namespace, &r.rs.Spec.Template)
		pod.GenerateName = r.rs.Name + "-"
		pod.Name = namer.Name(pod.GenerateName)
		r.decision.Create = append(r.decision.Create, pod)
		r.notes.Normal("SuccessfulCreate", "Created pod: %s", pod.Name)
	}
}

func (r *round) delete(n int) {
	for _, pod := range workloads.Surplus(r.active, n, r.seen.Now) {
		r.decision.Delete = append(r.decision.Delete, workloads.DeletePod(pod, "surplus"))
		r.notes.Normal("SuccessfulDelete", "Deleted pod: %s", pod.Name)
	}
}

func (r *round) setStatus() {
	r.status.Conditions = r.conditions()
	next := *r.rs // shallow: only the status is replaced
	next.Status = r.status
	r.decision.Status = &next
}
