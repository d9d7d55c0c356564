package nodelink

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestMergeNodeStatusTimes(t *testing.T) {
	early, now := metav1.NewTime(time.Unix(100, 0)), metav1.NewTime(time.Unix(200, 0))
	ready := func(status corev1.ConditionStatus, since metav1.Time) []corev1.NodeCondition {
		return []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status, Reason: "R", LastTransitionTime: since}}
	}
	cases := []struct {
		name        string
		before      []corev1.NodeCondition
		since       metav1.Time
		wantChanged bool
	}{
		{"new", nil, now, true},
		{"as it was", ready(corev1.ConditionTrue, early), early, false},
		{"other than it was", ready(corev1.ConditionUnknown, early), now, true},
		{"without a time since the node was created", ready(corev1.ConditionTrue, metav1.Time{}), now, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			status := corev1.NodeStatus{Conditions: c.before}
			seen := corev1.NodeStatus{Conditions: ready(corev1.ConditionTrue, metav1.Time{})}
			if changed := mergeNodeStatus(&status, seen, now); changed != c.wantChanged {
				t.Errorf("changed: %v", changed)
			}
			got := status.Conditions[0]
			if !got.LastTransitionTime.Equal(&c.since) || !got.LastHeartbeatTime.Equal(&now) {
				t.Errorf("got %+v", got)
			}
		})
	}
}
