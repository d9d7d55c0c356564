package job_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/workloads/workloadstest"
)

// history is a random life of a Job: pods start, end and are deleted, creates
// are refused and the core dies between a decision's record and its effects.
type history struct {
	*fixture
	random *rand.Rand
	// succeeded and failed are the tracked pods that ended so.
	succeeded, failed map[types.UID]bool
	indexes           map[string]bool
}

func newHistory(t *testing.T, seed uint64, change ...func(*batchv1.JobSpec)) *history {
	random := rand.New(rand.NewPCG(seed, 2))
	completions := int32(random.IntN(25))
	change = append(change, func(s *batchv1.JobSpec) { s.BackoffLimit = new(int32(100000)) })
	h := &history{
		fixture: newFixture(t, newJob(int32(1+random.IntN(8)), &completions, change...)), random: random,
		succeeded: make(map[types.UID]bool), failed: make(map[types.UID]bool), indexes: make(map[string]bool),
	}
	h.Refuse = func(string, core.Key) string {
		if random.IntN(6) == 0 {
			return "no luck"
		}
		return ""
	}
	h.Crash = func() bool { return random.IntN(12) == 0 }
	return h
}

func (h *history) disturb(failing bool) {
	h.pass(time.Duration(h.random.IntN(20000)) * time.Millisecond)
	for _, pod := range h.pods() {
		key := core.KeyFor(core.Pods, pod)
		ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		switch n := h.random.IntN(10); {
		case ended && n == 0 && failing:
			h.Delete(key)
		case ended:
		case pod.DeletionTimestamp != nil && n < 5:
			h.end(pod, 1)
		case n < 2:
			h.SetReady(key, n == 0)
		case n < 5:
			h.end(pod, 0)
		case n == 5 && failing:
			h.end(pod, 1)
		case n == 6 && failing:
			h.Delete(key)
		}
	}
}

// end ends a pod and notes it if it is still to be counted.
func (h *history) end(pod *corev1.Pod, code int32) {
	if tracked(pod) {
		if code == 0 {
			h.succeeded[pod.UID] = true
			h.indexes[pod.Annotations[batchv1.JobCompletionIndexAnnotation]] = true
		} else {
			h.failed[pod.UID] = true
		}
	}
	h.Finish(core.KeyFor(core.Pods, pod), code)
}

func (h *history) check() {
	h.t.Helper()
	var running int32
	for _, pod := range h.pods() {
		if active(pod) {
			running++
		}
	}
	s := h.job().Status
	if limit := *h.job().Spec.Parallelism; running > limit {
		h.t.Fatalf("%d pods are active, parallelism is %d", running, limit)
	}
	if s.Succeeded > int32(len(h.succeeded)) {
		h.t.Fatalf("%d successes are counted, %d happened", s.Succeeded, len(h.succeeded))
	}
	if s.Succeeded > *h.job().Spec.Completions {
		h.t.Fatalf("%d successes are counted, %d are wanted", s.Succeeded, *h.job().Spec.Completions)
	}
	if u := s.UncountedTerminatedPods; u != nil && len(u.Succeeded)+len(u.Failed) > 0 {
		h.t.Fatalf("uncounted pods: %+v", u)
	}
}

func (h *history) finished() bool {
	for _, c := range h.job().Status.Conditions {
		if c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed {
			return true
		}
	}
	return false
}

// calm runs without faults until the Job is complete.
func (h *history) calm() {
	h.t.Helper()
	h.Refuse, h.Crash = nil, nil
	for range 300 {
		if h.finished() {
			return
		}
		h.pass(time.Minute)
		h.disturb(false)
		h.decide()
		h.check()
	}
	h.t.Fatalf("no end: %+v", h.job().Status)
}

func TestRandomHistories(t *testing.T) {
	for seed := range uint64(80) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			var change []func(*batchv1.JobSpec)
			if seed%2 == 1 {
				change = append(change, indexed)
			}
			if seed%3 == 1 {
				change = append(change, func(s *batchv1.JobSpec) { s.PodReplacementPolicy = new(batchv1.Failed) })
			}
			if seed%4 == 3 {
				change = append(change, func(s *batchv1.JobSpec) { s.BackoffLimitPerIndex = new(int32(100000)) })
			}
			h := newHistory(t, seed, change...)
			for range 60 {
				h.disturb(true)
				if h.random.IntN(10) == 0 && !h.finished() {
					workloadstest.Change(h.World, h.key, true, func(j *batchv1.Job) { j.Spec.Suspend = new(!value(j.Spec.Suspend)) })
					if *h.job().Spec.Suspend {
						h.Crash = nil // below, no pod may outlive a suspension's decision
						h.Refuse = nil
					}
				}
				h.decide()
				h.check()
			}
			if !h.finished() {
				workloadstest.Change(h.World, h.key, true, func(j *batchv1.Job) { j.Spec.Suspend = nil })
			}
			h.calm()
			s, wanted := h.job().Status, *h.job().Spec.Completions
			counted := len(h.succeeded)
			if value(h.job().Spec.CompletionMode) == batchv1.IndexedCompletion {
				counted = len(h.indexes)
			}
			if s.Succeeded != wanted || counted != int(wanted) {
				t.Errorf("%d counted, %d succeeded, %d wanted", s.Succeeded, counted, wanted)
			}
			h.wantNoneTracked()
		})
	}
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// TestRandomDeletions checks that no pod stays stuck whenever its Job goes.
func TestRandomDeletions(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			h := newHistory(t, seed)
			for range h.random.IntN(20) {
				h.disturb(true)
				h.decide()
			}
			h.Delete(h.key)
			for range 3 {
				if h.job() != nil {
					h.decide()
				}
			}
			if h.job() != nil {
				t.Fatalf("the job stays: %v", h.job().Finalizers)
			}
			for _, pod := range h.pods() {
				if tracked(pod) {
					t.Errorf("pod %s is stuck", pod.Name)
				}
			}
		})
	}
}

func benchmarkObservation(n int, state func(i int, p *corev1.Pod), change ...func(*batchv1.JobSpec)) core.Observation {
	j := newJob(int32(n), new(int32(n)), change...)
	j.Finalizers = []string{"batch/job-tracking"}
	seen := core.Observation{Now: time.Unix(1e9, 0), Seed: 1, Parent: j}
	for i := range n {
		pod := &corev1.Pod{Spec: corev1.PodSpec{NodeName: "node"}}
		pod.Name, pod.UID, pod.ResourceVersion = fmt.Sprintf("pi-%05d", i), types.UID(fmt.Sprint(i)), "1"
		pod.Finalizers = []string{batchv1.JobTrackingFinalizer}
		pod.Annotations = map[string]string{batchv1.JobCompletionIndexAnnotation: fmt.Sprint(i)}
		pod.Status.Phase = corev1.PodRunning
		state(i, pod)
		seen.Children = append(seen.Children, pod)
	}
	return seen
}

func BenchmarkDecide(b *testing.B) {
	running := func(int, *corev1.Pod) {}
	ended := func(_ int, p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }
	counted := func(_ int, p *corev1.Pod) { p.Status.Phase, p.Finalizers = corev1.PodSucceeded, nil }
	midway := func(i int, p *corev1.Pod) {
		switch {
		case i%10 > 0:
			counted(i, p)
		case i%100 == 0:
			ended(i, p)
		}
	}
	for _, n := range []int{1000, 5000} {
		for _, c := range []struct {
			name   string
			state  func(int, *corev1.Pod)
			change []func(*batchv1.JobSpec)
		}{
			{"running", running, nil}, {"ended", ended, nil}, {"midway", midway, nil},
			{"indexed-running", running, []func(*batchv1.JobSpec){indexed}},
			{"indexed-ended", ended, []func(*batchv1.JobSpec){indexed}},
		} {
			seen := benchmarkObservation(n, c.state, c.change...)
			f := newFixture(b, newJob(1, nil))
			b.Run(fmt.Sprintf("%d/%s", n, c.name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := f.c.Decide(b.Context(), seen); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
