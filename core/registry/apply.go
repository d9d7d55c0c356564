package registry

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"github.com/weftrun/weft/core"
)

// apply is a server-side apply: it merges what the manager wants, and creates
// the object if there is none.
func (r *Registry) apply(ctx context.Context, e *entry, key core.Key, p core.Patch, o core.WriteOptions) (core.Object, error) {
	if err := checkApply(&o); err != nil {
		return nil, err
	}
	wanted, err := decodeApply(e, key, p.Data, &o)
	if err != nil {
		return nil, err
	}
	q := &request{WriteOptions: o, applied: true}
	kept, _, err := r.write(ctx, o.DryRun, false, func() (plan, error) {
		p, err := r.planApply(ctx, e, key, wanted, q)
		if apierrors.IsAlreadyExists(err) {
			p, err = r.planApply(ctx, e, key, wanted, q) // it came between the two looks
		}
		return p, err
	})
	if err != nil {
		return nil, err
	}
	return e.answer(kept, q)
}

func checkApply(o *core.WriteOptions) error {
	if o.FieldManager == "" {
		return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "PatchOptions"}, "",
			field.ErrorList{field.Required(field.NewPath("fieldManager"), "is required for apply patch")})
	}
	if o.Subresource != "" && o.Subresource != "status" {
		return apierrors.NewBadRequest(fmt.Sprintf("apply to %q: only the object itself and its status can be applied", o.Subresource))
	}
	return nil
}

func (r *Registry) planApply(ctx context.Context, e *entry, key core.Key, wanted *unstructured.Unstructured, q *request) (plan, error) {
	if _, there := r.store.Latest(key); there {
		return r.planChange(ctx, r.store, e, key, q, func(old core.Object) (core.Object, error) {
			return e.merge(core.Copy(old), wanted, q)
		})
	}
	if q.Subresource != "" {
		return plan{}, apierrors.NewNotFound(e.resource, key.Name)
	}
	if uid := wanted.GetUID(); uid != "" {
		return plan{}, apierrors.NewConflict(e.resource, key.Name,
			fmt.Errorf("uid mismatch: the provided object specified uid %s, and no existing object was found", uid))
	}
	empty := e.New()
	object, err := e.merge(empty, wanted, q)
	if err != nil {
		return plan{}, err
	}
	if object, err = e.toStorage(object, q); err != nil {
		return plan{}, err
	}
	return r.planCreate(ctx, r.store, e, object, q)
}

// merge returns live, which it owns and which is of the storage version, with
// wanted merged into it, in the version of the request.
func (e *entry) merge(live core.Object, wanted *unstructured.Unstructured, q *request) (core.Object, error) {
	m, err := e.manager(q)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	merged, err := m.Apply(live, wanted.DeepCopy(), q.FieldManager, q.Force)
	if err != nil {
		if status := apierrors.APIStatus(nil); errors.As(err, &status) {
			return nil, err
		}
		return nil, apierrors.NewBadRequest(err.Error())
	}
	object, ok := merged.(core.Object)
	if !ok {
		return nil, apierrors.NewInternalError(fmt.Errorf("apply %s: %T is no API object", e.resource, merged))
	}
	object.SetName(wanted.GetName())
	object.SetNamespace(wanted.GetNamespace())
	return e.fromStorage(object, q.Version)
}

// decodeApply reads the body of an apply.
func decodeApply(e *entry, key core.Key, data []byte, o *core.WriteOptions) (*unstructured.Unstructured, error) {
	twice, data, err := yamlToJSON(data)
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding YAML: %v", err))
	}
	if err := reportDuplicates(twice, o); err != nil {
		return nil, err
	}
	if err := checkShape(data); err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{}
	if err := utiljson.Unmarshal(data, &u.Object); err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding YAML: %v", err))
	}
	if u.Object == nil {
		return nil, apierrors.NewBadRequest("error decoding YAML: an object is wanted")
	}
	version := o.Version
	if version == "" {
		version = e.kind.Storage
	}
	if gvk := u.GroupVersionKind(); gvk != e.kind.GroupVersionKind(version) {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("apply %s: the body is a %q, %q was expected", key, gvk, e.kind.GroupVersionKind(version)))
	}
	if _, ok := u.Object["metadata"].(map[string]any); !ok && u.Object["metadata"] != nil {
		return nil, apierrors.NewBadRequest("error decoding YAML: metadata is to be an object")
	}
	if u.GetName() == "" {
		u.SetName(key.Name)
	}
	if err := nameMatches(key, u); err != nil {
		return nil, err
	}
	return u, nil
}

// yamlToJSON converts YAML, and says separately what is wrong with it only
// strictly: keys that are there twice.
func yamlToJSON(data []byte) (twice error, converted []byte, err error) {
	if converted, err = yaml.YAMLToJSONStrict(data); err == nil {
		return nil, converted, nil
	}
	twice = err
	converted, err = yaml.YAMLToJSON(data)
	return twice, converted, err
}

func reportDuplicates(twice error, o *core.WriteOptions) error {
	switch {
	case twice == nil:
	case o.FieldValidation == metav1.FieldValidationStrict:
		return apierrors.NewBadRequest(fmt.Sprintf("error strict decoding YAML: %v", twice))
	case o.FieldValidation == metav1.FieldValidationWarn && o.Warn != nil:
		o.Warn(twice.Error())
	}
	return nil
}
