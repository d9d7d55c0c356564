package apiserver

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	kjson "sigs.k8s.io/json"

	"github.com/weftrun/weft/core"
)

func (s *Server) delete(w http.ResponseWriter, r *http.Request, q *request) error {
	o, err := s.deleteOptions(w, r, q)
	if err != nil {
		return err
	}
	object, live, err := s.Client.Delete(r.Context(), q.key(), o)
	if err != nil {
		return err
	}
	if live || q.groupResource() == core.Pods {
		return s.answerObject(w, r, q, http.StatusOK, object, false)
	}
	return answerSuccess(w, r, http.StatusOK, &metav1.StatusDetails{
		Name: q.name, Group: q.group, Kind: q.resource, UID: object.GetUID(),
	})
}

// deleteCollection deletes what a list would find, one by one, and answers
// with the list.
func (s *Server) deleteCollection(w http.ResponseWriter, r *http.Request, q *request) error {
	a, err := negotiate(r, q.kind.Custom, asTable, asPartSet)
	if err != nil {
		return err
	}
	o, err := s.deleteOptions(w, r, q)
	if err != nil {
		return err
	}
	l, err := s.find(r.Context(), q)
	if err != nil {
		return err
	}
	for _, object := range l.items {
		key := q.key()
		key.Name = object.GetName()
		_, _, err := s.Client.Delete(r.Context(), key, o)
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return s.answerList(w, r, q, l, a)
}

// deleteOptions reads them from the body, or else from the query.
func (s *Server) deleteOptions(w http.ResponseWriter, r *http.Request, q *request) (core.DeleteOptions, error) {
	var options metav1.DeleteOptions
	data, err := readBody(w, r, s.MaxBody)
	if err != nil {
		return core.DeleteOptions{}, err
	}
	if len(data) > 0 {
		err = decodeDeleteOptions(contentType(r), data, &options)
	} else {
		err = queryDeleteOptions(q, &options)
	}
	if err != nil {
		return core.DeleteOptions{}, err
	}
	if len(options.DryRun) == 0 {
		options.DryRun = q.query["dryRun"]
	}
	if errs := validation.ValidateDeleteOptions(&options); len(errs) > 0 {
		return core.DeleteOptions{}, apierrors.NewInvalid(schema.GroupKind{Group: "meta.k8s.io", Kind: "DeleteOptions"}, "", errs)
	}
	if options.OrphanDependents != nil { //nolint:staticcheck // deprecated, and still sent by clients
		propagation := metav1.DeletePropagationBackground
		if *options.OrphanDependents { //nolint:staticcheck // as above
			propagation = metav1.DeletePropagationOrphan
		}
		options.PropagationPolicy = &propagation
	}
	return core.DeleteOptions{
		Preconditions: options.Preconditions, GracePeriodSeconds: options.GracePeriodSeconds,
		Propagation: options.PropagationPolicy, DryRun: len(options.DryRun) > 0,
	}, nil
}

func decodeDeleteOptions(kind string, data []byte, into *metav1.DeleteOptions) error {
	switch kind {
	case typeProtobuf:
		var unknown runtime.Unknown
		raw, ok := strings.CutPrefix(string(data), string(magic))
		if !ok {
			return apierrors.NewBadRequest("the body is no Kubernetes protobuf: it does not begin with its magic bytes")
		}
		err := unknown.Unmarshal([]byte(raw))
		if err == nil {
			err = into.Unmarshal(unknown.Raw)
		}
		if err != nil {
			return errHandled(schema.GroupVersionKind{Kind: unknown.Kind}, "DeleteOptions", err)
		}
		return nil
	case typeYAML, typeJSON:
		var err error
		if kind == typeYAML {
			if data, _, err = fromYAML(data); err != nil {
				return err
			}
		}
		if err := checkDepth(data); err != nil {
			return err
		}
		if err := kjson.UnmarshalCaseSensitivePreserveInts(data, into); err != nil {
			return errHandled(schema.GroupVersionKind{}, "DeleteOptions", err)
		}
		if into.Kind != "" && into.Kind != "DeleteOptions" {
			return apierrors.NewBadRequest(fmt.Sprintf("decoded object cannot be converted to DeleteOptions: it is a %s", into.Kind))
		}
		return nil
	}
	return errMediaType(typeJSON, typeYAML, typeProtobuf)
}

func queryDeleteOptions(q *request, into *metav1.DeleteOptions) error {
	if text := q.query.Get("gracePeriodSeconds"); text != "" {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return apierrors.NewBadRequest(fmt.Sprintf("invalid gracePeriodSeconds %q: it must be a number", text))
		}
		into.GracePeriodSeconds = &seconds
	}
	if text := q.query.Get("propagationPolicy"); text != "" {
		policy := metav1.DeletionPropagation(text)
		into.PropagationPolicy = &policy
	}
	if q.query.Has("orphanDependents") {
		orphan := flag(q.query, "orphanDependents")
		into.OrphanDependents = &orphan //nolint:staticcheck // deprecated, and still sent by clients
	}
	uid, revision := types.UID(q.query.Get("preconditions.uid")), q.query.Get("preconditions.resourceVersion")
	if uid != "" || revision != "" {
		into.Preconditions = &metav1.Preconditions{}
		if uid != "" {
			into.Preconditions.UID = &uid
		}
		if revision != "" {
			into.Preconditions.ResourceVersion = &revision
		}
	}
	return nil
}
