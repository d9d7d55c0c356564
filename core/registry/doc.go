// Package registry is the one write path of the cluster: it decodes nothing
// and serves nothing, but decides what may be kept. Every write is defaulted,
// prepared, admitted, validated and committed here, whoever makes it.
//
// Each kind is one [Strategy] in a file of its own; [Builtin] lists them.
// Kinds that a CustomResourceDefinition makes get their strategy from its
// schema while the cluster runs.
package registry
