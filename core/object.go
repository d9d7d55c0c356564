package core

import (
	"fmt"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Object is a Kubernetes API object: a pointer to a type of k8s.io/api, or
// *unstructured.Unstructured for kinds unknown at build time. Its TypeMeta is
// always set. An Object that was read from a Snapshot, a Watch or an
// Observation is shared and immutable: DeepCopyObject before change.
type Object interface {
	runtime.Object
	metav1.Object
}

// Copy returns a deep copy that the caller may change.
func Copy[T Object](o T) T { return o.DeepCopyObject().(T) }

// GroupResource names a resource, such as deployments in apps. Its version is
// a matter of the API only: one storage version is kept.
type GroupResource = schema.GroupResource

// Key identifies an object: comparable, and usable as a map key.
type Key struct {
	Group     string // empty for the core group
	Resource  string // plural, lower case: "pods"
	Namespace string // empty for cluster-scoped objects
	Name      string
}

// GroupResource returns the resource that the key's object belongs to.
func (k Key) GroupResource() GroupResource {
	return GroupResource{Group: k.Group, Resource: k.Resource}
}

// String is for people: pods "default/web", deployments.apps "default/web".
func (k Key) String() string {
	name := k.Name
	if k.Namespace != "" {
		name = k.Namespace + "/" + k.Name
	}
	return fmt.Sprintf("%s %q", k.GroupResource(), name)
}

// Less orders keys by group, resource, namespace and name.
func (k Key) Less(o Key) bool {
	if c := strings.Compare(k.Group, o.Group); c != 0 {
		return c < 0
	}
	if c := strings.Compare(k.Resource, o.Resource); c != 0 {
		return c < 0
	}
	if c := strings.Compare(k.Namespace, o.Namespace); c != 0 {
		return c < 0
	}
	return k.Name < o.Name
}

// KeyFor returns the key of object in resource.
func KeyFor(resource GroupResource, object metav1.Object) Key {
	return Key{Group: resource.Group, Resource: resource.Resource, Namespace: object.GetNamespace(), Name: object.GetName()}
}

// Revision returns the object's resourceVersion as a number; 0 if it has none
// or one that is not Weft's.
func Revision(object metav1.Object) int64 {
	n, err := strconv.ParseInt(object.GetResourceVersion(), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// FormatRevision is the resourceVersion that stands for a revision.
func FormatRevision(revision int64) string { return strconv.FormatInt(revision, 10) }

// Resources that the core itself speaks of.
var (
	Namespaces  = GroupResource{Resource: "namespaces"}
	Nodes       = GroupResource{Resource: "nodes"}
	Pods        = GroupResource{Resource: "pods"}
	ConfigMaps  = GroupResource{Resource: "configmaps"}
	Secrets     = GroupResource{Resource: "secrets"}
	Events      = GroupResource{Resource: "events"}
	Jobs        = GroupResource{Group: "batch", Resource: "jobs"}
	ReplicaSets = GroupResource{Group: "apps", Resource: "replicasets"}
	Deployments = GroupResource{Group: "apps", Resource: "deployments"}
	Leases      = GroupResource{Group: "coordination.k8s.io", Resource: "leases"}
	Definitions = GroupResource{Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions"}
	// RuntimeClasses say how a node runs a pod; every cluster has [RuntimeClassDense]
	// and [RuntimeClassIsolated].
	RuntimeClasses = GroupResource{Group: "node.k8s.io", Resource: "runtimeclasses"}
	// Memories hold what controllers remember about a parent between
	// decisions: a Secret in the parent's namespace named by the parent's UID,
	// with one datum, "memory". They are not served.
	Memories = GroupResource{Group: "internal.weft.run", Resource: "memories"}
)

// The runtime classes of every cluster, and the handlers of the same names that
// every node has: many pods share a process of the node, or a pod has one of
// its own. A pod that names no class is run as RuntimeClassDense is.
const (
	RuntimeClassDense    = "dense"
	RuntimeClassIsolated = "isolated"
)

// NestsDeeper reports that JSON has objects and lists within each other, deeper
// than most levels: so that nothing recursive reads it. Of what is no JSON the
// answer may be either.
func NestsDeeper(data []byte, most int) bool {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > most {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}
