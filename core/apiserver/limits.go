package apiserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/weftrun/weft/core"
)

const (
	maxURL     = 16 << 10         // bytes of a request's URL
	maxDepth   = 200              // nested maps and lists of a body
	maxTimeout = 60 * time.Second // of a request that is no watch
	bodyTime   = 60 * time.Second // to send a body
	writeTime  = 60 * time.Second // to take a frame of an answer
)

// checkRequest refuses what no client needs.
func checkRequest(r *http.Request) error {
	if len(r.RequestURI) > maxURL {
		return failure(http.StatusRequestURITooLong, "RequestURITooLong", fmt.Sprintf("the request's URL is longer than %d bytes", maxURL))
	}
	return nil
}

// refuseImpersonation refuses to act as another user: nobody may yet.
func refuseImpersonation(r *http.Request, user core.User) error {
	for name := range r.Header {
		if strings.HasPrefix(name, "Impersonate-") {
			reason := fmt.Sprintf("User %q cannot impersonate: impersonation is not served", user.Name)
			return apierrors.NewForbidden(core.GroupResource{Resource: "users"}, r.Header.Get("Impersonate-User"), errors.New(reason))
		}
	}
	return nil
}

// requestTimeout is what the client asks for, within what is permitted.
func requestTimeout(r *http.Request) time.Duration {
	if asked, err := time.ParseDuration(r.URL.Query().Get("timeout")); err == nil && asked > 0 {
		return min(asked, maxTimeout)
	}
	if strings.HasPrefix(r.URL.Path, "/weft/v1/blobs") || r.URL.Path == backupPath {
		return time.Hour // each read and write has a deadline of its own
	}
	return maxTimeout
}

// readBody reads a whole body of at most limit bytes. A declared length above
// the limit is refused before anything is read.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, errTooLarge(limit)
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return nil, failure(http.StatusUnsupportedMediaType, "UnsupportedMediaType", fmt.Sprintf("the body's content encoding %q is not supported", e))
	}
	body, err := readInTime(http.NewResponseController(w), http.MaxBytesReader(w, r.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, errTooLarge(limit)
	case err != nil:
		w.Header().Set("Connection", "close")
		return nil, apierrors.NewBadRequest(fmt.Sprintf("read the request's body: %v", err))
	}
	return body, nil
}

// readInTime reads all of a request's body, which has to come within bodyTime.
// Nearly all bodies are there already: a deadline for each would have HTTP/2's
// own goroutine woken twice, so one is set only when the time is over.
func readInTime(control *http.ResponseController, body io.Reader) ([]byte, error) {
	over := make(chan struct{})
	timer := time.AfterFunc(bodyTime, func() {
		_ = control.SetReadDeadline(time.Now()) // not every writer can
		close(over)
	})
	data, err := io.ReadAll(body)
	inTime := timer.Stop()
	if !inTime {
		<-over // nobody uses the writer when its handler has ended
	}
	switch {
	case err == nil && !inTime: // it came at the last moment
		_ = control.SetReadDeadline(time.Time{})
	case err != nil && inTime:
		// net/http reads what is left of a body before it answers, and would
		// wait for ever for one that does not come.
		_ = control.SetReadDeadline(time.Now().Add(bodyTime))
	}
	return data, err
}

// checkDepth refuses JSON that nests deeper than maxDepth, before any decoder
// recurses into it.
func checkDepth(data []byte) error {
	if core.NestsDeeper(data, maxDepth) {
		return apierrors.NewBadRequest(fmt.Sprintf("the body nests deeper than %d levels", maxDepth))
	}
	return nil
}

// longRunning counts watches and followed logs, and can end them all.
type longRunning struct {
	limit int

	mu      sync.Mutex // guards the fields below
	ended   bool
	cancels map[*context.CancelFunc]struct{}
}

func newLongRunning(limit int) *longRunning {
	return &longRunning{limit: limit, cancels: map[*context.CancelFunc]struct{}{}}
}

// enter takes a place until leave is called; cancel is called by end.
func (l *longRunning) enter(cancel context.CancelFunc) (leave func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || len(l.cancels) >= l.limit {
		return nil, false
	}
	l.cancels[&cancel] = struct{}{}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.cancels, &cancel)
	}, true
}

// end cancels those that run, and admits no more.
func (l *longRunning) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	for cancel := range l.cancels {
		(*cancel)()
	}
}
