package deployment_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/workloads/replicaset"
)

func active(p *corev1.Pod) bool {
	return p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodFailed && p.Status.Phase != corev1.PodSucceeded
}

func (f *fixture) count() (all, ready int32) {
	for _, pod := range f.pods() {
		if !active(pod) {
			continue
		}
		all++
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				ready++
			}
		}
	}
	return all, ready
}

// disturb lets some controllers decide and some nodes work, in any order.
func (f *fixture) disturb(random *rand.Rand, failing bool) {
	f.Now = f.Now.Add(time.Duration(random.IntN(3000)) * time.Millisecond)
	for _, pod := range f.pods() {
		key := core.KeyFor(core.Pods, pod)
		switch n := random.IntN(8); {
		case pod.DeletionTimestamp != nil && n < 4:
			f.Stop(key)
		case !active(pod):
		case pod.Status.Phase == "" && n < 4:
			f.SetReady(key, !f.broken[pod.Spec.Containers[0].Image])
		case failing && n == 7 && random.IntN(4) == 0:
			f.Finish(key, 1)
		case failing && n == 6 && random.IntN(4) == 0:
			f.SetReady(key, false)
		}
	}
	for _, rs := range f.sets() {
		if random.IntN(2) == 0 {
			f.Decide(replicaset.New(), core.KeyFor(core.ReplicaSets, rs))
		}
	}
	if random.IntN(2) == 0 {
		f.decide()
	}
}

// TestRollOutsKeepTheirBounds checks that over any interleaving, with revisions
// that never become ready among them, a rolling update has never more than
// maxSurge pods too many, and never fewer available than it must.
func TestRollOutsKeepTheirBounds(t *testing.T) {
	for seed := range uint64(24) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 3))
			replicas := int32(1 + random.IntN(12))
			surge, unavailable := random.IntN(5), random.IntN(5)
			f := newFixture(t, newDeployment(replicas, steps(surge, unavailable)))
			if surge == 0 && unavailable == 0 {
				unavailable = 1
			}
			f.broken["bad"] = true
			f.settle()
			images := []string{"web:1", "web:2", "bad", "web:3"}
			for range 150 {
				if random.IntN(20) == 0 {
					f.setImage(images[random.IntN(len(images))])
				}
				f.disturb(random, false)
				all, ready := f.count()
				if all > replicas+int32(surge) {
					t.Fatalf("%d pods of %d, surge %d", all, replicas, surge)
				}
				if ready < replicas-int32(unavailable) {
					t.Fatalf("%d pods ready of %d, %d may be unavailable", ready, replicas, unavailable)
				}
			}
			f.setImage("web:4")
			f.settle()
			f.wantStatus(appsv1.DeploymentStatus{Replicas: replicas, UpdatedReplicas: replicas, ReadyReplicas: replicas, AvailableReplicas: replicas})
			f.wantSizes([]int32{replicas}, "web:4")
		})
	}
}

// TestRandomHistories checks that whatever happens, the last word is reached
// once faults stop, and that Recreate never runs two revisions.
func TestRandomHistories(t *testing.T) {
	for seed := range uint64(24) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 4))
			strategy := steps(random.IntN(4), random.IntN(4))
			if seed%3 == 0 {
				strategy = recreate
			}
			f := newFixture(t, newDeployment(int32(random.IntN(8)), strategy, func(s *appsv1.DeploymentSpec) { s.RevisionHistoryLimit = new(int32(2)) }))
			f.Refuse = func(string, core.Key) string {
				if random.IntN(6) == 0 {
					return "no luck"
				}
				return ""
			}
			f.Crash = func() bool { return random.IntN(12) == 0 }
			f.broken["bad"] = true
			images := []string{"web:1", "web:2", "web:3", "web:4", "bad"}
			for range 120 {
				switch random.IntN(25) {
				case 0, 1:
					f.setImage(images[random.IntN(len(images))])
				case 2:
					f.change(func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(random.IntN(8))) })
				case 3:
					f.change(func(d *appsv1.Deployment) { d.Spec.Paused = !d.Spec.Paused })
				}
				f.disturb(random, true)
				if seed%3 == 0 {
					f.wantOneRevision()
				}
			}
			f.Refuse, f.Crash = nil, nil
			f.change(func(d *appsv1.Deployment) { d.Spec.Paused = false })
			f.setImage("web:5")
			f.mend()
			f.settle()
			replicas := *f.d().Spec.Replicas
			f.wantStatus(appsv1.DeploymentStatus{Replicas: replicas, UpdatedReplicas: replicas, ReadyReplicas: replicas, AvailableReplicas: replicas})
			f.wantProgress("True", "NewReplicaSetAvailable", fmt.Sprintf("ReplicaSet %q has successfully progressed.", f.set("web:5").Name))
			if n := len(f.sets()); n > 3 {
				t.Errorf("%d replica sets are kept", n)
			}
		})
	}
}

// mend makes pods that had ceased to be ready so again.
func (f *fixture) mend() {
	for _, pod := range f.pods() {
		if active(pod) && pod.Status.Phase == corev1.PodRunning && !f.broken[pod.Spec.Containers[0].Image] {
			f.SetReady(core.KeyFor(core.Pods, pod), true)
		}
	}
}

func (f *fixture) wantOneRevision() {
	f.t.Helper()
	images := make(map[string]bool)
	for _, pod := range f.pods() {
		if pod.Status.Phase != corev1.PodFailed && pod.Status.Phase != corev1.PodSucceeded {
			images[pod.Spec.Containers[0].Image] = true
		}
	}
	if len(images) > 1 {
		f.t.Fatalf("pods of %v run at once", images)
	}
}

func TestPercentagesOfFewReplicasStillMove(t *testing.T) {
	f := newFixture(t, newDeployment(1, func(s *appsv1.DeploymentSpec) {
		s.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: new(intstr.FromString("0%")), MaxUnavailable: new(intstr.FromString("25%"))}
	}))
	f.settle()
	f.setImage("web:2")
	f.settle()
	f.wantSizes([]int32{0, 1}, "web:1", "web:2")
}

func BenchmarkDecide(b *testing.B) {
	f := newFixture(b, newDeployment(100))
	for i := range 11 {
		f.setImage(fmt.Sprintf("web:%d", i))
		f.settle()
	}
	seen := core.Observation{Now: f.Now, Parent: f.d()}
	for _, rs := range f.sets() {
		seen.Children = append(seen.Children, rs)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.c.Decide(b.Context(), seen); err != nil {
			b.Fatal(err)
		}
	}
}
