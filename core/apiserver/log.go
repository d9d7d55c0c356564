package apiserver

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftrun/weft/core"
)

// log streams one container's log as plain text.
func (s *Server) log(w http.ResponseWriter, r *http.Request, q *request) error {
	if s.Logs == nil {
		return apierrors.NewServiceUnavailable("logs are not served here")
	}
	object, err := s.read(r.Context(), q)
	if err != nil {
		return err
	}
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return errNoResource()
	}
	query, err := parseLog(q.query, pod, time.Now())
	if err != nil {
		return err
	}
	if pod.Spec.NodeName == "" {
		w.WriteHeader(http.StatusNoContent) // nothing has run yet
		return nil
	}
	if err := logAvailable(pod, query); err != nil {
		return err
	}
	out := &logWriter{w: w, control: http.NewResponseController(w), follow: query.Follow}
	if query.Follow {
		out.begin() // the client waits for lines that may be long in coming
	}
	err = s.Logs.Logs(r.Context(), pod, query, out)
	switch {
	case err == nil:
		out.begin()
		return nil
	case !out.begun:
		return err
	case r.Context().Err() != nil:
		return errAnswered
	}
	s.Log.Warn("log stream broke", "object", q.key().String(), "err", err)
	panic(http.ErrAbortHandler) // a broken connection is the only way to tell
}

// logWriter sends lines as they come.
type logWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	follow  bool
	begun   bool
}

var _ io.Writer = (*logWriter)(nil)

func (l *logWriter) begin() {
	if l.begun {
		return
	}
	l.begun = true
	l.w.Header().Set("Content-Type", "text/plain")
	l.w.WriteHeader(http.StatusOK)
	if l.follow {
		_ = l.control.Flush() // not every writer can
	}
}

func (l *logWriter) Write(p []byte) (int, error) {
	l.begin()
	_ = l.control.SetWriteDeadline(time.Now().Add(writeTime)) // not every writer can
	n, err := l.w.Write(p)
	if err == nil && l.follow {
		if flushed := l.control.Flush(); !isUnsupported(flushed) {
			err = flushed
		}
		_ = l.control.SetWriteDeadline(time.Time{})
	}
	return n, err
}

// parseLog reads and checks the parameters of a log.
func parseLog(query url.Values, pod *corev1.Pod, now time.Time) (core.LogQuery, error) {
	l := core.LogQuery{
		Namespace: pod.Namespace, Pod: pod.Name, UID: pod.UID, Container: query.Get("container"),
		Previous: flag(query, "previous"), Follow: flag(query, "follow"), Timestamps: flag(query, "timestamps"),
	}
	var errs field.ErrorList
	number := func(name string, least int64, message string) *int64 {
		text := query.Get(name)
		if text == "" {
			return nil
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			errs = append(errs, field.Invalid(field.NewPath(name), text, "must be a number"))
			return nil
		}
		if n < least {
			errs = append(errs, field.Invalid(field.NewPath(name), n, message))
		}
		return &n
	}
	l.TailLines = number("tailLines", 0, "must be greater than or equal to 0")
	l.LimitBytes = number("limitBytes", 1, "must be greater than 0")
	since := number("sinceSeconds", 1, "must be greater than 0")
	if since != nil && *since > 0 {
		l.SinceTime = now.Add(-time.Duration(min(*since, int64(100*365*24*time.Hour/time.Second))) * time.Second)
	}
	if text := query.Get("sinceTime"); text != "" {
		at, err := time.Parse(time.RFC3339, text)
		switch {
		case err != nil:
			errs = append(errs, field.Invalid(field.NewPath("sinceTime"), text, "must be a time in RFC 3339"))
		case since != nil:
			errs = append(errs, field.Forbidden(field.NewPath(""), "at most one of `sinceTime` or `sinceSeconds` may be specified"))
		}
		l.SinceTime = at
	}
	if len(errs) > 0 {
		return l, apierrors.NewInvalid(schema.GroupKind{Kind: "PodLogOptions"}, pod.Name, errs)
	}
	return l, chooseContainer(&l, pod)
}

// chooseContainer fills in the only container, or checks the one named.
func chooseContainer(l *core.LogQuery, pod *corev1.Pod) error {
	var containers, inits, all []string
	for i := range pod.Spec.Containers {
		containers = append(containers, pod.Spec.Containers[i].Name)
	}
	for i := range pod.Spec.InitContainers {
		inits = append(inits, pod.Spec.InitContainers[i].Name)
	}
	all = append(append(all, containers...), inits...)
	for i := range pod.Spec.EphemeralContainers {
		all = append(all, pod.Spec.EphemeralContainers[i].Name)
	}
	switch {
	case l.Container != "":
		if slices.Contains(all, l.Container) {
			return nil
		}
		return apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", l.Container, pod.Name))
	case len(containers) == 1 && len(inits) == 0:
		l.Container = containers[0]
		return nil
	case len(containers) == 0:
		return apierrors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s", pod.Name))
	}
	message := fmt.Sprintf("a container name must be specified for pod %s, choose one of: [%s]", pod.Name, strings.Join(containers, " "))
	if len(inits) > 0 {
		message += fmt.Sprintf(" or one of the init containers: [%s]", strings.Join(inits, " "))
	}
	return apierrors.NewBadRequest(message)
}

// logAvailable says why a container has no log yet, as a kubelet would.
func logAvailable(pod *corev1.Pod, l core.LogQuery) error {
	status := statusOfContainer(pod, l.Container)
	if l.Previous {
		if status == nil || status.LastTerminationState.Terminated == nil {
			return apierrors.NewBadRequest(fmt.Sprintf("previous terminated container %q in pod %q not found", l.Container, pod.Name))
		}
		return nil
	}
	reason := "ContainerCreating"
	if status != nil {
		state := status.State
		if state.Running != nil || state.Terminated != nil || status.LastTerminationState.Terminated != nil {
			return nil
		}
		if state.Waiting != nil && state.Waiting.Reason != "" {
			reason = waitingReason(state.Waiting.Reason)
		}
	} else if pod.Status.Phase == corev1.PodRunning || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return nil // its node knows better
	}
	return apierrors.NewBadRequest(fmt.Sprintf("container %q in pod %q is waiting to start: %s", l.Container, pod.Name, reason))
}

func waitingReason(reason string) string {
	switch reason {
	case "ErrImagePull":
		return "image can't be pulled"
	case "ImagePullBackOff":
		return "trying and failing to pull image"
	}
	return reason
}

func statusOfContainer(pod *corev1.Pod, name string) *corev1.ContainerStatus {
	for _, statuses := range [][]corev1.ContainerStatus{
		pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses, pod.Status.EphemeralContainerStatuses,
	} {
		for i := range statuses {
			if statuses[i].Name == name {
				return &statuses[i]
			}
		}
	}
	return nil
}
