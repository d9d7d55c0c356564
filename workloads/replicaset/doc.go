// Package replicaset keeps a ReplicaSet's pods at the number it asks for. It
// decides only: it holds no state, and must not read the clock, draw random
// numbers or import another kind.
//
// It behaves as Kubernetes' controller with one difference: when it gives up
// pods, a node counts as doubled up by the pods of this ReplicaSet alone, not
// by those of its Deployment's other ReplicaSets, so that a ReplicaSet need
// not be woken by the pods of its siblings.
package replicaset
