package main

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

func TestPasses(t *testing.T) {
	pod := func(name, node string, phase corev1.PodPhase) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{Phase: phase},
		}
	}
	seen := map[string]*passing{}
	see := passes(time.Now().Add(-time.Second), 2, seen, func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
	for i, event := range []struct {
		kind watch.EventType
		pod  *corev1.Pod
		done bool
	}{
		{watch.Added, pod("a", "", corev1.PodPending), false},
		{watch.Added, pod("b", "n", corev1.PodRunning), false},
		{watch.Modified, pod("b", "n", corev1.PodRunning), false}, // counts once
		{watch.Deleted, pod("c", "n", corev1.PodRunning), false},
		{watch.Modified, pod("a", "n", corev1.PodPending), false},
		{watch.Modified, pod("a", "n", corev1.PodRunning), true},
	} {
		if done := see(event.kind, event.pod); done != event.done {
			t.Errorf("event %d: done is %v", i, done)
		}
	}
	if len(seen) != 2 || seen["a"].added < time.Second || seen["a"].bound < seen["a"].added || seen["a"].over < seen["a"].bound {
		t.Errorf("seen: %v, of a %+v", len(seen), seen["a"])
	}
}

func TestBetween(t *testing.T) {
	if diff := cmp.Diff([]float64{1, 0, 3}, between([]float64{1, 5, 6, 7}, []float64{2, 4, 9})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]float64{1, 2, 2}, extend(extend([]float64{1}, 1, 5), 3, 2)); diff != "" {
		t.Error(diff)
	}
}

func TestPodText(t *testing.T) {
	text, err := podText()
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 1))
	a, b := fresh(text, random), fresh(text, random)
	if len(text) < 1500 || len(text) > 4000 || len(a) != len(text) || a == b || strings.Contains(a, randomMark) {
		t.Errorf("pods of %d bytes, made into\n%s\n%s", len(text), a, b)
	}
}
