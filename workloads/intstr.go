package workloads

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/intstr"
)

// Fenceposts resolves a rolling update's maxSurge (percentages rounded up) and
// maxUnavailable (rounded down) against replicas. Nil is 0. If both come out
// as 0, which percentages of few replicas can do, unavailable is 1: otherwise
// no update could make a step. Unavailable is at most replicas.
func Fenceposts(maxSurge, maxUnavailable *intstr.IntOrString, replicas int32) (surge, unavailable int32, err error) {
	zero := intstr.FromInt32(0)
	s, err := intstr.GetScaledValueFromIntOrPercent(intstr.ValueOrDefault(maxSurge, zero), int(replicas), true)
	if err != nil {
		return 0, 0, fmt.Errorf("resolve maxSurge: %w", err)
	}
	u, err := intstr.GetScaledValueFromIntOrPercent(intstr.ValueOrDefault(maxUnavailable, zero), int(replicas), false)
	if err != nil {
		return 0, 0, fmt.Errorf("resolve maxUnavailable: %w", err)
	}
	if s == 0 && u == 0 {
		u = 1
	}
	return int32(s), min(int32(u), max(replicas, 1)), nil
}
