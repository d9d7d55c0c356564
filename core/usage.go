package core

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// UsageInterval is how often a node tells what it and its pods use.
const UsageInterval = 10 * time.Second

// NodeUsage is what a node and its pods had used at one time. It may hold some
// of the pods only, if others with the same time hold the rest.
type NodeUsage struct {
	Time time.Time `json:"time"` // by the node's clock
	// Node is what the node's own processes have used, with all that runs in
	// them, since its agent began to count.
	Node Usage      `json:"node"`
	Pods []PodUsage `json:"pods,omitempty"` // those in which something runs
}

// PodUsage is what the containers of a pod that run now have used.
type PodUsage struct {
	UID        types.UID        `json:"uid"`
	Containers []ContainerUsage `json:"containers"`
}

// ContainerUsage is what one run of a container has used.
type ContainerUsage struct {
	Name string `json:"name"`
	Usage
}

// Usage is what something has used since it was started. Another start has
// another StartedAt and begins to count anew.
type Usage struct {
	StartedAt   time.Time     `json:"startedAt"`
	CPU         time.Duration `json:"cpu"`                 // in nanoseconds
	MemoryBytes int64         `json:"memory"`              // held now
	Throttled   time.Duration `json:"throttled,omitempty"` // rested because of its limit, in nanoseconds
}
