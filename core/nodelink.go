package core

import (
	"context"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// NodeLink is what a worker needs from its cluster. core/nodelink implements
// it over a bus; tests implement it in memory. Methods may be called
// concurrently.
type NodeLink interface {
	// Register announces the node and returns its epoch, which the core keeps
	// durably and raises at each registration: of two processes with one
	// node's name, the higher epoch wins and the lower is told to stop. It
	// waits, as long as ctx lasts, for a core to answer.
	Register(ctx context.Context, node *corev1.Node) (epoch int64, err error)
	// Follow keeps sink up to date with all that is desired of this node,
	// until ctx ends; call it once registered. It notices lost messages and
	// repairs them. While no core answers it waits; what sink holds stays valid.
	// since is the highest term that sink was told, also before this process's
	// time: what cores of lower terms say is not believed.
	Follow(ctx context.Context, since uint64, sink DesiredSink) error
	// Report hands over the newest observation of an object. It never blocks
	// on the network: what is not acknowledged is sent again, the newest only.
	// What is reported before the node is registered waits until it is.
	Report(o Observed)
	// Heartbeat says that the node is alive, with its conditions; call it at
	// least each HeartbeatInterval.
	Heartbeat(ctx context.Context, status corev1.NodeStatus) error
	// Usage tells what the node and its pods have used; call it each
	// UsageInterval. What is lost is not sent again: the next says more.
	Usage(ctx context.Context, u NodeUsage) error
	// Blob opens content of the cluster's own store by digest
	// ("sha256:<hex>"). The caller closes it and checks the digest.
	Blob(ctx context.Context, digest string) (io.ReadCloser, error)
	// Serve answers the cluster's requests to this node until ctx ends.
	Serve(ctx context.Context, s NodeServer) error
	// Event records an event about an object on this node. It never blocks
	// and may be lost.
	Event(e NodeEvent)
}

// HeartbeatInterval is how often a node says that it is alive; after
// NodeMonitorGrace without a word the node is not ready.
const (
	HeartbeatInterval = 2 * time.Second
	NodeMonitorGrace  = 10 * time.Second
)

// DesiredSink receives what a node is to run. Its methods are called one at a
// time. Objects are Pods bound to the node, and the ConfigMaps, Secrets and
// RuntimeClasses that those pods refer to.
type DesiredSink interface {
	// Reset replaces everything by the whole set, which a core of that term
	// sent.
	Reset(term uint64, objects map[Key]Object)
	// Set adds or replaces one object.
	Set(key Key, object Object)
	// Unset says that an object is no longer desired here. A pod that still
	// runs is to be stopped without a grace period.
	Unset(key Key, uid types.UID)
}

// Observed is what a node says of a pod.
type Observed struct {
	Key Key
	UID types.UID
	// Status holds what the node owns of the pod's status.
	Status corev1.PodStatus
	// Gone says that a pod that was being deleted runs no more: the core may
	// remove the object.
	Gone bool
}

// NodeServer is what a node answers to its cluster.
type NodeServer interface {
	// Logs writes a container's log lines to w until the end, or with Follow
	// until ctx ends or the container's log does.
	Logs(ctx context.Context, q LogQuery, w io.Writer) error
}

// LogQuery asks for the log of one container. Zero fields ask for everything.
type LogQuery struct {
	Namespace, Pod string
	UID            types.UID
	Container      string
	Previous       bool // of the last terminated container
	Follow         bool
	Timestamps     bool // RFC 3339 with nanoseconds before each line
	SinceTime      time.Time
	TailLines      *int64
	LimitBytes     *int64
}

// NodeEvent is an event about a pod or the node itself.
type NodeEvent struct {
	About     corev1.ObjectReference
	Type      string
	Reason    string
	Message   string
	Timestamp time.Time
}
