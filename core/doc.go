// Package core is Weft's vocabulary: what the parts of the control plane, the
// controllers and the workers say to each other. It holds no behaviour that
// needs a cluster, and must not import any other package of Weft.
//
// Read it in this order: [Object] and [Key] (what is kept), [Kind] (how it is
// served), [Snapshot] and [Client] (how it is read and written), [Controller]
// with [Observation] and [Decision] (who decides what should exist),
// [NodeLink] (what a worker needs from its cluster).
//
// Objects are those of Kubernetes (k8s.io/api); kinds unknown at build time
// are *unstructured.Unstructured. Errors that reach a user of the API are
// those of k8s.io/apimachinery/pkg/api/errors.
package core
