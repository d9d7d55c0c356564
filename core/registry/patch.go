package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

	"github.com/weftrun/weft/core"
)

const (
	maxPatchBytes      = 3 << 20 // as in Kubernetes
	maxPatchDepth      = 200     // levels of nesting; no served kind has 30
	maxPatchOperations = 10_000  // of a JSON patch, as in Kubernetes
	maxCopiedBytes     = 3 << 20 // what the copies of one JSON patch may add up to
)

// boundCopies tells the JSON patch library, which only has a global for it,
// how much the copy operations of one patch may add.
var boundCopies = sync.OnceFunc(func() { jsonpatch.AccumulatedCopySizeLimit = maxCopiedBytes })

// Patch implements core.Client.
func (r *Registry) Patch(ctx context.Context, key core.Key, p core.Patch, o core.WriteOptions) (kept core.Object, err error) {
	defer r.firm(ctx, r.store.Epoch(), &err)
	e, err := r.entryOf(key)
	if err != nil {
		return nil, err
	}
	if err := checkOptions(&o); err != nil {
		return nil, err
	}
	if len(p.Data) > maxPatchBytes {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", maxPatchBytes))
	}
	o.Warn = onceEach(o.Warn)
	if p.Type == types.ApplyYAMLPatchType {
		return r.apply(ctx, e, key, p, o)
	}
	patcher, err := e.patcher(key, p, &o)
	if err != nil {
		return nil, err
	}
	return r.change(ctx, e, key, &request{WriteOptions: o}, false, patcher)
}

// patcher returns what applies p to an object.
func (e *entry) patcher(key core.Key, p core.Patch, o *core.WriteOptions) (changeFunc, error) {
	switch p.Type {
	case types.JSONPatchType, types.MergePatchType:
	case types.StrategicMergePatchType:
		if e.custom != nil {
			return nil, unsupportedPatch("application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml")
		}
	default:
		return nil, unsupportedPatch("application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml")
	}
	if err := checkShape(p.Data); err != nil {
		return nil, err
	}
	a := &applier{e: e, key: key, patch: p, o: o}
	switch p.Type {
	case types.JSONPatchType:
		return a.jsonPatch()
	case types.MergePatchType:
		return a.mergePatch()
	default:
		return a.strategicPatch()
	}
}

func unsupportedPatch(accepted string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
		Message: "the body of the request was in an unknown format - accepted media types include: " + accepted,
	}}
}

// checkShape refuses JSON that is nested too deep. Whether it is JSON is for the
// decoder to say.
func checkShape(data []byte) error {
	if core.NestsDeeper(data, maxPatchDepth) {
		return apierrors.NewBadRequest(fmt.Sprintf("the patch or its result is nested deeper than %d levels", maxPatchDepth))
	}
	return nil
}

// unprocessable is Kubernetes' answer to a patch that does not fit the object,
// and also says why.
func unprocessable(err error) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid,
		Message: "the server rejected our request due to an error in our request: " + err.Error(),
	}}
}

// applier applies one patch, perhaps to several states of its object.
type applier struct {
	e     *entry
	key   core.Key
	patch core.Patch
	o     *core.WriteOptions
}

// jsonOperation is what an operation of a JSON patch may say.
type jsonOperation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	From  string `json:"from"`
	Value any    `json:"value"`
}

func (a *applier) jsonPatch() (changeFunc, error) {
	boundCopies()
	if !bytes.HasPrefix(bytes.TrimSpace(a.patch.Data), []byte("[")) {
		return nil, apierrors.NewBadRequest("error decoding patch: a JSON patch must be an array of operations")
	}
	if a.strict() {
		var operations []jsonOperation
		if err := a.checkStrict(&operations, "json patch "); err != nil {
			return nil, err
		}
	}
	decoded, err := jsonpatch.DecodePatch(a.patch.Data)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if len(decoded) > maxPatchOperations {
		return nil, apierrors.NewRequestEntityTooLargeError(
			fmt.Sprintf("The allowed maximum operations in a JSON patch is %d, got %d", maxPatchOperations, len(decoded)))
	}
	for i, operation := range decoded {
		if operation == nil {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("operation %d of the JSON patch is null", i))
		}
	}
	return func(old core.Object) (core.Object, error) {
		return a.throughJSON(old, func(data []byte) ([]byte, error) {
			patched, err := decoded.Apply(data)
			if err != nil {
				return nil, unprocessable(err)
			}
			return patched, nil
		})
	}, nil
}

func (a *applier) mergePatch() (changeFunc, error) {
	if a.strict() {
		var fields map[string]any
		if err := a.checkStrict(&fields, ""); err != nil {
			return nil, err
		}
	}
	return func(old core.Object) (core.Object, error) {
		return a.throughJSON(old, func(data []byte) ([]byte, error) {
			patched, err := jsonpatch.MergePatch(data, a.patch.Data)
			if err != nil {
				return nil, apierrors.NewBadRequest(err.Error())
			}
			return patched, nil
		})
	}, nil
}

// throughJSON changes old, or its subresource, as JSON.
func (a *applier) throughJSON(old core.Object, change func([]byte) ([]byte, error)) (core.Object, error) {
	current, err := a.current(old)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(current)
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("encode %s: %w", a.key, err))
	}
	if data, err = change(data); err != nil {
		return nil, err
	}
	if len(data) > maxPatchBytes {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("the patched object has %d bytes, the limit is %d", len(data), maxPatchBytes))
	}
	if err := checkShape(data); err != nil {
		return nil, err
	}
	object := a.empty()
	into := any(object)
	u, custom := object.(*unstructured.Unstructured)
	if custom {
		into = &u.Object
	}
	var strict []error
	if a.strict() {
		strict, err = kjson.UnmarshalStrict(data, into)
	} else {
		err = kjson.UnmarshalCaseSensitivePreserveInts(data, into)
	}
	if err != nil {
		return nil, invalidPatch(string(data), err)
	}
	if custom && u.Object == nil {
		return nil, invalidPatch(string(data), errors.New("an object is wanted"))
	}
	if err := a.strictly(strict, string(data)); err != nil {
		return nil, err
	}
	return object, nil
}

// current is old, or the object that stands for its subresource, in the
// caller's version; shared.
func (a *applier) current(old core.Object) (core.Object, error) {
	if a.o.Subresource == "scale" {
		return a.e.scaleOf(old)
	}
	return a.e.fromStorage(old, a.o.Version)
}

func (a *applier) empty() core.Object {
	if a.o.Subresource == "scale" {
		return &autoscalingv1.Scale{}
	}
	if a.e.custom != nil {
		return &unstructured.Unstructured{}
	}
	return a.e.New()
}

func (a *applier) strategicPatch() (changeFunc, error) {
	var patch map[string]any
	strict, err := kjson.UnmarshalStrict(a.patch.Data, &patch)
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
	}
	if patch == nil {
		return nil, apierrors.NewBadRequest("error decoding patch: an object is wanted")
	}
	if err := a.strictly(strict, string(a.patch.Data)); err != nil {
		return nil, err
	}
	meta, err := strategicpatch.NewPatchMetaFromStruct(a.empty())
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	return func(old core.Object) (core.Object, error) {
		current, err := a.current(old)
		if err != nil {
			return nil, err
		}
		fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(current)
		if err != nil {
			return nil, apierrors.NewInternalError(fmt.Errorf("encode %s: %w", a.key, err))
		}
		patched, err := strategicpatch.StrategicMergeMapPatchUsingLookupPatchMeta(fields, runtime.DeepCopyJSON(patch), meta)
		if err != nil {
			return nil, strategicError(err)
		}
		object := a.empty()
		err = runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(patched, object, a.strict())
		if unknown, ok := runtime.AsStrictDecodingError(err); ok {
			err = a.strictly(unknown.Errors(), string(a.patch.Data))
			return object, err
		}
		if err != nil {
			return nil, invalidPatch(string(a.patch.Data), err)
		}
		return object, nil
	}, nil
}

func strategicError(err error) error {
	if errors.Is(err, mergepatch.ErrNoListOfLists) {
		return unprocessable(err)
	}
	return apierrors.NewBadRequest(err.Error())
}

// maxQuoted bounds how much of a refused patch its error repeats, in bytes.
const maxQuoted = 1024

func invalidPatch(value string, err error) error {
	if len(value) > maxQuoted {
		value = strings.ToValidUTF8(value[:maxQuoted], "") + "..."
	}
	return apierrors.NewInvalid(schema.GroupKind{}, "", field.ErrorList{field.Invalid(field.NewPath("patch"), value, err.Error())})
}

// strict tells that the caller wants to hear of unknown and duplicate fields.
func (a *applier) strict() bool {
	return a.o.FieldValidation == metav1.FieldValidationStrict || a.o.FieldValidation == metav1.FieldValidationWarn
}

// checkStrict holds the patch itself against its type.
func (a *applier) checkStrict(into any, prefix string) error {
	strict, err := kjson.UnmarshalStrict(a.patch.Data, into)
	if err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
	}
	for i := range strict {
		strict[i] = fmt.Errorf("%s%w", prefix, strict[i])
	}
	return a.strictly(strict, string(a.patch.Data))
}

// strictly refuses what has strict errors, or warns of it.
func (a *applier) strictly(strict []error, value string) error {
	if len(strict) == 0 || !a.strict() {
		return nil
	}
	if a.o.FieldValidation == metav1.FieldValidationStrict {
		return invalidPatch(value, runtime.NewStrictDecodingError(strict))
	}
	if a.o.Warn != nil {
		for _, err := range strict {
			a.o.Warn(err.Error())
		}
	}
	return nil
}
