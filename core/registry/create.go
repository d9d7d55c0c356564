package registry

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/weftrun/weft/core"
)

const (
	generatedLength = 5  // random characters of a generated name
	maxPrefixLength = 58 // what is kept of generateName: a label with the above
	maxNameAttempts = 8  // as in Kubernetes
)

// Create implements core.Client.
func (r *Registry) Create(ctx context.Context, object core.Object, o core.WriteOptions) (kept core.Object, err error) {
	defer r.firm(ctx, r.store.Epoch(), &err)
	if err := checkOptions(&o); err != nil {
		return nil, err
	}
	if o.Subresource != "" {
		return r.createSubresource(ctx, object, o)
	}
	o.Warn = onceEach(o.Warn)
	e, err := r.entryFor(object)
	if err != nil {
		return nil, err
	}
	q := &request{WriteOptions: o}
	if object, err = e.toStorage(object, q); err != nil {
		return nil, err
	}
	if object.GetName() != "" || object.GetGenerateName() == "" {
		return r.createNamed(ctx, e, object, q)
	}
	for attempt := 1; ; attempt++ {
		candidate := object
		if attempt < maxNameAttempts {
			candidate = core.Copy(object)
		}
		candidate.SetName(generateName(object.GetGenerateName()))
		kept, err := r.createNamed(ctx, e, candidate, q)
		if !apierrors.IsAlreadyExists(err) {
			return kept, err
		}
		if attempt == maxNameAttempts {
			return nil, apierrors.NewGenerateNameConflict(e.resource, candidate.GetName(), 1)
		}
	}
}

func generateName(prefix string) string {
	if len(prefix) > maxPrefixLength {
		prefix = prefix[:maxPrefixLength]
	}
	return prefix + rand.String(generatedLength)
}

func (r *Registry) createNamed(ctx context.Context, e *entry, object core.Object, o *request) (core.Object, error) {
	epoch := r.store.Epoch()
	p, err := r.planCreate(ctx, r.store, e, object, o)
	if err != nil {
		return nil, err
	}
	kept, err := r.commit(ctx, &p, epoch, o.DryRun)
	if err != nil {
		return nil, err
	}
	return e.fromStorage(kept, o.Version)
}

// planCreate prepares object, which it owns and which is of the storage
// version and has its name.
func (r *Registry) planCreate(ctx context.Context, v view, e *entry, object core.Object, o *request) (plan, error) {
	if object.GetResourceVersion() != "" {
		return plan{}, apierrors.NewBadRequest("resourceVersion should not be set on objects to be created")
	}
	if e.kind.Namespaced && object.GetNamespace() == "" {
		object.SetNamespace(metav1.NamespaceDefault)
	}
	key := core.KeyFor(e.resource, object)
	if e.custom != nil && e.custom.closing {
		return plan{}, apierrors.NewMethodNotSupported(e.resource, "create")
	}
	if err := admitNamespace(v, e, key); err != nil {
		return plan{}, err
	}
	object.GetObjectKind().SetGroupVersionKind(e.gvk())
	initMeta(e, object)
	if e.Default != nil {
		e.Default(object)
	}
	if e.PrepareCreate != nil {
		e.PrepareCreate(object)
	}
	if o.FieldManager != "" && !o.applied {
		object = r.track(ctx, e, nil, object, o)
	}
	object, err := r.admit(ctx, v, Attributes{Operation: OperationCreate, Kind: e.kind, Key: key, Object: object}, o)
	if err != nil {
		return plan{}, err
	}
	if e.Validate != nil {
		if errs := e.Validate(object); len(errs) > 0 {
			return plan{}, apierrors.NewInvalid(e.gvk().GroupKind(), key.Name, errs)
		}
	}
	if err := checkName(object); err != nil {
		return plan{}, err
	}
	// After validation, as in Kubernetes: what is invalid would be so under any name.
	if _, there := v.Latest(key); there {
		return plan{}, apierrors.NewAlreadyExists(e.resource, key.Name)
	}
	e.warn(object, nil, o)
	return plan{key: key, object: object}, nil
}

// initMeta sets what only the cluster may set.
func initMeta(e *entry, object core.Object) {
	object.SetUID(uuid.NewUUID())
	object.SetCreationTimestamp(now())
	object.SetDeletionTimestamp(nil)
	object.SetDeletionGracePeriodSeconds(nil)
	object.SetSelfLink("")
	if e.SpecChanged != nil {
		object.SetGeneration(1)
	} else {
		object.SetGeneration(0)
	}
}

// checkName refuses a name that could not be a path segment, whatever the
// kind's own rules are.
func checkName(object core.Object) error {
	switch name := object.GetName(); {
	case name == "":
		return apierrors.NewBadRequest("name or generateName is required")
	case len(name) > maxNameLength:
		return apierrors.NewBadRequest(fmt.Sprintf("metadata.name: must be no more than %d characters", maxNameLength))
	}
	return nil
}

// maxNameLength bounds all names and namespaces, as in Kubernetes.
const maxNameLength = 253

// warn tells the caller what the kind has to say of the object.
func (e *entry) warn(object, old core.Object, o *request) {
	if o.Warn == nil || e.Warnings == nil {
		return
	}
	for _, w := range e.Warnings(object, old) {
		o.Warn(w)
	}
}

// onceEach returns warn without its repetitions: a write that is computed again
// says everything again.
func onceEach(warn func(string)) func(string) {
	if warn == nil {
		return nil
	}
	said := map[string]bool{}
	return func(text string) {
		if !said[text] {
			said[text] = true
			warn(text)
		}
	}
}

// now is the time as the API keeps it: whole seconds, and without the
// monotonic clock that would not survive the log.
func now() metav1.Time { return metav1.Unix(time.Now().Unix(), 0) }
