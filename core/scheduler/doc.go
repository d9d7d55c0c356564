// Package scheduler chooses a node for each pod that has none. It must not
// decide what pods should exist, nor take one from a node again.
//
// [Place] is the decision: a pure function of pods and a [State]. [Scheduler]
// is the loop around it: it keeps a State up to date from watches, places all
// waiting pods together, binds them and says why others must wait.
//
// Honoured are node name and selector, required and preferred node affinity,
// taints, unschedulable nodes, scheduling gates, requests of all resources
// with the number of pods, and host ports.
package scheduler
