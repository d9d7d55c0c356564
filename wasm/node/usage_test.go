package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/wasm"
)

func TestCounter(t *testing.T) {
	begun := time.Unix(1000, 0)
	old, young, younger := begun.Add(-time.Hour), begun.Add(time.Minute), begun.Add(time.Hour)
	process := func(name string, started time.Time, cpu time.Duration) wasm.ProcessUsage {
		return wasm.ProcessUsage{Name: name, StartedAt: started, Usage: wasm.Usage{CPU: cpu, MemoryBytes: 10}}
	}
	c := newCounter(begun)
	for n, step := range []struct {
		processes []wasm.ProcessUsage
		cpu       time.Duration
	}{
		{[]wasm.ProcessUsage{process("agent", begun, 1), process("executor", old, 500)}, 1}, // from before its time
		{[]wasm.ProcessUsage{process("agent", begun, 2), process("executor", old, 503)}, 5},
		{[]wasm.ProcessUsage{process("agent", begun, 2)}, 5},                                  // it is being restarted
		{[]wasm.ProcessUsage{process("agent", begun, 2), process("executor", young, 40)}, 45}, // its next life
		{[]wasm.ProcessUsage{process("agent", begun, 2), process("executor", young, 39)}, 45}, // it cannot be
		{[]wasm.ProcessUsage{process("agent", begun, 3), process("executor", younger, 1)}, 47},
	} {
		got := c.add(step.processes)
		want := core.Usage{StartedAt: begun, CPU: step.cpu, MemoryBytes: int64(10 * len(step.processes))}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("step %d: %s", n, diff)
		}
	}
}

func TestPodUsages(t *testing.T) {
	started := time.Unix(1000, 0)
	instance := func(sandbox, id string, cpu time.Duration) wasm.InstanceUsage {
		return wasm.InstanceUsage{Sandbox: sandbox, ID: id, StartedAt: started, Usage: wasm.Usage{CPU: cpu, MemoryBytes: 2, Throttled: 3}}
	}
	container := func(name string, cpu time.Duration) core.ContainerUsage {
		return core.ContainerUsage{Name: name, Usage: core.Usage{StartedAt: started, CPU: cpu, MemoryBytes: 2, Throttled: 3}}
	}
	got := podUsages([]wasm.InstanceUsage{
		instance("a", "x.1", 10), instance("b", "x.0", 20), instance("a", "y.0", 30), instance("a", "x.0", 40), instance("a", "x.2", 50), instance("c", "what", 60),
	})
	want := []core.PodUsage{
		{UID: "a", Containers: []core.ContainerUsage{container("x", 50), container("y", 30)}},
		{UID: "b", Containers: []core.ContainerUsage{container("x", 20)}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// BenchmarkPodUsages sorts what 10,000 instances use by pods.
func BenchmarkPodUsages(b *testing.B) {
	var instances []wasm.InstanceUsage
	for i := range 10000 {
		instances = append(instances, wasm.InstanceUsage{Sandbox: fmt.Sprintf("5a8f2c1e-93a4-4b7e-8a51-%012d", i), ID: "main.0"})
	}
	b.ReportAllocs()
	for b.Loop() {
		podUsages(instances)
	}
}
