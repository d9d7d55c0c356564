package job

import (
	"encoding/json"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
)

// count counts pods in the status and releases them, as many as a batch holds.
func (r *round) count() {
	failing := r.target != nil && r.target.Type == batchv1.JobFailureTarget
	for i := range r.views {
		v := &r.views[i]
		if !v.tracked || !r.releasable(v) {
			continue
		}
		if !r.take(v) {
			return
		}
		switch {
		case !v.valid:
		case v.succeeded:
			if !r.indexed { // an index counts once, however many pods had it
				r.status.Succeeded++
			}
		case (v.failed || failing) && !v.ignored:
			r.status.Failed++
		}
	}
}

// releasable says that nothing more is to be learned from the pod. What still
// runs of a Job that ends is not waited for.
func (r *round) releasable(v *view) bool {
	if r.job.DeletionTimestamp != nil || r.target != nil || v.succeeded {
		return true
	}
	return v.failed && (r.delayed == nil || r.delayed[v.index] != v)
}

// take releases a pod unless the batch is full.
func (r *round) take(v *view) bool {
	if r.taken >= batch {
		r.more = true
		return false
	}
	r.taken++
	r.release(v)
	return true
}

// release takes the tracking finalizer off a pod.
func (r *round) release(v *view) {
	pod := *v.pod // shallow: only the list of finalizers is replaced
	pod.Finalizers = untracked(pod.Finalizers)
	r.decision.Update = append(r.decision.Update, &pod)
	v.tracked = false
}

func untracked(finalizers []string) []string {
	return slices.DeleteFunc(slices.Clone(finalizers), func(f string) bool { return f == batchv1.JobTrackingFinalizer })
}

// releaseDisowned takes the finalizer off the pods of a deleted Job that
// garbage collection has disowned already.
func (r *round) releaseDisowned() {
	for _, object := range r.seen.Related {
		pod, ok := object.(*corev1.Pod)
		if !ok || metav1.GetControllerOfNoCopy(pod) != nil || !slices.Contains(pod.Finalizers, batchv1.JobTrackingFinalizer) {
			continue
		}
		if len(r.decision.Patches) == patchBatch {
			r.more = true
			return
		}
		r.decision.Patches = append(r.decision.Patches, core.RelatedPatch{
			Key:   core.KeyFor(core.Pods, pod),
			UID:   pod.UID,
			Patch: core.Patch{Type: types.MergePatchType, Data: finalizersPatch(pod)},
		})
	}
}

// finalizersPatch names the revision seen, so that it cannot undo what someone
// else did to the list.
func finalizersPatch(pod *corev1.Pod) []byte {
	data, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"finalizers": untracked(pod.Finalizers), "resourceVersion": pod.ResourceVersion,
	}})
	if err != nil {
		panic("encode strings: " + err.Error())
	}
	return data
}
