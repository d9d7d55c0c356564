// Package registry is the one write path of the cluster: every write is
// defaulted, prepared, admitted, validated and committed here, whoever makes
// it. It must not speak HTTP, decide who may do what, or change anything on its
// own account but the status of CustomResourceDefinitions.
//
// # The path
//
// A write is computed outside the store's lock, upon the newest state that
// there is, committed or not, into a plan: the object before, the object after.
// The plan is committed with the revision of the object before as its
// expectation. If another write came between, it is computed again, unless the
// caller named a revision: then that is a precondition, and the answer is 409.
// What changes nothing is not written. An object that is being deleted and
// loses its last finalizer goes in that same commit.
//
// # Kinds
//
// Each built-in kind is one [Strategy] in a file of its own; [Builtin] lists
// them. Kinds that a CustomResourceDefinition makes get theirs from its schema
// while the cluster runs. Of definitions, rules in CEL and conversion by
// webhook are refused; an update is held against the whole schema, also where
// the object was wrong before (no ratcheting).
//
// # Cost
//
// The hot paths are the creation of pods and the writes of their status: 11 and
// 15 microseconds of CPU. A strategic merge patch takes 70. To keep
// managedFields costs 100 for a creation and up to 500 for a patch, so only
// writes with a FieldManager, which are those of people, are tracked.
package registry
