package core

import (
	"context"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// A Controller decides what should exist for each object of one kind, its
// parent kind; it never acts. Its methods are pure functions: the world, the
// time and randomness come in through the arguments alone, and the same
// arguments give the same answer. They may be called concurrently. The core
// watches, coalesces, calls, adopts, releases, applies and retries.
type Controller interface {
	// Describe returns the parent kind and the kinds of its children.
	Describe() Description
	// Relate says what else to show to Decide for this parent.
	Relate(parent Object) []Relation
	// Decide says what should change. ctx carries the deadline only. An error
	// is shown as an event on the parent and tried again with back-off.
	Decide(ctx context.Context, seen Observation) (Decision, error)
}

// Description is what a controller says of itself.
type Description struct {
	// Name is the controller's name, unique in a cluster: "replicaset". It is
	// the field manager and the event source of what it decides.
	Name string
	// Kind is the parent kind and Resource its resource.
	Kind     schema.GroupVersionKind
	Resource GroupResource
	// Definition is set for a kind that the controller brings along; the core
	// keeps it as an object, so that the kind is served while the plugin is
	// down. Its group and kind are those of Kind.
	Definition *apiextensionsv1.CustomResourceDefinition
	// Children are the kinds that it may create, update and delete.
	Children []Child
}

// Child is a kind of children.
type Child struct {
	Kind     schema.GroupVersionKind
	Resource GroupResource
	// Adopt says that an object without a controller that matches the
	// parent's spec.selector becomes its child, and a child that no longer
	// matches is let go.
	Adopt bool
}

// Relation names objects that a controller wants to see and does not own: one
// by name, or those that a selector matches.
type Relation struct {
	Resource  GroupResource
	Namespace string          // empty: cluster-scoped, or all namespaces
	Name      string          // one object; or
	Selector  labels.Selector // those that match
}

// Observation is what a controller decides upon. Its objects are shared and
// must not be changed: Copy first.
type Observation struct {
	// Now is the time of the decision.
	Now time.Time
	// Seed is the source of randomness: the same when a decision is retried,
	// another when anything observed has changed.
	Seed uint64
	// Parent is the object to decide about. With Finalizing it is being
	// deleted and waits for this controller's finalizer.
	Parent     Object
	Finalizing bool
	// Children are the objects of the declared kinds whose controller is the
	// parent, ordered by key; those being deleted are among them.
	Children []Object
	// Related are the objects that Relate named, ordered by key.
	Related []Object
	// Memory is what the last committed decision left.
	Memory []byte
	// Failures are the creates, updates and deletes of the last decision that
	// were refused.
	Failures []Failure
}

// Failure tells of a refused part of the last decision.
type Failure struct {
	Verb    string // "create", "update", "delete"
	Kind    string // of the child
	Name    string // of the child; empty for a generated name
	Reason  string // Kubernetes' status reason: "Forbidden", "Invalid", ...
	Message string
}

// Decision is what should change. The zero Decision changes nothing. Status,
// Annotations, Finalizers, Memory, Patches and Update commit in one record,
// all or nothing, fenced by the parent's UID and generation and by the
// resourceVersion of each object in Update; Create and Delete follow one by
// one, and stop at the first refusal (creates double their pace: 1, 2, 4, ...
// at a time, as Kubernetes' slow start does). What would change nothing is
// dropped.
type Decision struct {
	// Status is the parent with the status it should have; its other fields
	// are ignored. Nil leaves it.
	Status Object
	// Annotations to set on the parent; an empty value removes one.
	Annotations map[string]string
	// Finalizers, if not nil, are those that this controller (and not others)
	// wants on the parent: names with its own prefix.
	Finalizers []string
	// Create holds new children. The core adds the owner reference.
	Create []Object
	// Update holds children as they should be, with the resourceVersion that
	// was seen.
	Update []Object
	// Delete names children to delete, fenced by their UID.
	Delete []Deletion
	// Patches change declared relations, such as an autoscaler's target.
	Patches []RelatedPatch
	// RequeueAfter asks to be called again after that time even if nothing
	// changes; 0 does not.
	RequeueAfter time.Duration
	// Events to record.
	Events []Note
	// Memory replaces the observation's; at most 16 KiB. Nil leaves it, empty
	// clears it.
	Memory []byte
}

// Deletion names a child to delete.
type Deletion struct {
	Key Key
	UID types.UID
	// Reason is logged and shown by plan: "surplus", "not ready".
	Reason string
}

// RelatedPatch changes an object that Relate named.
type RelatedPatch struct {
	Key         Key
	UID         types.UID
	Subresource string
	Patch       Patch
}

// Note is an event to record on the parent, or on one of its children.
type Note struct {
	About   *Key   // nil: the parent
	Type    string // "Normal" or "Warning"
	Reason  string // "SuccessfulCreate"
	Message string
}

// ControllerSource supplies controllers: built in, or from plugins that come,
// go and are replaced while the cluster runs.
type ControllerSource interface {
	// Controllers returns those that serve now, and a channel that is closed
	// when that has changed.
	Controllers() ([]Controller, <-chan struct{})
}

// SetAsideError says that a controller cannot be asked about this parent now,
// for the reason in its text: its plugin ran out of time or died over it. The
// core shows the reason on the object and tries again when the object changes
// or after a back-off.
type SetAsideError struct{ Reason string }

func (e *SetAsideError) Error() string { return "set aside: " + e.Reason }
