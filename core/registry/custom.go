package registry

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/weftrun/weft/core"
)

// custom is what a definition adds to an entry.
type custom struct {
	group, kind string
	// versions are all of the definition's, served or not, by name.
	versions map[string]*customVersion
	// closing says that the definition is being deleted: nothing new is made.
	closing bool
	// types knows the merge rules of all versions.
	types func() (managedfields.TypeConverter, error)
}

// compile makes the entry of a definition, under the names that it may have.
// The error says what of the definition Weft cannot serve.
func compile(d *apiextensionsv1.CustomResourceDefinition, names apiextensionsv1.CustomResourceDefinitionNames) (*entry, error) {
	if errs := validateSchemas(d); len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	c := &custom{
		group: d.Spec.Group, kind: names.Kind,
		versions: map[string]*customVersion{}, closing: d.DeletionTimestamp != nil,
	}
	kind := core.Kind{
		Group: d.Spec.Group, Kind: names.Kind, ListKind: names.ListKind, Resource: names.Plural, Singular: names.Singular,
		ShortNames: names.ShortNames, Categories: names.Categories, Custom: true,
		Namespaced: d.Spec.Scope == apiextensionsv1.NamespaceScoped,
	}
	for i := range d.Spec.Versions {
		v := &d.Spec.Versions[i]
		compiled, err := compileVersion(v)
		if err != nil {
			return nil, fmt.Errorf("version %s: %w", v.Name, err)
		}
		c.versions[v.Name] = compiled
		if v.Storage {
			kind.Storage = v.Name
		}
		if !v.Served {
			continue
		}
		served, err := servedVersion(v)
		if err != nil {
			return nil, fmt.Errorf("version %s: %w", v.Name, err)
		}
		kind.Versions = append(kind.Versions, served)
	}
	storage, ok := c.versions[kind.Storage]
	if !ok {
		return nil, errors.New("no version is the storage version")
	}
	slices.SortStableFunc(kind.Versions, func(a, b core.Version) int {
		return version.CompareKubeAwareVersionStrings(b.Name, a.Name)
	})
	if storage.status {
		kind.Subresources = append(kind.Subresources, "status")
	}
	if storage.scale != nil {
		kind.Subresources = append(kind.Subresources, "scale")
	}
	kind.Fields = storage.fields
	c.types = sync.OnceValues(c.mergeTypes)
	e := newEntry(c.strategy(kind, storage))
	e.custom = c
	return e, nil
}

// strategy is the custom kind as the write path sees any kind.
func (c *custom) strategy(kind core.Kind, storage *customVersion) *Strategy {
	gvk := kind.GroupVersionKind("")
	s := &Strategy{
		Kind: kind,
		New: func() core.Object {
			u := &unstructured.Unstructured{Object: map[string]any{}}
			u.SetGroupVersionKind(gvk)
			return u
		},
		Default:     func(o core.Object) { storage.fill(content(o)) },
		SpecChanged: storage.specChanged,
		Validate: func(o core.Object) field.ErrorList {
			return storage.validate(o, kind.Namespaced)
		},
		ValidateUpdate: func(o, _ core.Object) field.ErrorList {
			return storage.validate(o, kind.Namespaced)
		},
	}
	if storage.status {
		s.PrepareCreate = func(o core.Object) { delete(content(o), "status") }
		s.PrepareUpdate = copyStatus
		s.CopyStatus = copyStatus
		s.ValidateStatus = func(o, _ core.Object) field.ErrorList { return storage.validateStatus(o) }
	}
	if storage.scale != nil {
		s.Scale = storage.scaling()
	}
	return s
}

// content is the JSON of a custom object.
func content(o core.Object) map[string]any {
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return map[string]any{} // entryFor has seen to it that it is
	}
	return u.Object
}

// copyStatus makes dst's status a copy of src's.
func copyStatus(dst, src core.Object) {
	if status, ok := content(src)["status"]; ok {
		content(dst)["status"] = runtime.DeepCopyJSONValue(status)
	} else {
		delete(content(dst), "status")
	}
}

// accept takes an object as a caller gave it in a version: what the version's
// schema does not know is dropped, and told if the caller asked for that.
func (c *custom) accept(object core.Object, name string, o *request) error {
	u, ok := object.(*unstructured.Unstructured)
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("%s is a custom kind: its objects are unstructured, not %T", c.kind, object))
	}
	v, ok := c.versions[name]
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("%s.%s has no version %q", c.kind, c.group, name))
	}
	unknown, err := v.prune(u, o.FieldValidation == metav1.FieldValidationStrict || o.FieldValidation == metav1.FieldValidationWarn)
	if err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("%s %q: %v", c.kind, u.GetName(), err))
	}
	if len(unknown) == 0 {
		return nil
	}
	if o.FieldValidation == metav1.FieldValidationStrict {
		return apierrors.NewBadRequest(runtime.NewStrictDecodingError(unknown).Error())
	}
	if o.Warn != nil {
		for _, err := range unknown {
			o.Warn(err.Error())
		}
	}
	return nil
}

// mergeTypes builds the merge rules of all versions.
func (c *custom) mergeTypes() (managedfields.TypeConverter, error) {
	models := map[string]*spec.Schema{}
	for name, v := range c.versions {
		models[c.group+"."+name+"."+c.kind] = v.model(c.group, name, c.kind)
	}
	return managedfields.NewTypeConverter(models, false)
}
