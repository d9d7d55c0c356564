// Package deployment rolls a Deployment's template out by ReplicaSets, one a
// template. It decides only: it holds no state, and must not read the clock,
// draw random numbers or import another kind; the pods are the ReplicaSet
// controller's.
//
// It behaves as Kubernetes' controller, but keeps its promises where that one
// trusts numbers that may be older than its own orders:
//
//   - maxSurge counts pods that a ReplicaSet has yet to delete, and nothing
//     grows while an old ReplicaSet does not know its size yet.
//   - A ReplicaSet never counts as having more available pods than it asks for.
//   - Recreate never runs two revisions, also while it is paused or resized,
//     and when the old ReplicaSet is gone before its pods are.
//
// What one round changes of several ReplicaSets commits together with the
// status. The Deployment's own revision annotation follows in a round of its
// own.
package deployment
