package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// fail answers with err, unless the client is gone.
func (s *Server) fail(w *tracked, r *http.Request, err error) {
	if errors.Is(err, errAnswered) {
		return
	}
	if w.begun {
		s.Log.Warn("answer broke", "path", r.URL.Path, "err", err)
		panic(http.ErrAbortHandler) // a broken connection is the only way to tell
	}
	if r.Context().Err() != nil && errors.Is(err, context.Canceled) {
		return
	}
	status := statusOf(err)
	if status.Status().Code == http.StatusInternalServerError {
		s.Log.Error("request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	writeStatus(w, status)
}

// errAnswered says that the answer has begun, so that no error can follow.
var errAnswered = errors.New("answer has begun")

// statusOf turns any error into an API error.
func statusOf(err error) apierrors.APIStatus {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return status
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return errTooLarge(tooLarge.Limit)
	case errors.Is(err, context.DeadlineExceeded):
		return apierrors.NewTimeoutError("the request did not complete within its time limit", 0)
	}
	return apierrors.NewInternalError(err)
}

// writeStatus writes an error as a Status in JSON, which every client of
// Kubernetes reads whatever it asked for.
func writeStatus(w http.ResponseWriter, err apierrors.APIStatus) {
	status := err.Status()
	status.Kind, status.APIVersion = "Status", "v1"
	if status.Status == "" {
		status.Status = metav1.StatusFailure
	}
	if status.Code == 0 {
		status.Code = http.StatusInternalServerError
	}
	if status.Details != nil && status.Details.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(status.Details.RetryAfterSeconds)))
	}
	shorten(&status)
	body, encodeErr := json.Marshal(status)
	if encodeErr != nil {
		body = []byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","code":500}`)
	}
	w.Header().Del("Content-Encoding")
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(int(status.Code))
	_, _ = w.Write(append(body, '\n')) // the client may be gone
}

// Bounds of what an error repeats of a request.
const (
	maxErrorText = 8 << 10 // bytes of the message
	maxErrorPart = 1 << 10 // bytes of a name or a cause
	maxCauses    = 100
)

// shorten cuts what an error repeats of an oversized request. It does not
// change what status points to.
func shorten(status *metav1.Status) {
	status.Message = cut(status.Message, maxErrorText)
	if status.Details == nil {
		return
	}
	details := *status.Details
	details.Name, details.Kind = cut(details.Name, maxErrorPart), cut(details.Kind, maxErrorPart)
	details.Causes = slices.Clone(details.Causes[:min(len(details.Causes), maxCauses)])
	for i := range details.Causes {
		details.Causes[i].Message = cut(details.Causes[i].Message, maxErrorPart)
		details.Causes[i].Field = cut(details.Causes[i].Field, maxErrorPart)
	}
	status.Details = &details
}

// cut leaves out the middle of a text that is too long: its end says what is
// wrong.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	half := limit / 2
	return fmt.Sprintf("%s... (%d bytes left out) ...%s",
		strings.ToValidUTF8(text[:half], ""), len(text)-2*half, strings.ToValidUTF8(text[len(text)-half:], ""))
}

// failure has details, though empty ones: clients look into them unasked.
func failure(code int, reason metav1.StatusReason, message string) *apierrors.StatusError {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message, Details: &metav1.StatusDetails{},
	}}
}

// within says which part of a body an error is about.
func within(part string, err error) error {
	status := statusOf(err).Status()
	status.Message = part + ": " + status.Message
	return &apierrors.StatusError{ErrStatus: status}
}

func errNoResource() error {
	return failure(http.StatusNotFound, metav1.StatusReasonNotFound, "the server could not find the requested resource")
}

func errTooLarge(limit int64) *apierrors.StatusError {
	return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", limit))
}

func errMediaType(accepted ...string) error {
	return failure(http.StatusUnsupportedMediaType, metav1.StatusReasonUnsupportedMediaType,
		"the body of the request was in an unknown format - accepted media types include: "+strings.Join(accepted, ", "))
}

func errNotAcceptable(accepted ...string) error {
	return failure(http.StatusNotAcceptable, metav1.StatusReasonNotAcceptable,
		"only the following media types are accepted: "+strings.Join(accepted, ", "))
}

// errHandled says that a body of kind got cannot be taken as want.
func errHandled(got schema.GroupVersionKind, want string, err error) error {
	if got.Kind == "" {
		return apierrors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized (must be of type %s): %v", want, err))
	}
	return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", got.Kind, got.Version, want, err))
}

func tooMany() error {
	return apierrors.NewTooManyRequests("too many requests, please try again later", 1)
}
