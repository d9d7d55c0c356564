package registry

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftrun/weft/core"
)

// errModified is Kubernetes' text for a lost race.
var errModified = errors.New("the object has been modified; please apply your changes to the latest version and try again")

// Update implements core.Client.
func (r *Registry) Update(ctx context.Context, key core.Key, object core.Object, o core.WriteOptions) (kept core.Object, err error) {
	defer r.firm(ctx, r.store.Epoch(), &err)
	e, err := r.entryOf(key)
	if err != nil {
		return nil, err
	}
	if err := checkOptions(&o); err != nil {
		return nil, err
	}
	if err := nameMatches(key, object); err != nil {
		return nil, err
	}
	o.Warn = onceEach(o.Warn)
	if o.Subresource == "eviction" {
		return r.evict(ctx, e, key, object, o)
	}
	fixed := object.GetResourceVersion() != ""
	return r.change(ctx, e, key, &request{WriteOptions: o}, fixed, func(core.Object) (core.Object, error) {
		if fixed {
			return object, nil
		}
		return core.Copy(object), nil // there may be another round
	})
}

// Mutate implements core.Client.
func (r *Registry) Mutate(ctx context.Context, key core.Key, change func(core.Object) error, o core.WriteOptions) (kept core.Object, err error) {
	defer r.firm(ctx, r.store.Epoch(), &err)
	e, err := r.entryOf(key)
	if err != nil {
		return nil, err
	}
	q := &request{WriteOptions: o}
	return r.change(ctx, e, key, q, false, func(old core.Object) (core.Object, error) {
		object, err := e.editable(old, q)
		if err != nil {
			return nil, err
		}
		return object, change(object)
	})
}

// checkOptions refuses options that say nothing known.
func checkOptions(o *core.WriteOptions) error {
	if o.FieldManager == "" && o.FieldValidation == "" {
		return nil
	}
	errs := metav1validation.ValidateFieldManager(o.FieldManager, field.NewPath("fieldManager"))
	switch o.FieldValidation {
	case "", metav1.FieldValidationIgnore, metav1.FieldValidationWarn, metav1.FieldValidationStrict:
	default:
		errs = append(errs, field.NotSupported(field.NewPath("fieldValidation"), o.FieldValidation,
			[]string{metav1.FieldValidationIgnore, metav1.FieldValidationWarn, metav1.FieldValidationStrict}))
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "WriteOptions"}, "", errs)
	}
	return nil
}

// request is a write as the path goes along with it.
type request struct {
	core.WriteOptions
	// applied says that managedFields are up to date: the merge has done it.
	applied bool
}

// changeFunc makes the wanted object, which is of the caller's version and,
// for a subresource such as scale, of its kind. old is the stored one, shared.
type changeFunc func(old core.Object) (core.Object, error)

// change is the path of all changes of an object that is there.
func (r *Registry) change(ctx context.Context, e *entry, key core.Key, o *request, fixed bool, f changeFunc) (core.Object, error) {
	kept, _, err := r.write(ctx, o.DryRun, fixed, func() (plan, error) {
		return r.planChange(ctx, r.store, e, key, o, f)
	})
	if err != nil {
		return nil, err
	}
	return e.answer(kept, o)
}

// answer is what a write to o's subresource and version returns of kept.
func (e *entry) answer(kept core.Object, o *request) (core.Object, error) {
	if o.Subresource == "scale" {
		return e.scaleOf(kept)
	}
	return e.fromStorage(kept, o.Version)
}

// planChange computes a change of the object itself or of a subresource.
func (r *Registry) planChange(ctx context.Context, v view, e *entry, key core.Key, o *request, f changeFunc) (plan, error) {
	old, ok := v.Latest(key)
	if !ok {
		return plan{}, apierrors.NewNotFound(e.resource, key.Name)
	}
	var object core.Object
	var err error
	switch o.Subresource {
	case "":
		object, err = e.wanted(old, o, f)
	case "status":
		object, err = e.wantedStatus(old, o, f)
	case "scale":
		object, err = e.wantedScale(old, f)
	default:
		object, err = e.wantedOther(ctx, old, o, f)
		if err == nil {
			return r.finish(ctx, v, e, plan{key: key, old: old, object: object}, o)
		}
	}
	if err != nil {
		return plan{}, err
	}
	return r.planObject(ctx, v, e, key, old, object, o)
}

// wanted is the object that f wants, in the storage version, with its
// preconditions checked.
func (e *entry) wanted(old core.Object, o *request, f changeFunc) (core.Object, error) {
	object, err := f(old)
	if err != nil {
		return nil, err
	}
	if err := e.preconditions(old, object); err != nil {
		return nil, err
	}
	return e.toStorage(object, o)
}

func (e *entry) wantedStatus(old core.Object, o *request, f changeFunc) (core.Object, error) {
	if e.CopyStatus == nil {
		return nil, noSubresource(e, old, o.Subresource)
	}
	wanted, err := e.wanted(old, o, f)
	if err != nil {
		return nil, err
	}
	object := core.Copy(old)
	e.CopyStatus(object, wanted)
	if o.applied {
		object.SetManagedFields(wanted.GetManagedFields())
	}
	return object, nil
}

func (e *entry) wantedOther(ctx context.Context, old core.Object, o *request, f changeFunc) (core.Object, error) {
	perform, ok := e.Subresources[o.Subresource]
	if !ok {
		return nil, noSubresource(e, old, o.Subresource)
	}
	body, err := f(old)
	if err != nil {
		return nil, err
	}
	if err := e.preconditions(old, body); err != nil {
		return nil, err
	}
	object := core.Copy(old)
	return object, perform(ctx, object, body)
}

func noSubresource(e *entry, object core.Object, subresource string) error {
	return apierrors.NewNotFound(core.GroupResource{Group: e.resource.Group, Resource: e.resource.Resource + "/" + subresource}, object.GetName())
}

// preconditions holds old against what the caller's object insists on.
func (e *entry) preconditions(old, object core.Object) error {
	if uid := object.GetUID(); uid != "" && uid != old.GetUID() {
		return apierrors.NewConflict(e.resource, old.GetName(),
			fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", uid, old.GetUID())) //nolint:staticcheck // Kubernetes' text
	}
	if rv := object.GetResourceVersion(); rv != "" && rv != old.GetResourceVersion() {
		return apierrors.NewConflict(e.resource, old.GetName(), errModified)
	}
	return nil
}

// planObject takes object, the one wanted, through the rest of the path.
func (r *Registry) planObject(ctx context.Context, v view, e *entry, key core.Key, old, object core.Object, o *request) (plan, error) {
	status := o.Subresource == "status"
	keepMeta(old, object)
	object.GetObjectKind().SetGroupVersionKind(e.gvk())
	if !status {
		if e.Default != nil {
			e.Default(object)
		}
		if e.PrepareUpdate != nil {
			e.PrepareUpdate(object, old)
		}
		if e.SpecChanged != nil && e.SpecChanged(object, old) {
			object.SetGeneration(old.GetGeneration() + 1)
		}
	}
	p := plan{key: key, old: old, object: object}
	if same(old, object) && !finished(e, object) {
		p.object = old
		return p, nil
	}
	if o.FieldManager != "" && !o.applied {
		object = r.track(ctx, e, old, object, o)
		if p.object = object; same(old, object) && !finished(e, object) {
			p.object = old // only managedFields were missing
			return p, nil
		}
	}
	object, err := r.admit(ctx, v, Attributes{Operation: OperationUpdate, Kind: e.kind, Key: key, Object: object, Old: old}, o)
	if err != nil {
		return plan{}, err
	}
	p.object = object
	if errs := e.validateChange(object, old, status); len(errs) > 0 {
		return plan{}, apierrors.NewInvalid(e.gvk().GroupKind(), key.Name, errs)
	}
	if !status {
		e.warn(object, old, o)
	}
	p.removed = finished(e, object)
	return p, nil
}

// finish ends the path of a subresource that its own function has prepared.
func (r *Registry) finish(ctx context.Context, v view, e *entry, p plan, o *request) (plan, error) {
	keepMeta(p.old, p.object)
	if same(p.old, p.object) && !finished(e, p.object) {
		p.object = p.old
		return p, nil
	}
	a := Attributes{Operation: OperationUpdate, Kind: e.kind, Key: p.key, Object: p.object, Old: p.old}
	var err error
	if p.object, err = r.admit(ctx, v, a, o); err != nil {
		return plan{}, err
	}
	p.removed = finished(e, p.object)
	return p, nil
}

func (e *entry) validateChange(object, old core.Object, status bool) field.ErrorList {
	errs := validateMetaChange(object, old)
	validate := e.ValidateUpdate
	if status {
		validate = e.ValidateStatus
	}
	if validate != nil {
		errs = append(errs, validate(object, old)...)
	}
	return unique(errs)
}

// finished tells that an object that is being deleted has nothing left to
// wait for.
func finished(e *entry, object core.Object) bool {
	if object.GetDeletionTimestamp() == nil || len(object.GetFinalizers()) > 0 {
		return false
	}
	if grace := object.GetDeletionGracePeriodSeconds(); grace != nil && *grace > 0 {
		return false
	}
	return e.Held == nil || !e.Held(object)
}

// nameMatches sees to it that object is the one that key names.
func nameMatches(key core.Key, object metav1.Object) error {
	switch name, namespace := object.GetName(), object.GetNamespace(); {
	case name == "":
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s based on URL) was undeterminable: name must be provided", key.Name))
	case name != key.Name:
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", name, key.Name))
	case namespace != "" && namespace != key.Namespace:
		return apierrors.NewBadRequest(fmt.Sprintf("the namespace of the object (%s) does not match the namespace on the request (%s)", namespace, key.Namespace))
	}
	if object.GetNamespace() == "" {
		object.SetNamespace(key.Namespace)
	}
	return nil
}
