package registry

import (
	"bytes"
	"compress/gzip"
	"context"
	_ "embed" // for the merge rules
	"encoding/gob"
	"fmt"
	"log/slog"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	merge "sigs.k8s.io/structured-merge-diff/v6/typed"

	"github.com/weftrun/weft/core"
)

//go:generate go run ./internal/gen merge.gob.gz

// mergeRules are the []schema.TypeDef of Kubernetes' types, as client-go has
// them: their YAML takes a tenth of a second, and so would the first write.
//
//go:embed merge.gob.gz
var mergeRules []byte

// builtinTypes knows the merge rules of Kubernetes' types. Reading them takes
// some milliseconds and 1 MB, so that waits for the first write that needs them.
var builtinTypes = sync.OnceValue(func() managedfields.TypeConverter {
	gob.Register(map[any]any{}) // of defaults
	var p merge.Parser
	zip, err := gzip.NewReader(bytes.NewReader(mergeRules))
	if err == nil {
		err = gob.NewDecoder(zip).Decode(&p.Schema.Types)
	}
	if err != nil {
		panic(fmt.Errorf("merge rules of Kubernetes' types: %w", err)) // they are a part of the program
	}
	return managedfields.NewSchemeTypeConverter(core.Scheme(), &p)
})

type managerKey struct{ version, subresource string }

// manager returns what keeps managedFields of writes to a subresource in a
// version.
func (e *entry) manager(o *request) (*managedfields.FieldManager, error) {
	key := managerKey{version: o.Version, subresource: o.Subresource}
	if key.version == "" || e.custom == nil {
		key.version = e.kind.Storage
	}
	if found, ok := e.managers.Load(key); ok {
		return found.(*managedfields.FieldManager), nil
	}
	made, err := e.newManager(key)
	if err != nil {
		return nil, fmt.Errorf("merge rules of %s: %w", e.resource, err)
	}
	kept, _ := e.managers.LoadOrStore(key, made)
	return kept.(*managedfields.FieldManager), nil
}

func (e *entry) newManager(key managerKey) (*managedfields.FieldManager, error) {
	gvk := e.kind.GroupVersionKind(key.version)
	hub := e.gvk().GroupVersion()
	c := converter{e}
	reset := map[fieldpath.APIVersion]fieldpath.Filter{}
	for _, v := range e.kind.Versions {
		gv := e.kind.GroupVersionKind(v.Name).GroupVersion().String()
		reset[fieldpath.APIVersion(gv)] = e.resetFields(key.subresource)
	}
	if e.custom != nil {
		types, err := e.custom.types()
		if err != nil {
			return nil, err
		}
		return managedfields.NewDefaultCRDFieldManager(types, c, c, c, gvk, hub, key.subresource, reset)
	}
	types := builtinTypes()
	if _, err := types.ObjectToTyped(e.New()); err != nil {
		types = managedfields.NewDeducedTypeConverter() // definitions: no rules are known, lists are atomic
	}
	return managedfields.NewDefaultFieldManager(types, c, c, c, gvk, hub, key.subresource, reset)
}

// resetFields are those that an apply to the subresource does not own,
// because the write path puts them back.
func (e *entry) resetFields(subresource string) fieldpath.Filter {
	var paths []fieldpath.Path
	if subresource == "status" {
		paths = append(paths, fieldpath.MakePathOrDie("spec"), fieldpath.MakePathOrDie("metadata", "labels"),
			fieldpath.MakePathOrDie("metadata", "annotations"), fieldpath.MakePathOrDie("metadata", "finalizers"),
			fieldpath.MakePathOrDie("metadata", "ownerReferences"))
	} else if e.CopyStatus != nil {
		paths = append(paths, fieldpath.MakePathOrDie("status"))
	}
	return fieldpath.NewExcludeSetFilter(fieldpath.NewSet(paths...))
}

// track notes in object's managedFields what the caller's manager has changed.
// What cannot be tracked loses its managedFields, as in Kubernetes; the write
// is good all the same.
func (r *Registry) track(ctx context.Context, e *entry, old, object core.Object, o *request) core.Object {
	if o.Subresource == "scale" && old != nil {
		object.SetManagedFields(old.GetManagedFields())
	}
	if old == nil && e.ownAll(object, o) {
		return object
	}
	m, err := e.manager(o)
	if err != nil {
		r.log.LogAttrs(ctx, slog.LevelWarn, "fields are not tracked", slog.String("kind", e.kind.Kind), slog.Any("err", err))
		return object
	}
	before := runtime.Object(old)
	if old == nil {
		before = e.New()
	}
	tracked, ok := m.UpdateNoErrors(before, object, o.FieldManager).(core.Object)
	if !ok {
		return object
	}
	return tracked
}

// ownAll gives a new object's managedFields the short way, or returns false
// and has changed nothing.
func (e *entry) ownAll(object core.Object, o *request) bool {
	if e.custom != nil || o.Subresource != "" || len(object.GetManagedFields()) > 0 {
		return false
	}
	e.ownedOnce.Do(func() { e.owned, _ = newOwned(e, builtinTypes()) }) // without rules there is no plan
	if e.owned == nil {
		return false
	}
	object.SetManagedFields(nil)
	fields, err := e.owned.entry(object, o.FieldManager)
	if err != nil {
		return false
	}
	object.SetManagedFields(fields)
	return true
}

// converter shows one kind to the merge library. Objects come back as the Go
// type of their kind, and are not copied where nothing changes.
type converter struct{ e *entry }

// Convert implements runtime.ObjectConvertor; the library has no use for it.
func (c converter) Convert(in, _, _ any) error {
	return fmt.Errorf("convert %T in place: it is not called for", in)
}

// ConvertToVersion implements runtime.ObjectConvertor.
func (c converter) ConvertToVersion(in runtime.Object, target runtime.GroupVersioner) (runtime.Object, error) {
	gvk := in.GetObjectKind().GroupVersionKind()
	want, ok := target.KindForGroupVersionKinds([]schema.GroupVersionKind{gvk})
	if !ok {
		return nil, fmt.Errorf("convert %s: no such version", gvk)
	}
	if u, ok := in.(*unstructured.Unstructured); ok && c.e.custom == nil {
		object := c.e.New()
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, object); err != nil {
			return nil, fmt.Errorf("convert %s: %w", gvk, err)
		}
		return object, nil
	}
	if gvk == want {
		return in, nil
	}
	object, ok := in.(core.Object)
	if !ok {
		return nil, fmt.Errorf("convert %s: %T is no API object", gvk, in)
	}
	return c.e.convert(object, want.Version)
}

// ConvertFieldLabel implements runtime.ObjectConvertor.
func (c converter) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}

// Default implements runtime.ObjectDefaulter.
func (c converter) Default(in runtime.Object) {
	if object, ok := in.(core.Object); ok && c.e.Default != nil {
		c.e.Default(object)
	}
}

// New implements runtime.ObjectCreater.
func (c converter) New(kind schema.GroupVersionKind) (runtime.Object, error) {
	object := c.e.New()
	object.GetObjectKind().SetGroupVersionKind(kind)
	return object, nil
}
