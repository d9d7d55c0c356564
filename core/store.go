package core

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Store keeps the state. Only the registry writes to it; everything else goes
// through a Client. core/store implements it.
type Store interface {
	// Snapshot returns the newest committed state.
	Snapshot() Snapshot
	// WaitFor is Reader.WaitFor.
	WaitFor(ctx context.Context, revision int64) (Snapshot, error)
	// Watch is Reader.Watch.
	Watch(resource GroupResource, namespace string, from int64) (Watch, error)
	// Latest returns the object at key as the next write would find it: it may
	// not be committed yet, and must not be shown to anyone before it is.
	Latest(key Key) (Object, bool)
	// Epoch counts how often what Latest showed was given up.
	Epoch() uint64
	// Settled returns once everything that Latest can have shown since Epoch
	// returned epoch is committed. What is told to a caller because of
	// something else than its own commit, such as that its object exists
	// already, must not be told before. Its errors are apierrors:
	// ServiceUnavailable if any of it was not committed or another store may
	// have written meanwhile, Timeout when ctx ends.
	Settled(ctx context.Context, epoch uint64) error
	// Commit performs all ops in one record, or none, and returns after they
	// are durable with the objects as kept (nil for deletions), whose
	// resourceVersion it has set. It takes ownership of the ops' objects. They
	// were computed upon what Latest has shown since Epoch returned epoch: if
	// any of that was given up, nothing is done.
	// Errors are apierrors: Conflict, AlreadyExists, NotFound when an
	// expectation is not met, RequestEntityTooLarge, ServiceUnavailable when
	// nothing was done (with CauseLogRefused if the log took no record), and
	// Timeout when it is not known whether the ops happened.
	Commit(ctx context.Context, epoch uint64, ops []Op) ([]Object, error)
}

// CauseLogRefused is a cause in the details of a ServiceUnavailable: the log
// takes no record, because its disk is full for example. No other core that led
// would fare better.
const CauseLogRefused metav1.CauseType = "LogRefused"

// Op is one change within a Commit.
type Op struct {
	Key Key
	// Object is what to keep; nil deletes.
	Object Object
	// Expect is the resourceVersion that the object must have; 0 means that it
	// must not exist.
	Expect int64
}
