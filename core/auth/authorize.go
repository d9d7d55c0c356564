package auth

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
)

// Roles are the two fixed roles: core.GroupAdmins may do everything,
// core.GroupReaders may read everything but Secrets. Everyone with a name may
// ask who they are and what they may do, and read the API's description.
// Everyone at all may ask for health and version, as by Kubernetes'
// system:public-info-viewer.
type Roles struct{}

// readVerbs are those of readers.
var readVerbs = []string{"get", "list", "watch"}

// planPath asks what would change, and changes nothing.
const planPath = "/weft/v1/plan"

// Authorize returns nil if user may do it, or a Forbidden with Kubernetes'
// message. One of resource and path is set.
func (Roles) Authorize(user core.User, resource *authorizationv1.ResourceAttributes, path *authorizationv1.NonResourceAttributes) error {
	switch {
	case slices.Contains(user.Groups, core.GroupAdmins):
		return nil
	case resource != nil && (isKnown(user) && isSelfReview(resource) || isReader(user) && readable(resource)):
		return nil
	case resource != nil:
		return forbidResource(user, resource)
	case path != nil && pathAllowed(user, path):
		return nil
	}
	return forbidPath(user, path)
}

func isKnown(user core.User) bool  { return slices.Contains(user.Groups, core.GroupAuthenticated) }
func isReader(user core.User) bool { return slices.Contains(user.Groups, core.GroupReaders) }

// readable tells whether readers may: any of the served resources, and of
// subresources those that only show.
func readable(a *authorizationv1.ResourceAttributes) bool {
	if !slices.Contains(readVerbs, a.Verb) {
		return false
	}
	if a.Resource == "*" || a.Group == "*" || a.Group == "" && a.Resource == core.Secrets.Resource {
		return false // whoever asks about everything asks about Secrets
	}
	switch a.Subresource {
	case "", "log", "status", "scale":
		return true
	}
	return false
}

func isSelfReview(a *authorizationv1.ResourceAttributes) bool {
	if a.Verb != "create" || a.Namespace != "" || a.Subresource != "" {
		return false
	}
	switch (core.GroupResource{Group: a.Group, Resource: a.Resource}) {
	case core.GroupResource{Group: "authentication.k8s.io", Resource: "selfsubjectreviews"},
		core.GroupResource{Group: "authorization.k8s.io", Resource: "selfsubjectaccessreviews"},
		core.GroupResource{Group: "authorization.k8s.io", Resource: "selfsubjectrulesreviews"}:
		return true
	}
	return false
}

// publicPaths are for whoever looks whether the server works, such as a load
// balancer; openPaths describe the API and hold nothing of a cluster's state.
var (
	publicPaths = []string{"/version", "/healthz", "/livez", "/readyz"}
	openPaths   = append([]string{"/api", "/apis", "/openapi"}, publicPaths...)
)

func pathAllowed(user core.User, a *authorizationv1.NonResourceAttributes) bool {
	path := strings.TrimSuffix(a.Path, "/")
	read := a.Verb == "get" || a.Verb == "head"
	if isReader(user) {
		return read || a.Verb == "post" && path == planPath
	}
	if !read || !isKnown(user) {
		return read && slices.Contains(publicPaths, path)
	}
	return path == "" || slices.ContainsFunc(openPaths, func(p string) bool {
		return path == p || strings.HasPrefix(path, p+"/")
	})
}

// Rules lists what user may do, as a rules review tells it.
func (Roles) Rules(user core.User) ([]authorizationv1.ResourceRule, []authorizationv1.NonResourceRule) {
	all := []string{"*"}
	if slices.Contains(user.Groups, core.GroupAdmins) {
		return []authorizationv1.ResourceRule{{Verbs: all, APIGroups: all, Resources: all}},
			[]authorizationv1.NonResourceRule{{Verbs: all, NonResourceURLs: all}}
	}
	if !isKnown(user) {
		return nil, []authorizationv1.NonResourceRule{{Verbs: []string{"get"}, NonResourceURLs: publicPaths}}
	}
	resources := []authorizationv1.ResourceRule{
		{Verbs: []string{"create"}, APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"selfsubjectreviews"}},
		{Verbs: []string{"create"}, APIGroups: []string{"authorization.k8s.io"}, Resources: []string{"selfsubjectaccessreviews", "selfsubjectrulesreviews"}},
	}
	if !isReader(user) {
		paths := []string{"/"}
		for _, p := range openPaths {
			paths = append(paths, p, p+"/*")
		}
		return resources, []authorizationv1.NonResourceRule{{Verbs: []string{"get"}, NonResourceURLs: paths}}
	}
	resources = append(resources, authorizationv1.ResourceRule{Verbs: readVerbs, APIGroups: all, Resources: []string{"* (but secrets)"}})
	return resources, []authorizationv1.NonResourceRule{
		{Verbs: []string{"get"}, NonResourceURLs: all},
		{Verbs: []string{"post"}, NonResourceURLs: []string{planPath}},
	}
}

func forbidResource(user core.User, a *authorizationv1.ResourceAttributes) error {
	resource := a.Resource
	if a.Subresource != "" {
		resource += "/" + a.Subresource
	}
	reason := fmt.Sprintf("User %q cannot %s resource %q in API group %q", user.Name, a.Verb, resource, a.Group)
	if a.Namespace != "" {
		reason += fmt.Sprintf(" in the namespace %q", a.Namespace)
	} else {
		reason += " at the cluster scope"
	}
	return apierrors.NewForbidden(core.GroupResource{Group: a.Group, Resource: a.Resource}, a.Name, errorText(reason))
}

// forbidPath answers as Kubernetes does; path may be nil when nothing was
// asked for.
func forbidPath(user core.User, path *authorizationv1.NonResourceAttributes) error {
	var verb, asked string
	if path != nil {
		verb, asked = path.Verb, path.Path
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden,
		Message: fmt.Sprintf("forbidden: User %q cannot %s path %q", user.Name, verb, asked),
		Details: &metav1.StatusDetails{},
	}}
}

// errorText is an error whose text is Kubernetes' own, capitals and all.
type errorText string

func (e errorText) Error() string { return string(e) }
