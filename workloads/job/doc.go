// Package job runs a Job's pods to completion and counts each of them once. It
// decides only: it holds no state, and must not read the clock, draw random
// numbers or import another kind.
//
// # Counting
//
// Every pod carries the finalizer batch.kubernetes.io/job-tracking, so that it
// cannot vanish before it is counted. One decision counts a finished pod in
// the Job's status and takes the finalizer off; both commit in one record, so
// a pod is counted exactly once, and status.uncountedTerminatedPods, which
// Kubernetes needs because its two writes can be torn apart, is always empty.
// The failures that the back-off is reckoned from are kept in the decision's
// memory, in that same record. A decision counts at most 500 pods.
//
// # Deletion
//
// A pod whose Job is gone would keep its finalizer for ever, since a
// controller is asked about its parents only. Kubernetes lets its controller
// watch for such orphans. Here the Job itself is held, by the finalizer
// batch/job-tracking, from the record in which it first asks for pods until
// none of them is tracked any more: a Job that is deleted while it runs is
// still asked about, takes the finalizers off its pods (off those, too, that
// --cascade=orphan has already disowned, found by the Job's selector), and is
// then let go. A finished Job is not held. Only who removes batch/job-tracking from a Job by hand must clean its
// pods by hand.
//
// For the same reason pods are neither adopted nor released by label: a pod
// whose labels are edited stays its Job's.
//
// # Differences from Kubernetes
//
// With backoffLimitPerIndex an index that waits for its back-off leaves its
// place to others. Suspending clears status.startTime, as the API's own
// documentation says. A Job that finishes while no pod is terminating gets
// SuccessCriteriaMet and Complete, or FailureTarget and Failed, in one record.
package job
