package core

import (
	"iter"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Kind describes one kind as the API serves it: what discovery, tables,
// OpenAPI and the command line need to know. It is immutable.
type Kind struct {
	Group      string
	Kind       string // "Deployment"
	ListKind   string // "DeploymentList"
	Resource   string // plural, lower case: "deployments"
	Singular   string // "deployment"
	ShortNames []string
	Categories []string // such as "all"
	Namespaced bool

	// Versions are those served, the preferred one first.
	Versions []Version
	// Storage names the version that objects are kept in.
	Storage string
	// Verbs that the API permits, in Kubernetes' words; nil means all of
	// create, delete, deletecollection, get, list, patch, update, watch.
	Verbs []string
	// Subresources by name: "status", "scale", "log", "binding", "eviction".
	Subresources []string
	// Custom says that a CustomResourceDefinition made it; its objects are
	// *unstructured.Unstructured.
	Custom bool
	// Internal kinds are kept but not served.
	Internal bool
	// Durability says how its objects survive.
	Durability Durability
	// Fields returns what field selectors see of an object, besides
	// metadata.name and metadata.namespace; nil means nothing.
	Fields func(object Object) map[string]string
}

// Version is one served version of a Kind.
type Version struct {
	Name string // "v1"
	// Schema is the OpenAPI schema of a custom kind; nil for built-in kinds,
	// whose schema is their Go type.
	Schema *apiextensionsv1.JSONSchemaProps
	// Columns and Cells print the objects of this version as a table; Cells
	// returns one cell a column and does not change the object.
	Columns []metav1.TableColumnDefinition
	Cells   func(object Object, now time.Time) []any
	// Scale holds the paths of the scale subresource of a custom kind.
	Scale *apiextensionsv1.CustomResourceSubresourceScale
}

// GroupResource names the resource.
func (k *Kind) GroupResource() GroupResource {
	return GroupResource{Group: k.Group, Resource: k.Resource}
}

// GroupVersionKind returns the kind's name in a version; empty means Storage.
func (k *Kind) GroupVersionKind(version string) schema.GroupVersionKind {
	if version == "" {
		version = k.Storage
	}
	return schema.GroupVersionKind{Group: k.Group, Version: version, Kind: k.Kind}
}

// Durability says what a crash may take. The default loses nothing.
type Durability int

const (
	// Durable objects are synced to the log before a write is acknowledged.
	Durable Durability = iota
	// Lazy objects (Events) are acknowledged at once and logged within
	// seconds; a crash may lose the newest.
	Lazy
	// Volatile objects (Leases of nodes) are not logged at all.
	Volatile
)

// Kinds is the catalogue of what is served. It changes while the cluster
// runs, as CustomResourceDefinitions come and go.
type Kinds interface {
	// Kinds yields all kinds, ordered by group and resource.
	Kinds() iter.Seq[*Kind]
	// KindOf looks a kind up by its resource.
	KindOf(GroupResource) (*Kind, bool)
	// KindNamed looks a kind up by group and kind.
	KindNamed(schema.GroupKind) (*Kind, bool)
	// Generation counts the changes of the catalogue.
	Generation() int64
}
