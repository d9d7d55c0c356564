// Package deployment rolls a Deployment's template out by ReplicaSets, one a
// template. It decides only: it holds no state, and must not read the clock,
// draw random numbers or import another kind; the pods are the ReplicaSet
// controller's.
//
// It behaves as Kubernetes' controller, with these differences. What one round
// changes of several ReplicaSets commits together, with the status and the
// revision. A ReplicaSet never counts as having more available pods than it
// asks for: its status may be older than its size, and a rolling update must
// not spend pods that are already on their way out.
package deployment
