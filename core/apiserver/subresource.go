package apiserver

import (
	"net/http"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weftrun/weft/core"
)

var (
	scaleKind    = autoscalingv1.SchemeGroupVersion.WithKind("Scale")
	bindingKind  = schema.GroupVersionKind{Version: "v1", Kind: "Binding"}
	evictionKind = schema.GroupVersionKind{Group: "policy", Version: "v1", Kind: "Eviction"}
)

// serveSubresource answers for a part of an object, or an action on it.
func (s *Server) serveSubresource(w http.ResponseWriter, r *http.Request, q *request) error {
	switch {
	case q.subresource == "log" && q.verb == "get":
		return s.log(w, r, q)
	case q.subresource == "scale" && (q.verb == "get" || q.verb == "update" || q.verb == "patch"):
		return s.scale(w, r, q)
	case q.subresource == "binding" && q.verb == "create":
		return s.act(w, r, q, bindingKind)
	case q.subresource == "eviction" && q.verb == "create":
		return s.act(w, r, q, evictionKind)
	case !partOfObject(q.subresource):
	case q.verb == "get":
		return s.get(w, r, q)
	case q.verb == "update":
		return s.update(w, r, q)
	case q.verb == "patch":
		return s.patch(w, r, q)
	}
	return apierrors.NewMethodNotSupported(q.groupResource(), q.verb)
}

// partOfObject tells whether a subresource is read and written as the whole
// object.
func partOfObject(subresource string) bool {
	switch subresource {
	case "log", "scale", "binding", "eviction":
		return false
	}
	return true
}

// act performs an action whose body is of a kind of its own.
func (s *Server) act(w http.ResponseWriter, r *http.Request, q *request, kind schema.GroupVersionKind) error {
	o, err := writeOptions(w, r, q)
	if err != nil {
		return err
	}
	body, strict, err := s.readObject(w, r, kind, false)
	if err != nil {
		return err
	}
	if err := judgeStrict(kind, strict, &o); err != nil {
		return err
	}
	if err := checkNamespace(body, q); err != nil {
		return err
	}
	if body.GetName() == "" {
		body.SetName(q.name)
	}
	if err := checkName(body, q); err != nil {
		return err
	}
	if _, err := s.Client.Update(r.Context(), q.key(), body, o); err != nil {
		return err
	}
	return answerSuccess(w, r, http.StatusCreated, nil)
}

// scale reads or writes how many replicas a workload has. What a client
// returns of a write to scale is a Scale.
func (s *Server) scale(w http.ResponseWriter, r *http.Request, q *request) error {
	var scale core.Object
	var err error
	switch {
	case q.verb == "patch":
		scale, _, err = s.applyPatch(w, r, q)
	case q.verb == "update":
		scale, err = s.updateScale(w, r, q)
	case s.Scale == nil:
		err = apierrors.NewServiceUnavailable("the scale of objects is not served here")
	default:
		if scale, err = s.Scale.Scale(q.key()); err == nil {
			_, err = s.atLeast(r.Context(), 0) // after it was read: it is the newest
		}
	}
	if err != nil {
		return err
	}
	return answerRuntime(w, r, http.StatusOK, scale)
}

func (s *Server) updateScale(w http.ResponseWriter, r *http.Request, q *request) (core.Object, error) {
	o, err := writeOptions(w, r, q)
	if err != nil {
		return nil, err
	}
	body, strict, err := s.readObject(w, r, scaleKind, false)
	if err != nil {
		return nil, err
	}
	if err := judgeStrict(scaleKind, strict, &o); err != nil {
		return nil, err
	}
	if err := checkNamespace(body, q); err != nil {
		return nil, err
	}
	if err := checkName(body, q); err != nil {
		return nil, err
	}
	return s.Client.Update(r.Context(), q.key(), body, o)
}
