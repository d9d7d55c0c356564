package coretest_test

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// until looks each 5 ms whether done is; it measures real time.
func until(b testing.TB, done func() bool) {
	b.Helper()
	for begin := time.Now(); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > time.Minute {
			b.Fatal("not done within a minute")
		}
	}
}

// BenchmarkThousandReplicas is the time from a Deployment's creation until its
// 1,000 replicas are available, all parts in process over the bus in memory.
func BenchmarkThousandReplicas(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		c := join(b)
		c.AddNode("a", 8000, 8000, 5000)
		d := newDeployment(1000)
		b.StartTimer()
		c.Create(d)
		until(b, func() bool { return c.Get(webKey).(*appsv1.Deployment).Status.AvailableReplicas == 1000 })
	}
}

// BenchmarkThousandCompletions is the time of a Job of 1,000 completions, 100
// at a time, whose pods end at once.
func BenchmarkThousandCompletions(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		c := join(b)
		c.AddNode("a", 8000, 8000, 5000)
		j := newJob("run 1ms exit 0", corev1.RestartPolicyNever, 1000, 100, 6)
		b.StartTimer()
		c.Create(j)
		until(b, func() bool {
			kind, _ := condition(c.Get(jobKey).(*batchv1.Job))
			return kind == batchv1.JobComplete
		})
	}
}
