package apiserver

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/weftrun/weft/core"
)

// request is what a path and method ask for.
type request struct {
	user  core.User
	query url.Values
	path  string

	isResource  bool // of an API resource; otherwise path says it all
	longRunning bool // watches and followed logs: no time limit, own count

	verb        string // as authorisation knows it
	group       string
	apiVersion  string // the version's name: "v1"
	namespace   string
	resource    string
	name        string
	subresource string

	kind    *core.Kind    // set by resolve
	version *core.Version // set by resolve
	unkept  bool          // its objects are made for each answer
}

func (q *request) groupResource() core.GroupResource {
	return core.GroupResource{Group: q.group, Resource: q.resource}
}

func (q *request) key() core.Key {
	return core.Key{Group: q.group, Resource: q.resource, Namespace: q.namespace, Name: q.name}
}

func (q *request) resourceAttributes() *authorizationv1.ResourceAttributes {
	if !q.isResource {
		return nil
	}
	return &authorizationv1.ResourceAttributes{
		Verb: q.verb, Group: q.group, Version: q.apiVersion, Resource: q.resource,
		Subresource: q.subresource, Namespace: q.namespace, Name: q.name,
	}
}

func (q *request) pathAttributes() *authorizationv1.NonResourceAttributes {
	if q.isResource {
		return nil
	}
	return &authorizationv1.NonResourceAttributes{Path: q.path, Verb: q.verb}
}

// parsePath understands a request's path as Kubernetes does:
// /api/v1/... and /apis/GROUP/VERSION/..., then
// [namespaces/NAMESPACE/]RESOURCE[/NAME[/SUBRESOURCE]].
func parsePath(r *http.Request) *request {
	q := &request{path: r.URL.Path, query: r.URL.Query(), verb: strings.ToLower(r.Method)}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case len(parts) > 2 && parts[0] == "api":
		q.apiVersion, parts = parts[1], parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		q.group, q.apiVersion, parts = parts[1], parts[2], parts[3:]
	default:
		return q
	}
	if slices.Contains(parts, "") {
		return q
	}
	if len(parts) > 2 && parts[0] == "namespaces" && !namespaceSubresource(parts) {
		q.namespace, parts = parts[1], parts[2:]
	}
	if len(parts) > 3 {
		return q
	}
	q.isResource = true
	q.resource = parts[0]
	if len(parts) > 1 {
		q.name = parts[1]
	}
	if len(parts) > 2 {
		q.subresource = parts[2]
	}
	if q.group == "" && q.resource == "namespaces" && q.name != "" {
		q.namespace = "" // the object is cluster-scoped
	}
	q.verb = verbOf(r.Method, q)
	q.longRunning = q.verb == "watch" || q.subresource == "log" && flag(q.query, "follow")
	return q
}

func namespaceSubresource(parts []string) bool {
	return len(parts) == 3 && (parts[2] == "status" || parts[2] == "finalize")
}

func verbOf(method string, q *request) string {
	switch method {
	case http.MethodGet, http.MethodHead:
		switch {
		case q.name != "":
			return "get"
		case flag(q.query, "watch"):
			return "watch"
		}
		return "list"
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		if q.name == "" {
			return "deletecollection"
		}
		return "delete"
	}
	return strings.ToLower(method)
}

// flag reads a boolean parameter; one without a value counts as true.
func flag(query url.Values, name string) bool {
	values, ok := query[name]
	if !ok || len(values) == 0 {
		return false
	}
	if values[0] == "" {
		return true
	}
	on, err := strconv.ParseBool(values[0])
	return err == nil && on
}

// resolve finds the kind and version that q asks for and checks the verb.
func (s *Server) resolve(q *request) error {
	kind, ok := s.Client.KindOf(q.groupResource())
	if !ok || kind.Internal {
		return errNoResource()
	}
	at := slices.IndexFunc(kind.Versions, func(v core.Version) bool { return v.Name == q.apiVersion })
	if at < 0 {
		return errNoResource()
	}
	q.kind, q.version = kind, &kind.Versions[at]
	switch {
	case !kind.Namespaced && q.namespace != "":
		return errNoResource()
	case q.subresource != "":
		if !slices.Contains(kind.Subresources, q.subresource) {
			return errNoResource()
		}
		return nil
	case kind.Namespaced && q.namespace == "" && (q.name != "" || q.verb != "list" && q.verb != "watch"):
		if q.name != "" {
			return errNoResource()
		}
		return apierrors.NewMethodNotSupported(q.groupResource(), q.verb)
	case !slices.Contains(verbsOf(kind), q.verb), q.verb == "create" && q.name != "",
		(q.verb == "update" || q.verb == "patch") && q.name == "":
		return apierrors.NewMethodNotSupported(q.groupResource(), q.verb)
	}
	return nil
}

var allVerbs = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}

func verbsOf(kind *core.Kind) []string {
	if kind.Verbs == nil {
		return allVerbs
	}
	return kind.Verbs
}
