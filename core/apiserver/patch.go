package apiserver

import (
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
)

func (s *Server) patch(w http.ResponseWriter, r *http.Request, q *request) error {
	object, created, err := s.applyPatch(w, r, q)
	if err != nil {
		return err
	}
	code := http.StatusOK
	if created {
		code = http.StatusCreated
	}
	return s.answerObject(w, r, q, code, object, false)
}

// applyPatch performs a patch of q's object or subresource, and tells whether
// it made the object.
func (s *Server) applyPatch(w http.ResponseWriter, r *http.Request, q *request) (object core.Object, created bool, err error) {
	kind, err := patchType(r, q.kind)
	if err != nil {
		return nil, false, err
	}
	o, err := patchOptions(w, r, q, kind)
	if err != nil {
		return nil, false, err
	}
	data, err := readBody(w, r, s.MaxBody)
	if err != nil {
		return nil, false, err
	}
	if kind == types.ApplyYAMLPatchType {
		var strict []error
		if data, strict, err = fromYAML(data); err != nil {
			return nil, false, err
		}
		if err := judgeStrict(q.kind.GroupVersionKind(q.version.Name), strict, &o); err != nil {
			return nil, false, err
		}
	}
	if err := checkDepth(data); err != nil {
		return nil, false, err
	}
	_, existed := s.Client.Snapshot().Get(q.key())
	object, err = s.Client.Patch(r.Context(), q.key(), core.Patch{Type: kind, Data: data}, o)
	return object, err == nil && !existed, err
}

func patchType(r *http.Request, kind *core.Kind) (types.PatchType, error) {
	accepted := []string{string(types.JSONPatchType), string(types.MergePatchType)}
	if !kind.Custom {
		accepted = append(accepted, string(types.StrategicMergePatchType))
	}
	accepted = append(accepted, string(types.ApplyYAMLPatchType))
	given := contentType(r)
	for _, a := range accepted {
		if given == a {
			return types.PatchType(a), nil
		}
	}
	return "", errMediaType(accepted...)
}

func patchOptions(w http.ResponseWriter, r *http.Request, q *request, kind types.PatchType) (core.WriteOptions, error) {
	options := metav1.PatchOptions{
		DryRun: q.query["dryRun"], FieldManager: q.query.Get("fieldManager"), FieldValidation: q.query.Get("fieldValidation"),
	}
	if q.query.Has("force") {
		force := flag(q.query, "force")
		options.Force = &force
	}
	if errs := validation.ValidatePatchOptions(&options, kind); len(errs) > 0 {
		return core.WriteOptions{}, apierrors.NewInvalid(schema.GroupKind{Group: "meta.k8s.io", Kind: "PatchOptions"}, "", errs)
	}
	if len(q.query["force"]) > 1 {
		return core.WriteOptions{}, apierrors.NewBadRequest(fmt.Sprintf("force is given %d times", len(q.query["force"])))
	}
	return core.WriteOptions{
		Version: q.apiVersion, Subresource: q.subresource,
		DryRun: len(options.DryRun) > 0, FieldManager: managerOf(r, options.FieldManager),
		FieldValidation: validationOf(options.FieldValidation), Force: options.Force != nil && *options.Force, Warn: warner(w),
	}, nil
}
