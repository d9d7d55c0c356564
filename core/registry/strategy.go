package registry

import (
	"context"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftrun/weft/core"
)

// Strategy is what the write path knows of one kind. The functions are pure,
// called concurrently, and must not keep their arguments; nil ones do nothing.
// Those named Prepare and Default change the object they are given, which is
// the write path's own copy; all other arguments are shared.
type Strategy struct {
	Kind core.Kind
	// New returns an empty object with its TypeMeta set.
	New func() core.Object

	// Default fills what is not said, as Kubernetes' defaulting does.
	Default func(object core.Object)
	// PrepareCreate clears what a creator may not set, such as status.
	PrepareCreate func(object core.Object)
	// PrepareUpdate puts back what an update of the object may not change
	// silently, such as status.
	PrepareUpdate func(object, old core.Object)
	// Validate returns what is wrong with an object about to be created.
	Validate func(object core.Object) field.ErrorList
	// ValidateUpdate returns what is wrong with an update, immutable fields
	// included; Validate is not called for updates.
	ValidateUpdate func(object, old core.Object) field.ErrorList
	// Warnings returns what the caller should hear of, such as fields that
	// Weft does not honour yet. old is nil for a creation.
	Warnings func(object, old core.Object) []string

	// CopyStatus makes dst's status src's; PrepareUpdate of the status
	// subresource is old with the new status. Nil: no status subresource.
	CopyStatus func(dst, src core.Object)
	// ValidateStatus returns what is wrong with a new status.
	ValidateStatus func(object, old core.Object) field.ErrorList
	// SpecChanged tells whether metadata.generation rises. Nil: the kind has
	// no generation.
	SpecChanged func(object, old core.Object) bool

	// Scale reads and changes the scale subresource; nil: there is none.
	Scale *Scaling
	// Subresources holds the writes to other subresources, such as "binding".
	Subresources map[string]SubresourceFunc
	// Grace returns the grace period in seconds of a deletion that asks for
	// requested (nil: the object's own); 0 deletes at once. Nil: always 0.
	Grace func(object core.Object, requested *int64) int64
	// Deleting marks an object whose deletion begins, such as a Namespace by
	// its phase.
	Deleting func(object core.Object)
	// Held tells that something besides metadata.finalizers keeps an object
	// that is being deleted, such as a Namespace's spec.finalizers.
	Held func(object core.Object) bool

	// Convert returns a copy of object in another version of the kind, from or
	// to the storage version. Nil: versions differ by their name alone.
	Convert func(object core.Object, version string) (core.Object, error)
}

// SubresourceFunc performs a write to a subresource: it changes object, a copy
// of the newest state, by body (of the subresource's own kind, such as
// Binding) and the object is then stored without further preparation.
type SubresourceFunc func(ctx context.Context, object, body core.Object) error

// Scaling is the scale subresource of a kind.
type Scaling struct {
	Replicas func(object core.Object) (spec, status int32, selector string)
	Set      func(object core.Object, replicas int32)
}

// Builtin returns the strategies of the kinds that Weft is built with.
func Builtin() []*Strategy {
	return []*Strategy{
		namespaceStrategy(),
		nodeStrategy(),
		configMapStrategy(),
		secretStrategy(),
		serviceAccountStrategy(),
		eventStrategy(),
		leaseStrategy(),
		runtimeClassStrategy(),
		podStrategy(),
		jobStrategy(),
		replicaSetStrategy(),
		deploymentStrategy(),
		definitionStrategy(),
		memoryStrategy(),
	}
}
