package feed

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/core"
)

// Limits of requests and answers.
const (
	maxRequest   = 16 << 10 // bytes of a request
	maxPage      = 1 << 20  // bytes of the entries of an answer
	maxEntries   = 1000
	usualEntries = 500
	maxSingle    = bus.MinPayload - 2*bus.HeaderRoom // bytes of the object that get returns
)

// Limits of the work for observers.
const (
	atOnce       = 8  // requests that are answered at once
	atOnceEach   = 16 // requests of one observer that are answered or wait
	answerWithin = 10 * time.Second
)

// target names what a request is about.
type target struct {
	Group     string `json:"group"`
	Resource  string `json:"resource"`
	Namespace string `json:"namespace"`
}

type listRequest struct {
	target
	Limit    int    `json:"limit"`
	Continue string `json:"continue"`
}

type getRequest struct {
	target
	Name string `json:"name"`
}

type resumeRequest struct {
	target
	From  string `json:"from"`
	Limit int    `json:"limit"`
}

// problem is an error that an observer is told; its text is JSON.
type problem struct {
	Code    int    `json:"code"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

func (p *problem) Error() string {
	text, err := json.Marshal(p)
	if err != nil {
		return err.Error() // cannot be: it holds strings and a number
	}
	return string(text)
}

func badRequest(format string, a ...any) error {
	return &problem{http.StatusBadRequest, string(metav1.StatusReasonBadRequest), fmt.Sprintf(format, a...)}
}

// problemOf makes of any error one that can be told.
func problemOf(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		s := status.Status()
		return &problem{int(s.Code), string(s.Reason), s.Message}
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return &problem{http.StatusGatewayTimeout, string(metav1.StatusReasonTimeout), "the answer was not ready in time: try again"}
	}
	return &problem{http.StatusInternalServerError, string(metav1.StatusReasonInternalError), err.Error()}
}

// decode reads a request strictly; an empty one is {}.
func decode[T any](data []byte) (T, error) {
	var request T
	if len(data) > maxRequest {
		return request, badRequest("the request has %d bytes, %d are allowed", len(data), maxRequest)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return request, nil
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&request); err != nil {
		return request, badRequest("the request cannot be read: %v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return request, badRequest("the request has more than one JSON value")
	}
	return request, nil
}

// kind looks up what the target names, and replaces the tokens of subjects by
// the names that they stand for.
func (t *target) kind(kinds core.Kinds) (*core.Kind, error) {
	if t.Group == bus.CoreGroup {
		t.Group = ""
	}
	if t.Namespace == bus.NoNamespace {
		t.Namespace = ""
	}
	kind, ok := kinds.KindOf(core.GroupResource{Group: t.Group, Resource: t.Resource})
	if !ok || kind.Internal {
		return nil, &problem{http.StatusNotFound, string(metav1.StatusReasonNotFound),
			fmt.Sprintf("there is no resource %q in group %q: the request \"kinds\" lists all", t.Resource, orElse(t.Group, bus.CoreGroup))}
	}
	if !kind.Namespaced && t.Namespace != "" {
		return nil, badRequest("namespace: %q is not allowed, %s are in none", t.Namespace, kind.GroupResource())
	}
	return kind, nil
}

func entries(limit int) (int, error) {
	switch {
	case limit == 0:
		return usualEntries, nil
	case limit < 0 || limit > maxEntries:
		return 0, badRequest("limit: %d is not between 1 and %d", limit, maxEntries)
	}
	return limit, nil
}

func revisionOf(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, badRequest("from: %.40q is not a revision, which is a string of digits", text)
	}
	return n, nil
}

// place is where a list continues: after an object.
type place struct {
	Revision  int64  `json:"r"` // of the first page
	Namespace string `json:"n"`
	Name      string `json:"o"`
}

func (p place) String() string {
	text, err := json.Marshal(p)
	if err != nil {
		return "" // cannot be: it holds strings and a number
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func parsePlace(token string) (place, error) {
	var p place
	text, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil || p.Revision < 0 || p.Name == "" {
		return place{}, badRequest("continue: it is not what an earlier answer held")
	}
	return p, nil
}

// limits keep observers from taking all of a core.
type limits struct {
	slots chan struct{} // one element for each request that is being answered

	mu     sync.Mutex
	active map[bus.Identity]int
}

func newLimits() *limits {
	return &limits{slots: make(chan struct{}, atOnce), active: map[bus.Identity]int{}}
}

// enter waits for a slot. A caller that has too many requests open is refused
// at once, so that it cannot hold up the others.
func (l *limits) enter(ctx context.Context, caller bus.Identity) (leave func(), err error) {
	l.mu.Lock()
	if l.active[caller] >= atOnceEach {
		l.mu.Unlock()
		return nil, &problem{http.StatusTooManyRequests, string(metav1.StatusReasonTooManyRequests),
			fmt.Sprintf("%s has %d requests open, more are not allowed: try again", caller, atOnceEach)}
	}
	l.active[caller]++
	l.mu.Unlock()
	done := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.active[caller]--; l.active[caller] == 0 {
			delete(l.active, caller)
		}
	}
	select {
	case l.slots <- struct{}{}:
		return func() {
			<-l.slots
			done()
		}, nil
	case <-ctx.Done():
		done()
		return nil, context.Cause(ctx)
	}
}
