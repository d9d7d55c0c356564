package deployment

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/weftrun/weft/workloads"
)

func maxSurge(d *appsv1.Deployment) *intstr.IntOrString {
	if u := d.Spec.Strategy.RollingUpdate; u != nil {
		return u.MaxSurge
	}
	return quarter()
}

func maxUnavailable(d *appsv1.Deployment) *intstr.IntOrString {
	if u := d.Spec.Strategy.RollingUpdate; u != nil {
		return u.MaxUnavailable
	}
	return quarter()
}

// quarter is the default of both.
func quarter() *intstr.IntOrString {
	q := intstr.FromString("25%")
	return &q
}

// freshSize is how large the fresh ReplicaSet may be now: together with the
// others at most surge above what is wanted. Pods that an old one has yet to
// delete take up room, and one that does not know its size yet may have any
// number, so then there is none.
func (r *round) freshSize() int32 {
	if !r.rolling() {
		return r.replicas
	}
	size := r.fresh.size()
	room := r.replicas + r.surge
	for _, s := range r.sets {
		if !s.observed() && s != r.fresh {
			return size
		}
		room -= s.pods()
	}
	return size + max(0, min(room, r.replicas-size))
}

// growFresh brings the fresh ReplicaSet towards its final size. It returns
// whether it changed it; the old ones then wait for the next round.
func (r *round) growFresh() bool {
	if r.fresh.created {
		return true
	}
	if r.fresh.size() > r.replicas {
		return r.scale(r.fresh, r.replicas)
	}
	return r.scale(r.fresh, r.freshSize())
}

// shrinkOld takes from the old ReplicaSets what the rest can spare: first pods
// that are not available anyway, so that a broken revision does not block the
// one that mends it, then others.
func (r *round) shrinkOld() {
	least := r.replicas - r.unavailable
	// What the fresh ReplicaSet still lacks counts as lost.
	spare := sizes(r.sets) - least - (r.fresh.size() - r.fresh.available())
	if spare <= 0 {
		return
	}
	for _, s := range r.old {
		broken := min(s.size()-s.available(), spare)
		if broken > 0 {
			r.scale(s, s.size()-broken)
			spare -= broken
		}
	}
	var available int32
	for _, s := range r.sets {
		available += s.available()
	}
	for _, s := range r.old {
		surplus := min(s.size(), available-least)
		if surplus > 0 {
			r.scale(s, s.size()-surplus)
			available -= surplus
		}
	}
}

// recreate stops all old pods before it starts new ones.
func (r *round) recreate() error {
	for _, s := range r.old {
		r.scale(s, 0)
	}
	if r.othersRun(r.fresh) {
		r.syncRevision()
		return nil
	}
	if err := r.needFresh(); err != nil {
		return err
	}
	r.scale(r.fresh, r.replicas)
	return nil
}

// othersRun says that another ReplicaSet than that one (nil: any) has a pod
// that has not ended, or may yet create one. Pods that are being deleted run
// until they are gone.
func (r *round) othersRun(than *set) bool {
	for _, s := range r.sets {
		if s != than && (!s.observed() || s.size() > 0 || s.rs.Status.Replicas > 0) {
			return true
		}
	}
	for _, object := range r.seen.Related {
		pod, ok := object.(*corev1.Pod)
		if !ok || workloads.Finished(pod) {
			continue
		}
		owner := metav1.GetControllerOfNoCopy(pod)
		if owner != nil && (than == nil || owner.UID != than.rs.UID) && r.isOurs(owner, pod) {
			return true
		}
	}
	return false
}

// isOurs says that owner is a ReplicaSet of this Deployment. It may be gone,
// beyond the history limit, before its pods are.
func (r *round) isOurs(owner *metav1.OwnerReference, pod *corev1.Pod) bool {
	hash := pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey]
	return owner.Kind == "ReplicaSet" && hash != "" && owner.Name == r.d.Name+"-"+hash ||
		slices.ContainsFunc(r.sets, func(s *set) bool { return s.rs.UID == owner.UID })
}
