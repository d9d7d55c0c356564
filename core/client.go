package core

import (
	"context"
	"iter"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Snapshot is the whole state at one revision: consistent, immutable, free to
// keep. Its objects are shared and must not be changed.
type Snapshot interface {
	// Revision is the newest revision it contains.
	Revision() int64
	// Get returns the object at key.
	Get(Key) (Object, bool)
	// List yields the objects of a resource ordered by namespace and name; an
	// empty namespace means all.
	List(resource GroupResource, namespace string) iter.Seq2[Key, Object]
	// Indexed yields the objects that index puts under value (see the
	// constants), ordered by key.
	Indexed(index Index, value string) iter.Seq2[Key, Object]
	// Count returns how many objects of the resource there are.
	Count(resource GroupResource) int
}

// Index names a secondary order of the state.
type Index string

const (
	// ByOwner finds objects by the UID of any of their owner references.
	ByOwner Index = "owner"
	// ByUID finds an object by its own UID.
	ByUID Index = "uid"
	// ByNode finds pods by spec.nodeName; those unbound stand under "".
	ByNode Index = "node"
)

// Change is one committed change of an object.
type Change struct {
	Key Key
	// Object is the object after the change. Of a deletion it is the last
	// state with the deletion's revision as its resourceVersion.
	Object Object
	// Old is the object before the change; nil if there was none.
	Old Object
	// Deleted says that the object is gone.
	Deleted bool
	// Revision of the change, and the newest one before it in the same
	// resource and namespace (0 when not known).
	Revision, Previous int64
}

// Watch yields the changes of one resource in order. It is not concurrent.
type Watch interface {
	// Next returns at least one change, or none when ctx ends or the store is
	// closed, with the reason. The error is apierrors.IsResourceExpired (410)
	// when this reader fell behind what is kept.
	Next(ctx context.Context) ([]Change, error)
	// Revision is one up to which all matching changes have been returned.
	Revision() int64
	// Close frees the watch. Next then returns an error.
	Close()
}

// Reader reads committed state.
type Reader interface {
	Kinds
	// Snapshot returns the newest committed state.
	Snapshot() Snapshot
	// WaitFor returns a snapshot of at least that revision. When ctx ends first
	// the error is apierrors.IsTimeout.
	WaitFor(ctx context.Context, revision int64) (Snapshot, error)
	// Watch returns the changes after a revision. An empty namespace means
	// all. The error is apierrors.IsResourceExpired (410) when from is below
	// what is kept.
	Watch(resource GroupResource, namespace string, from int64) (Watch, error)
}

// Client reads and writes state through the one write path: everything that
// is written is defaulted, admitted and validated as a user's request would
// be, whoever writes. All methods may be called concurrently. A write returns
// after it is durable, with the object as it is now kept, shared and immutable.
type Client interface {
	Reader
	// Create stores a new object. generateName and an empty namespace's
	// default are honoured. It takes ownership of object.
	Create(ctx context.Context, object Object, o WriteOptions) (Object, error)
	// Update replaces an object, or its Subresource. A resourceVersion or UID
	// in object is a precondition. It takes ownership of object.
	Update(ctx context.Context, key Key, object Object, o WriteOptions) (Object, error)
	// Patch changes an object, or its Subresource, by a patch body.
	Patch(ctx context.Context, key Key, p Patch, o WriteOptions) (Object, error)
	// Mutate changes an object, or its Subresource, by a function that is
	// given a copy of the newest state, perhaps several times. If it returns
	// an error, nothing is written and that error is returned.
	Mutate(ctx context.Context, key Key, change func(Object) error, o WriteOptions) (Object, error)
	// Delete begins or finishes an object's deletion. The object returned is
	// its last state, or, with live set, what remains of it until finalizers
	// are done or a node has stopped it.
	Delete(ctx context.Context, key Key, o DeleteOptions) (object Object, live bool, err error)
	// Transact performs all writes in one record, or none.
	Transact(ctx context.Context, writes []Write) ([]Object, error)
}

// WriteOptions go with a Create, Update, Patch or Mutate.
type WriteOptions struct {
	// Subresource: "status", "scale", "binding", "eviction"; empty is the
	// object itself.
	Subresource string
	// Version is the API version of what is given and returned; empty means
	// the storage version.
	Version string
	// DryRun runs the whole path but the store.
	DryRun bool
	// FieldManager owns the fields that are written (managedFields); empty
	// means that the write is not tracked.
	FieldManager string
	// FieldValidation is Strict, Warn or Ignore (empty) and tells Patch what
	// to do about unknown and duplicate fields, and any write of a custom kind
	// what to do about those that its schema does not know.
	FieldValidation string
	// Force takes conflicting fields over in a server-side apply.
	Force bool
	// Warn, if set, is called with each warning for the caller.
	Warn func(string)
}

// Patch is a patch body.
type Patch struct {
	Type types.PatchType // JSON, merge, strategic merge or apply (YAML or JSON)
	Data []byte
}

// DeleteOptions go with a Delete.
type DeleteOptions struct {
	// Preconditions on UID and resourceVersion; nil for none.
	Preconditions *metav1.Preconditions
	// GracePeriodSeconds overrides the pod's own; nil means that.
	GracePeriodSeconds *int64
	// Propagation is Background (nil), Foreground or Orphan.
	Propagation *metav1.DeletionPropagation
	// DryRun runs the whole path but the store.
	DryRun bool
}

// Write is one change within a Transact. Exactly one of Create, Mutate and
// Delete is set.
type Write struct {
	Key         Key
	Subresource string
	// UID, if set, must be the object's: a fence against its namesake.
	UID types.UID
	// Revision, if not 0, must be the object's resourceVersion.
	Revision int64
	// Generation, if not 0, must be the object's metadata.generation.
	Generation int64

	Create Object             // the object to create
	Mutate func(Object) error // as in Client.Mutate
	Delete bool               // begin deletion with default options
}
