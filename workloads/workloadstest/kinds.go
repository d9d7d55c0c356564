package workloadstest

import (
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
)

func same(a, b core.Object) bool { return apiequality.Semantic.DeepEqual(a, b) }

func copyStatus(dst, src core.Object) {
	switch d := dst.(type) {
	case *appsv1.ReplicaSet:
		d.Status = *src.(*appsv1.ReplicaSet).Status.DeepCopy()
	case *appsv1.Deployment:
		d.Status = *src.(*appsv1.Deployment).Status.DeepCopy()
	case *batchv1.Job:
		d.Status = *src.(*batchv1.Job).Status.DeepCopy()
	}
}

func specChanged(old, object core.Object) bool {
	switch o := object.(type) {
	case *appsv1.ReplicaSet:
		return !apiequality.Semantic.DeepEqual(old.(*appsv1.ReplicaSet).Spec, o.Spec)
	case *batchv1.Job:
		return !apiequality.Semantic.DeepEqual(old.(*batchv1.Job).Spec, o.Spec)
	}
	return false
}

// Start binds and starts a pod without making it ready.
func (w *World) Start(key core.Key) {
	Change(w, key, false, func(pod *corev1.Pod) {
		pod.Spec.NodeName = "node"
		pod.Status.Phase = corev1.PodRunning
	})
}

// SetReady starts a pod if need be and sets its Ready condition.
func (w *World) SetReady(key core.Key, ready bool) {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	Change(w, key, false, func(pod *corev1.Pod) {
		pod.Spec.NodeName = "node"
		pod.Status.Phase = corev1.PodRunning
		pod.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.Time{Time: w.Now},
		}}
	})
}

// Finish ends a pod's only container with an exit code, now.
func (w *World) Finish(key core.Key, exitCode int32) {
	phase := corev1.PodSucceeded
	if exitCode != 0 {
		phase = corev1.PodFailed
	}
	Change(w, key, false, func(pod *corev1.Pod) {
		pod.Spec.NodeName = "node"
		pod.Status.Phase = phase
		pod.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.Time{Time: w.Now},
		}}
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: "main",
			State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
				ExitCode: exitCode, FinishedAt: metav1.Time{Time: w.Now},
			}},
		}}
		if pod.DeletionTimestamp != nil {
			pod.DeletionGracePeriodSeconds = new(int64)
		}
	})
}

// Template returns a pod template with one label and one container.
func Template(image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: image}}},
	}
}
