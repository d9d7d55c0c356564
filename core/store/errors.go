package store

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
)

// Why a store ended. Run returns them wrapped.
var (
	// ErrLost: somebody else has appended to the log, so this store leads no
	// longer. What waited may or may not have been written.
	ErrLost = errors.New("another leader writes the log")
	// ErrNotLeading: Config.Leading said no.
	ErrNotLeading = errors.New("this process leads no longer")

	errRefused     = errors.New("the log refused a write that this rests on")
	errStopped     = errors.New("the store was stopped")
	errWatchClosed = errors.New("the watch is closed")
	errModified    = errors.New("the object has been modified; please apply your changes to the latest version and try again")
)

func conflict(key core.Key) error {
	return apierrors.NewConflict(key.GroupResource(), key.Name, errModified)
}

func expired(from, floor int64) error {
	return apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", from, floor))
}

// unavailable says that nothing was done, and when to come again: another core
// may lead by then.
func unavailable(why error) *apierrors.StatusError {
	err := apierrors.NewServiceUnavailable("the store does not accept writes: " + why.Error())
	err.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: 1}
	return err
}

// refusedByLog is unavailable for a reason that another core would meet as well.
func refusedByLog(why error) error {
	err := unavailable(why)
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: core.CauseLogRefused, Message: why.Error()}}
	return err
}

func overloaded(waiting int) error {
	return apierrors.NewTooManyRequests(fmt.Sprintf("%d bytes of writes wait for the log, at most %d may", waiting, maxWaiting), 1)
}

// unknownOutcome says no time after which to come again: client-go would do so
// by itself, and make a second object of a create, or a conflict of an update
// that happened.
func unknownOutcome(why error) error {
	return apierrors.NewTimeoutError("it is not known whether the write happened: "+why.Error(), 0)
}

func tooLarge(what string, size, limit int) error {
	return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("%s has %d bytes, at most %d are allowed", what, size, limit))
}

func sortResources(all []core.GroupResource) {
	slices.SortFunc(all, func(a, b core.GroupResource) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Resource, b.Resource))
	})
}
