package cluster

import (
	"log/slog"
	"time"

	"github.com/weftrun/weft/cmd/internal/clock"
	"github.com/weftrun/weft/cmd/internal/telemetry"
	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/store"
	"github.com/weftrun/weft/wasm/node"
)

// coreCounts are what a core counts of itself, under Kubernetes' own names
// where it has one for the same.
type coreCounts struct {
	*telemetry.Set
	commits, syncs, decisions, attempts *telemetry.Histogram
	clock                               *clock.Watch
}

func newCoreCounts(log *slog.Logger) *coreCounts {
	c := &coreCounts{Set: telemetry.New()}
	c.clock = clockOf(c.Set, log)
	c.commits = c.Histogram("etcd_request_duration_seconds",
		"How long a write waited for the log, by the operation and resource of its first object.", "operation", "type")
	c.syncs = c.Histogram("etcd_disk_wal_fsync_duration_seconds",
		"How long a record of the log, with all that was packed into it, took to be stored and synced.")
	c.decisions = c.Histogram("weft_controller_decide_duration_seconds",
		"How long the controller of a kind took to answer, the way to its process and back included.", "kind")
	c.attempts = c.Histogram("scheduler_scheduling_attempt_duration_seconds",
		"How long it took to place a pod and to write its binding.", "result")
	return c
}

// clockOf watches the clock for a process.
func clockOf(counts *telemetry.Set, log *slog.Logger) *clock.Watch {
	inc := counts.Counter("weft_clock_jumps_total", "How often the clock of the machine jumped, or the machine slept, while the process ran.")
	return clock.New(log.With("part", "clock"), func(clock.Jump) { inc() })
}

// count has a store tell how long writes take.
func (c *coreCounts) count(s *store.Config) {
	s.Committed = func(op core.Op, took time.Duration) {
		operation := "update"
		switch {
		case op.Object == nil:
			operation = "delete"
		case op.Expect == 0:
			operation = "create"
		}
		c.commits.Observe(took, telemetry.Labels{operation, op.Key.Resource})
	}
	s.Appended = func(took time.Duration) { c.syncs.Observe(took, telemetry.Labels{}) }
}

func (c *coreCounts) decided(kind string, took time.Duration) {
	c.decisions.Observe(took, telemetry.Labels{kind})
}

func (c *coreCounts) attempted(took time.Duration, err error) {
	result := "scheduled"
	if err != nil {
		result = "error"
	}
	c.attempts.Observe(took, telemetry.Labels{result})
}

// newNodeCounts are what a node counts of itself.
func newNodeCounts() (*telemetry.Set, node.Timings) {
	set := telemetry.New()
	worker := set.Histogram("kubelet_pod_worker_start_duration_seconds",
		"How long a pod was known until somebody began to look after it.")
	start := set.Histogram("kubelet_pod_start_duration_seconds",
		"How long a pod was known until the news was that it runs, or has ended already.")
	operation := set.Histogram("kubelet_runtime_operations_duration_seconds",
		"How long the executor took for an operation.", "operation_type")
	return set, node.Timings{
		Worker:   func(took time.Duration) { worker.Observe(took, telemetry.Labels{}) },
		PodStart: func(took time.Duration) { start.Observe(took, telemetry.Labels{}) },
		Start:    func(took time.Duration) { operation.Observe(took, telemetry.Labels{"start_container"}) },
	}
}
