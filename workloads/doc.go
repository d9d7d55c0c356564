// Package workloads holds what the controllers of workloads share: pods from
// templates, the template hash, tests of a pod's readiness, the order in which
// pods are given up, and the notes that become events. It must not decide
// anything for a kind (each kind has a package of its own below), read the
// clock, draw random numbers other than from a seed it is given, or reach
// outside its arguments.
package workloads
