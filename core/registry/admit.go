package registry

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
)

// Operation is what is done to an object.
type Operation string

// The operations that admission sees.
const (
	OperationCreate Operation = "CREATE"
	OperationUpdate Operation = "UPDATE"
	OperationDelete Operation = "DELETE"
)

// Attributes describe a write to an AdmissionFunc.
type Attributes struct {
	Operation   Operation
	Kind        *core.Kind
	Key         core.Key
	Subresource string
	// Object is the object as it would be kept, which admission may change;
	// nil for a deletion. Old is the object before, shared; nil for a creation.
	Object, Old core.Object
	DryRun      bool
	// Latest returns other objects as the write would find them; shared.
	Latest func(core.Key) (core.Object, bool)
	// Warn tells the caller something; never nil.
	Warn func(string)
}

// AdmissionFunc permits, changes or, with an apierrors error, refuses a write.
// core.UserFrom(ctx) says who writes. It is called concurrently, and perhaps
// several times for one write.
type AdmissionFunc func(ctx context.Context, a *Attributes) error

// undying namespaces are never deleted.
func undying(name string) bool {
	return name == metav1.NamespaceDefault || name == metav1.NamespaceSystem || name == metav1.NamespacePublic
}

// admitNamespace sees to it that what is created lies in a namespace that is
// there and stays.
func admitNamespace(v view, e *entry, key core.Key) error {
	if key.Namespace == "" || e.kind.Internal {
		return nil
	}
	object, ok := v.Latest(core.Key{Resource: core.Namespaces.Resource, Name: key.Namespace})
	if !ok {
		return apierrors.NewNotFound(core.Namespaces, key.Namespace)
	}
	namespace, ok := object.(*corev1.Namespace)
	if !ok || (namespace.Status.Phase != corev1.NamespaceTerminating && namespace.DeletionTimestamp == nil) {
		return nil
	}
	err := apierrors.NewForbidden(e.resource, key.Name,
		fmt.Errorf("unable to create new content in namespace %s because it is being terminated", key.Namespace))
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{
		Type:    corev1.NamespaceTerminatingCause,
		Message: fmt.Sprintf("namespace %s is being terminated", key.Namespace),
		Field:   "metadata.namespace",
	})
	return err
}

// admit asks the configured functions, and returns the object as they left it.
func (r *Registry) admit(ctx context.Context, v view, a Attributes, o *request) (core.Object, error) {
	if len(r.admission) == 0 {
		return a.Object, nil
	}
	if a.Object != nil && a.Old != nil {
		a.Object = core.Copy(a.Object) // it may share parts with the old one
	}
	a.Latest, a.DryRun, a.Subresource = v.Latest, o.DryRun, o.Subresource
	a.Warn = o.Warn
	if a.Warn == nil {
		a.Warn = func(string) {}
	}
	for _, f := range r.admission {
		if err := f(ctx, &a); err != nil {
			return nil, err
		}
	}
	return a.Object, nil
}
