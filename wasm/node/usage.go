package node

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/process"
)

// agentProcess is what the agent's own process is called beside its runtime's.
const agentProcess = "agent"

// usages tells the core what the node and its containers use, until ctx ends.
func (a *Agent) usages(ctx context.Context) error {
	tick := time.NewTicker(core.UsageInterval)
	defer tick.Stop()
	count := newCounter(time.Now())
	for {
		a.tellUsage(ctx, count)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// tellUsage measures and tells once. A failure is of no weight: the next time
// says more.
func (a *Agent) tellUsage(ctx context.Context, count *counter) {
	ctx, cancel := context.WithTimeout(ctx, core.UsageInterval)
	defer cancel()
	used, err := a.config.Runtime.Usages(ctx)
	if err != nil {
		if ctx.Err() == nil {
			a.config.Logger.Debug("measure what containers use", "err", err)
		}
		used = wasm.Usages{Time: time.Now()} // the agent itself is there
	}
	used.Processes = append(used.Processes, process.Used(agentProcess))
	u := core.NodeUsage{Time: used.Time, Node: count.add(used.Processes), Pods: podUsages(used.Instances)}
	if err := a.config.Link.Usage(ctx, u); err != nil && ctx.Err() == nil {
		a.config.Logger.Debug("tell what containers use", "err", err)
	}
}

// podUsages puts what instances use in the order of pods and containers. Of a
// container that has two runs for a moment the newer counts.
func podUsages(instances []wasm.InstanceUsage) []core.PodUsage {
	pods := make([]core.PodUsage, 0, len(instances))
	at := make(map[string]int, len(instances))     // sandbox: index in pods
	runs := make(map[string]int32, len(instances)) // sandbox/container: restarts
	for i := range instances {
		instance := &instances[i]
		name, run, ok := parseInstanceID(instance.ID)
		if !ok {
			continue // not one of a container
		}
		used := core.ContainerUsage{Name: name, Usage: core.Usage{
			StartedAt: instance.StartedAt, CPU: instance.CPU, MemoryBytes: instance.MemoryBytes, Throttled: instance.Throttled,
		}}
		n, known := at[instance.Sandbox]
		if !known {
			at[instance.Sandbox] = len(pods)
			pods = append(pods, core.PodUsage{UID: types.UID(instance.Sandbox), Containers: []core.ContainerUsage{used}})
			runs[instance.Sandbox+"/"+name] = run
			continue
		}
		key := instance.Sandbox + "/" + name
		before, twice := runs[key]
		switch {
		case !twice:
			pods[n].Containers = append(pods[n].Containers, used)
			runs[key] = run
		case run > before:
			for j := range pods[n].Containers {
				if pods[n].Containers[j].Name == name {
					pods[n].Containers[j] = used
				}
			}
			runs[key] = run
		}
	}
	return pods
}

// counter adds up what processes use, so that the sum never falls although
// they come and go.
type counter struct {
	begun time.Time
	cpu   time.Duration
	seen  map[string]wasm.ProcessUsage
}

func newCounter(now time.Time) *counter {
	return &counter{begun: now, seen: map[string]wasm.ProcessUsage{}}
}

// add takes in what the processes there are have used. What one used before the
// counter began does not count: an executor may be older than its agent.
func (c *counter) add(processes []wasm.ProcessUsage) core.Usage {
	sum := core.Usage{StartedAt: c.begun}
	for _, p := range processes {
		before, known := c.seen[p.Name]
		switch {
		case known && before.StartedAt.Equal(p.StartedAt):
			c.cpu += max(p.CPU-before.CPU, 0)
		case known || !p.StartedAt.Before(c.begun):
			c.cpu += p.CPU
		}
		c.seen[p.Name] = p
		sum.MemoryBytes += p.MemoryBytes
	}
	sum.CPU = c.cpu
	return sum
}
