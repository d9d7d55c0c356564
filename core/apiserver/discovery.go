package apiserver

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"

	"github.com/weftrun/weft/core"
)

// catalog is discovery's documents for one generation of the kinds.
type catalog struct {
	generation int64
	groups     []group
}

// group is an API group with its versions, the preferred one first.
type group struct {
	name     string
	versions []groupVersion
}

type groupVersion struct {
	name      string
	resources []metav1.APIResource // subresources follow their resource
}

// current returns the catalogue of now.
func (s *Server) current() *catalog {
	generation := s.Client.Generation()
	if c := s.catalog.Load(); c != nil && c.generation == generation {
		return c
	}
	c := buildCatalog(s.Client, generation, s.Metrics != nil)
	s.catalog.Store(c)
	return c
}

func buildCatalog(kinds core.Kinds, generation int64, metrics bool) *catalog {
	c := &catalog{generation: generation}
	for kind := range kinds.Kinds() {
		if kind.Internal {
			continue
		}
		for i := range kind.Versions {
			gv := c.groupVersion(kind.Group, kind.Versions[i].Name)
			gv.resources = append(gv.resources, resourcesOf(kind, kind.Versions[i].Name)...)
		}
	}
	for _, v := range virtuals {
		gv := c.groupVersion(v.group, "v1")
		gv.resources = append(gv.resources, metav1.APIResource{
			Name: v.resource, SingularName: strings.ToLower(v.kind), Kind: v.kind, Verbs: metav1.Verbs{"create"},
		})
	}
	if metrics {
		for _, kind := range metricsKinds {
			gv := c.groupVersion(kind.Group, kind.Versions[0].Name)
			gv.resources = append(gv.resources, metav1.APIResource{
				Name: kind.Resource, Namespaced: kind.Namespaced, Kind: kind.Kind, Verbs: kind.Verbs,
			})
		}
	}
	slices.SortStableFunc(c.groups, func(a, b group) int { return cmp.Compare(a.name, b.name) })
	for i := range c.groups {
		for j := range c.groups[i].versions {
			slices.SortStableFunc(c.groups[i].versions[j].resources, func(a, b metav1.APIResource) int { return cmp.Compare(a.Name, b.Name) })
		}
	}
	return c
}

// groupVersion returns a place for resources, made if needed. It is valid
// until the next call.
func (c *catalog) groupVersion(name, version string) *groupVersion {
	at := slices.IndexFunc(c.groups, func(g group) bool { return g.name == name })
	if at < 0 {
		at = len(c.groups)
		c.groups = append(c.groups, group{name: name})
	}
	g := &c.groups[at]
	v := slices.IndexFunc(g.versions, func(v groupVersion) bool { return v.name == version })
	if v < 0 {
		v = len(g.versions)
		g.versions = append(g.versions, groupVersion{name: version})
	}
	return &g.versions[v]
}

func resourcesOf(kind *core.Kind, version string) []metav1.APIResource {
	sum := sha256.Sum256([]byte(kind.Group + "/" + version + "/" + kind.Kind))
	resources := []metav1.APIResource{{
		Name: kind.Resource, SingularName: kind.Singular, Namespaced: kind.Namespaced, Kind: kind.Kind,
		Verbs: verbsOf(kind), ShortNames: kind.ShortNames, Categories: kind.Categories,
		StorageVersionHash: hex.EncodeToString(sum[:6]),
	}}
	for _, sub := range kind.Subresources {
		r := metav1.APIResource{Name: kind.Resource + "/" + sub, Namespaced: kind.Namespaced, Kind: kind.Kind}
		r.Verbs = metav1.Verbs{"get", "patch", "update"}
		switch sub {
		case "scale":
			r.Group, r.Version, r.Kind = scaleKind.Group, scaleKind.Version, scaleKind.Kind
		case "log":
			r.Verbs = metav1.Verbs{"get"}
		case "binding":
			r.Kind, r.Verbs = bindingKind.Kind, metav1.Verbs{"create"}
		case "eviction":
			r.Group, r.Version, r.Kind, r.Verbs = evictionKind.Group, evictionKind.Version, evictionKind.Kind, metav1.Verbs{"create"}
		case "finalize":
			r.Verbs = metav1.Verbs{"update"}
		}
		resources = append(resources, r)
	}
	return resources
}

// servePath answers what is no resource: discovery, health, documents.
func (s *Server) servePath(w http.ResponseWriter, r *http.Request, q *request) error {
	path := strings.TrimSuffix(q.path, "/")
	if strings.HasPrefix(path, "/weft/v1/") {
		return s.serveWeft(w, r, path)
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return failure(http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed, "the server does not allow this method on the requested resource")
	}
	switch {
	case path == "/version":
		return s.serveVersion(w, r)
	case path == "/healthz" || path == "/livez" || path == "/readyz":
		return s.serveHealth(w, r, path)
	case path == "/metrics" && s.Counts != nil:
		s.Counts.ServeHTTP(w, r)
		return nil
	case path == "/openapi/v3" || strings.HasPrefix(path, "/openapi/v3/"):
		return s.serveOpenAPI(w, r, strings.TrimPrefix(strings.TrimPrefix(path, "/openapi/v3"), "/"))
	case path == "/openapi/v2":
		return serveOpenAPIV2(w, r)
	}
	return s.serveDiscovery(w, r, path)
}

func (s *Server) serveDiscovery(w http.ResponseWriter, r *http.Request, path string) error {
	c := s.current()
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case path == "":
		paths := c.paths()
		if s.Counts != nil {
			paths = append(paths, "/metrics")
			slices.Sort(paths)
		}
		return serveDocument(w, r, typeJSON, metav1.RootPaths{Paths: paths})
	case path == "/api" || path == "/apis":
		return c.serveGroups(w, r, path)
	case len(parts) == 2 && parts[0] == "api":
		return c.serveResources(w, r, schema.GroupVersion{Version: parts[1]})
	case len(parts) == 2 && parts[0] == "apis":
		for _, g := range c.groups {
			if g.name == parts[1] && g.name != "" {
				found := g.legacy()
				found.TypeMeta = metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}
				return serveDocument(w, r, typeJSON, found)
			}
		}
	case len(parts) == 3 && parts[0] == "apis":
		return c.serveResources(w, r, schema.GroupVersion{Group: parts[1], Version: parts[2]})
	}
	return errNoResource()
}

func (c *catalog) paths() []string {
	paths := []string{"/api", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version"}
	for _, g := range c.groups {
		if g.name != "" {
			paths = append(paths, "/apis/"+g.name)
		}
		for _, v := range g.versions {
			paths = append(paths, "/"+documentPath(g.name, v.name))
		}
	}
	slices.Sort(paths)
	return paths
}

func documentPath(group, version string) string {
	if group == "" {
		return "api/" + version
	}
	return "apis/" + group + "/" + version
}

func (g *group) legacy() metav1.APIGroup {
	found := metav1.APIGroup{Name: g.name}
	for _, v := range g.versions {
		found.Versions = append(found.Versions, metav1.GroupVersionForDiscovery{
			GroupVersion: schema.GroupVersion{Group: g.name, Version: v.name}.String(), Version: v.name,
		})
	}
	found.PreferredVersion = found.Versions[0]
	return found
}

// serveGroups answers /api and /apis, aggregated if the client asks so.
func (c *catalog) serveGroups(w http.ResponseWriter, r *http.Request, path string) error {
	w.Header().Add("Vary", "Accept")
	for _, m := range parseAccept(r.Header.Get("Accept")) {
		if m.kind != typeJSON && m.kind != typeAny && m.kind != "application/*" {
			continue
		}
		if m.params["as"] == "APIGroupDiscoveryList" && m.params["g"] == "apidiscovery.k8s.io" {
			if v := m.params["v"]; v == "v2" || v == "v2beta1" {
				list := c.aggregated(path == "/api")
				list.TypeMeta = metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: "apidiscovery.k8s.io/" + v}
				return serveDocument(w, r, typeJSON+";g=apidiscovery.k8s.io;v="+v+";as=APIGroupDiscoveryList", list)
			}
			continue
		}
		if m.params["as"] != "" {
			continue
		}
		return c.serveLegacyGroups(w, r, path)
	}
	return errNotAcceptable(typeJSON)
}

func (c *catalog) serveLegacyGroups(w http.ResponseWriter, r *http.Request, path string) error {
	if path == "/api" {
		return serveDocument(w, r, typeJSON, metav1.APIVersions{
			TypeMeta: metav1.TypeMeta{Kind: "APIVersions", APIVersion: "v1"}, Versions: []string{"v1"},
			ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{{ClientCIDR: "0.0.0.0/0", ServerAddress: r.Host}},
		})
	}
	list := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: []metav1.APIGroup{}}
	for i := range c.groups {
		if c.groups[i].name != "" {
			list.Groups = append(list.Groups, c.groups[i].legacy())
		}
	}
	return serveDocument(w, r, typeJSON, list)
}

func (c *catalog) aggregated(legacy bool) *apidiscoveryv2.APIGroupDiscoveryList {
	list := &apidiscoveryv2.APIGroupDiscoveryList{Items: []apidiscoveryv2.APIGroupDiscovery{}}
	for _, g := range c.groups {
		if (g.name == "") != legacy {
			continue
		}
		item := apidiscoveryv2.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: g.name}}
		for _, v := range g.versions {
			gv := schema.GroupVersion{Group: g.name, Version: v.name}
			item.Versions = append(item.Versions, apidiscoveryv2.APIVersionDiscovery{
				Version: v.name, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent, Resources: aggregate(gv, v.resources),
			})
		}
		list.Items = append(list.Items, item)
	}
	return list
}

func aggregate(gv schema.GroupVersion, resources []metav1.APIResource) []apidiscoveryv2.APIResourceDiscovery {
	var found []apidiscoveryv2.APIResourceDiscovery
	for _, r := range resources {
		kind := &metav1.GroupVersionKind{Group: gv.Group, Version: gv.Version, Kind: r.Kind}
		if r.Version != "" {
			kind.Group, kind.Version = r.Group, r.Version
		}
		if _, sub, ok := strings.Cut(r.Name, "/"); ok {
			last := &found[len(found)-1]
			last.Subresources = append(last.Subresources, apidiscoveryv2.APISubresourceDiscovery{
				Subresource: sub, ResponseKind: kind, Verbs: r.Verbs,
			})
			continue
		}
		scope := apidiscoveryv2.ScopeCluster
		if r.Namespaced {
			scope = apidiscoveryv2.ScopeNamespace
		}
		found = append(found, apidiscoveryv2.APIResourceDiscovery{
			Resource: r.Name, ResponseKind: kind, Scope: scope, SingularResource: r.SingularName,
			Verbs: r.Verbs, ShortNames: r.ShortNames, Categories: r.Categories,
		})
	}
	return found
}

func (c *catalog) serveResources(w http.ResponseWriter, r *http.Request, gv schema.GroupVersion) error {
	for _, g := range c.groups {
		for _, v := range g.versions {
			if g.name == gv.Group && v.name == gv.Version {
				return serveDocument(w, r, typeJSON, metav1.APIResourceList{
					TypeMeta:     metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"},
					GroupVersion: gv.String(), APIResources: v.resources,
				})
			}
		}
	}
	return errNoResource()
}

// serveDocument answers with JSON that clients keep by its ETag.
func serveDocument(w http.ResponseWriter, r *http.Request, contentType string, document any) error {
	data, err := json.Marshal(document)
	if err != nil {
		return fmt.Errorf("encode %T: %w", document, err)
	}
	if unchanged(w, r, data) {
		return nil
	}
	return answerBytes(w, r, http.StatusOK, contentType, append(data, '\n'))
}

// unchanged sets the ETag, and answers 304 if it is the client's.
func unchanged(w http.ResponseWriter, r *http.Request, data []byte) bool {
	sum := sha256.Sum256(data)
	tag := `"` + hex.EncodeToString(sum[:]) + `"`
	w.Header().Set("ETag", tag)
	for have := range strings.SplitSeq(r.Header.Get("If-None-Match"), ",") {
		if strings.TrimPrefix(strings.TrimSpace(have), "W/") == tag {
			w.WriteHeader(http.StatusNotModified)
			return true
		}
	}
	return false
}

func (s *Server) serveVersion(w http.ResponseWriter, r *http.Request) error {
	numbers := strings.SplitN(strings.TrimPrefix(s.Version, "v"), ".", 3)
	if len(numbers) < 2 {
		numbers = []string{"1", "36"}
	}
	return serveDocument(w, r, typeJSON, version.Info{
		Major: numbers[0], Minor: numbers[1], GitVersion: s.Version, GitTreeState: "clean",
		GoVersion: runtime.Version(), Compiler: runtime.Compiler, Platform: runtime.GOOS + "/" + runtime.GOARCH,
	})
}

func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request, path string) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	var notReady error
	if s.Ready != nil && path == "/readyz" {
		notReady = s.Ready()
	}
	if notReady != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	if r.URL.Query().Has("verbose") {
		s.writeChecks(w, strings.TrimPrefix(path, "/"), notReady)
		return nil
	}
	if notReady != nil {
		_, _ = fmt.Fprintf(w, "not ready: %v\n", notReady) // the client may be gone
		return nil
	}
	_, _ = w.Write([]byte("ok")) // the client may be gone
	return nil
}

// Check is one line of a verbose health answer.
type Check struct {
	Name string
	Err  error  // why it is not as it should be; it makes nobody unready
	Note string // what to know although all is well
}

// writeChecks writes what each check says, as Kubernetes does.
func (s *Server) writeChecks(w io.Writer, name string, notReady error) {
	checks := []Check{{Name: "ping"}}
	if s.Checks != nil {
		checks = append(checks, s.Checks()...)
	}
	verdict := "passed"
	if notReady != nil {
		checks = append(checks, Check{Name: "ready", Err: notReady})
		verdict = "failed"
	}
	for _, c := range checks {
		switch {
		case c.Err != nil:
			if notReady == nil {
				verdict = "passed, though not all is well"
			}
			_, _ = fmt.Fprintf(w, "[-]%s failed: %v\n", c.Name, c.Err) // the client may be gone
		case c.Note != "":
			_, _ = fmt.Fprintf(w, "[+]%s ok: %s\n", c.Name, c.Note)
		default:
			_, _ = fmt.Fprintf(w, "[+]%s ok\n", c.Name)
		}
	}
	_, _ = fmt.Fprintf(w, "%s check %s\n", name, verdict)
}
