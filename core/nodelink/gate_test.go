package nodelink

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestBegin has a node be deleted and registered anew: its epochs begin anew,
// and what it observes must not pass for older than what it did before.
func TestBegin(t *testing.T) {
	h := &Hub{senders: map[string]*sender{}}
	before := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "1"}}
	after := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "2"}}
	current, ok := h.begin(before, 3, 7)
	if !ok || !current() {
		t.Fatal("the first batch is not the newest")
	}
	if _, ok := h.begin(before, 2, 8); ok {
		t.Error("a batch of an earlier epoch was taken")
	}
	if _, ok := h.begin(before, 3, 7); ok {
		t.Error("a batch was taken twice")
	}
	again, ok := h.begin(after, 1, 1)
	if !ok || !again() {
		t.Error("a batch of the node as it is registered now was not taken")
	}
	if current() {
		t.Error("a batch of the deleted node is still the newest")
	}
}
