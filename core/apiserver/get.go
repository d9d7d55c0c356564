package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
)

// freshWait is how long a read waits for a revision that is not here yet.
const freshWait = 3 * time.Second

func (s *Server) get(w http.ResponseWriter, r *http.Request, q *request) error {
	object, err := s.read(r.Context(), q)
	if err != nil {
		return err
	}
	return s.answerObject(w, r, q, http.StatusOK, object, true)
}

// read returns the object that q names, at least as new as its
// resourceVersion asks for.
func (s *Server) read(ctx context.Context, q *request) (core.Object, error) {
	at, err := parseRevision(q.query.Get("resourceVersion"))
	if err != nil {
		return nil, err
	}
	snapshot, err := s.atLeast(ctx, at)
	if err != nil {
		return nil, err
	}
	object, ok := snapshot.Get(q.key())
	if !ok {
		return nil, apierrors.NewNotFound(q.groupResource(), q.name)
	}
	return object, nil
}

// parseRevision reads a resourceVersion; none is 0.
func parseRevision(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	revision, err := strconv.ParseInt(text, 10, 64)
	if err != nil || revision < 0 {
		return 0, apierrors.NewBadRequest(fmt.Sprintf("invalid resourceVersion %q: it must be a number that this server gave", text))
	}
	return revision, nil
}

// atLeast returns a snapshot of at least a revision, or Kubernetes' error
// that says that it is too large. It is the newest state at some moment of the
// call: a server that may have been overtaken answers ServiceUnavailable.
func (s *Server) atLeast(ctx context.Context, revision int64) (core.Snapshot, error) {
	if s.Client.Snapshot().Revision() >= revision { // no timer is needed
		return s.Client.WaitFor(ctx, revision)
	}
	wait, cancel := context.WithTimeout(ctx, freshWait)
	defer cancel()
	newer, err := s.Client.WaitFor(wait, revision)
	if err == nil {
		return newer, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if !apierrors.IsTimeout(err) {
		return nil, err
	}
	tooLarge := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", revision, s.Client.Snapshot().Revision()), 1)
	tooLarge.ErrStatus.Details.Causes = []metav1.StatusCause{{
		Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version",
	}}
	return nil, tooLarge
}
