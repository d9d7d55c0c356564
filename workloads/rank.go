package workloads

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// rank is what decides when a pod is given up, read once for each pod so that
// sorting thousands does not parse annotations n log n times.
type rank struct {
	pod      *corev1.Pod
	assigned bool
	phase    int
	ready    bool
	cost     int32
	doubled  int // pods of the same parent on the same node
	readyAt  time.Time
	restarts int32
}

// Surplus returns the n pods of active to delete first, in Kubernetes' order:
// unassigned before assigned, Pending before Unknown before Running, not ready
// before ready, lower deletion cost, more of the same parent on its node, more
// recently ready, more restarts, younger. Ages are compared by magnitude
// (powers of two), so that no one creation time is drained first.
func Surplus(active []*corev1.Pod, n int, now time.Time) []*corev1.Pod {
	if n <= 0 {
		return nil
	}
	if n >= len(active) {
		return slices.Clone(active)
	}
	ranks := rankAll(active)
	slices.SortFunc(ranks, func(a, b rank) int { return a.compare(&b, now) })
	chosen := make([]*corev1.Pod, n)
	for i := range chosen {
		chosen[i] = ranks[i].pod
	}
	return chosen
}

func rankAll(pods []*corev1.Pod) []rank {
	onNode := make(map[string]int)
	for _, pod := range pods {
		onNode[pod.Spec.NodeName]++
	}
	ranks := make([]rank, len(pods))
	for i, pod := range pods {
		ranks[i] = rank{
			pod:      pod,
			assigned: pod.Spec.NodeName != "",
			phase:    phaseOrder(pod.Status.Phase),
			cost:     deletionCost(pod),
			restarts: mostRestarts(pod),
		}
		if ranks[i].assigned {
			ranks[i].doubled = onNode[pod.Spec.NodeName]
		}
		if c := Condition(pod, corev1.PodReady); c != nil && c.Status == corev1.ConditionTrue {
			ranks[i].ready, ranks[i].readyAt = true, c.LastTransitionTime.Time
		}
	}
	return ranks
}

func (r *rank) compare(o *rank, now time.Time) int {
	c := cmp.Or(
		compareBool(r.assigned, o.assigned),
		cmp.Compare(r.phase, o.phase),
		compareBool(r.ready, o.ready),
		cmp.Compare(r.cost, o.cost),
		cmp.Compare(o.doubled, r.doubled),
	)
	if c == 0 && r.ready && !r.readyAt.Equal(o.readyAt) {
		c = r.compareAge(o, r.readyAt, o.readyAt, now)
	}
	if c == 0 {
		c = cmp.Compare(o.restarts, r.restarts)
	}
	if c == 0 {
		c = r.compareAge(o, r.pod.CreationTimestamp.Time, o.pod.CreationTimestamp.Time, now)
	}
	if c == 0 {
		c = strings.Compare(r.pod.Name, o.pod.Name)
	}
	return c
}

// compareAge puts the later time first by magnitude of age; a zero time counts
// as the latest. Equal magnitudes go by UID, which is random.
func (r *rank) compareAge(o *rank, a, b, now time.Time) int {
	if a.IsZero() || b.IsZero() {
		return compareBool(b.IsZero(), a.IsZero())
	}
	return cmp.Or(
		cmp.Compare(magnitude(now.Sub(a)), magnitude(now.Sub(b))),
		strings.Compare(string(r.pod.UID), string(o.pod.UID)),
	)
}

func magnitude(age time.Duration) int {
	if age <= 0 {
		return -1
	}
	return int(math.Log2(float64(age)))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func phaseOrder(phase corev1.PodPhase) int {
	switch phase {
	case corev1.PodRunning:
		return 2
	case corev1.PodUnknown:
		return 1
	}
	return 0
}

// deletionCost reads the controller.kubernetes.io/pod-deletion-cost
// annotation; what is no number counts as 0, as validation should have
// refused it.
func deletionCost(pod *corev1.Pod) int32 {
	text, ok := pod.Annotations[corev1.PodDeletionCost]
	if !ok {
		return 0
	}
	cost, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0
	}
	return int32(cost)
}

func mostRestarts(pod *corev1.Pod) int32 {
	var most int32
	for i := range pod.Status.ContainerStatuses {
		most = max(most, pod.Status.ContainerStatuses[i].RestartCount)
	}
	return most
}
