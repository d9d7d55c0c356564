package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/core"
)

// call is one request and what must be in its answer.
type call struct {
	name         string
	method, path string
	header       map[string]string
	body         string
	code         int
	want         string // in the body; or
	wantHeader   string // "Name: value"
}

func (c call) do(t *testing.T, server *httptest.Server) {
	t.Helper()
	method := c.method
	if method == "" {
		method = http.MethodGet
	}
	request, err := http.NewRequestWithContext(t.Context(), method, server.URL+c.path, strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range c.header {
		request.Header.Set(k, v)
	}
	client := *server.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }() // only read
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != c.code || !strings.Contains(string(data), c.want) {
		t.Errorf("got %d %.600s\nwant %d %s", response.StatusCode, data, c.code, c.want)
	}
	if name, value, ok := strings.Cut(c.wantHeader, ": "); ok && response.Header.Get(name) != value {
		t.Errorf("header %s: got %q, want %q", name, response.Header.Get(name), value)
	}
	if c.code >= 400 {
		var status metav1.Status
		if err := json.Unmarshal(data, &status); err != nil || status.Kind != "Status" || int(status.Code) != c.code || status.Reason == "" {
			t.Errorf("no Status: %v, %s", err, data)
		}
	}
}

const (
	podsPath = "/api/v1/namespaces/default/pods"
	strictly = podsPath + "?fieldValidation=Strict"
)

func TestErrors(t *testing.T) {
	server, f, _ := serve(t, func(c *Config) { c.MaxBody = 1 << 20 })
	f.put(pod("a"))
	yamlBody := map[string]string{"Content-Type": typeYAML}
	for _, c := range []call{
		{name: "nobody", path: podsPath, header: map[string]string{"X-Nobody": "1"}, code: 401, want: `"message":"Unauthorized"`},
		{name: "forbidden", path: "/api/v1/secrets", code: 403, want: "secrets is forbidden"},
		{name: "impersonation", path: podsPath, header: map[string]string{"Impersonate-User": "root"}, code: 403, want: "impersonat"},
		{name: "unknown kind", path: "/api/v1/things", code: 404, want: "the server could not find the requested resource"},
		{name: "unknown path", path: "/x", code: 404, want: "could not find"},
		{name: "unknown subresource", path: podsPath + "/a/exec", code: 404, want: "could not find"},
		{name: "deep path", path: podsPath + "/a/log/x", code: 404, want: "could not find"},
		{name: "absent", path: podsPath + "/b", code: 404, want: `pods \"b\" not found`},
		{name: "method", method: "PUT", path: podsPath, code: 405, want: "MethodNotAllowed"},
		{name: "create without namespace", method: "POST", path: "/api/v1/pods", code: 405, want: "MethodNotAllowed"},
		{name: "bad version", path: "/api/v2/pods", code: 404, want: "could not find"},
		{name: "not acceptable", path: podsPath, header: map[string]string{"Accept": "text/html"}, code: 406, want: "only the following media types are accepted"},
		{name: "protobuf of custom", path: "/apis/example.com/v1/widgets", header: map[string]string{"Accept": typeProtobuf}, code: 406, want: "NotAcceptable"},
		{name: "body type", method: "POST", path: podsPath, header: map[string]string{"Content-Type": "text/plain"}, body: "x", code: 415, want: "the body of the request was in an unknown format"},
		{name: "patch type", method: "PATCH", path: podsPath + "/a", body: "{}", code: 415, want: "application/apply-patch+yaml"},
		{
			name: "strategic on custom", method: "PATCH", path: "/apis/example.com/v1/namespaces/default/widgets/a",
			header: map[string]string{"Content-Type": "application/strategic-merge-patch+json"}, body: "{}", code: 415, want: "merge-patch+json",
		},
		{name: "no JSON", method: "POST", path: podsPath, body: "{", code: 400, want: "must be of type Pod"},
		{name: "null", method: "POST", path: "/apis/example.com/v1/namespaces/default/widgets", body: "null", code: 400, want: "Widget"},
		{name: "wrong version", method: "POST", path: podsPath, body: `{"kind":"Pod","apiVersion":"apps/v1"}`, code: 400, want: "the API version in the data (apps/v1) does not match the expected API version (v1)"},
		{name: "wrong kind", method: "POST", path: podsPath, body: `{"kind":"ConfigMap","apiVersion":"v1"}`, code: 400, want: `ConfigMap in version \"v1\" cannot be handled as a Pod`},
		{name: "wrong type", method: "POST", path: podsPath, body: `{"kind":"Pod","apiVersion":"v1","spec":{"containers":3}}`, code: 400, want: `Pod in version \"v1\" cannot be handled as a Pod: json: cannot unmarshal number into Go struct field PodSpec.spec.containers`},
		{name: "unknown field", method: "POST", path: strictly, body: `{"kind":"Pod","apiVersion":"v1","spec":{"foo":1}}`, code: 400, want: `Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: unknown field \"spec.foo\"`},
		{name: "duplicate field", method: "POST", path: strictly, body: `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"x","name":"y"}}`, code: 400, want: `strict decoding error: duplicate field \"metadata.name\"`},
		{name: "duplicate in YAML", method: "POST", path: strictly, header: yamlBody, body: "kind: Pod\nmetadata:\n  name: x\n  name: z\n", code: 400, want: "already set in map"},
		{name: "custom metadata", method: "POST", path: "/apis/example.com/v1/namespaces/default/widgets", body: `{"metadata":{"labels":[1]}}`, code: 400, want: "metadata"},
		{name: "namespace", method: "POST", path: podsPath, body: `{"metadata":{"name":"x","namespace":"other"}}`, code: 400, want: "the namespace of the provided object does not match the namespace sent on the request"},
		{name: "name", method: "PUT", path: podsPath + "/a", body: `{"metadata":{"name":"x"}}`, code: 400, want: "the name of the object (x) does not match the name on the URL (a)"},
		{name: "dry run", method: "POST", path: podsPath + "?dryRun=Some", body: `{}`, code: 422, want: "Unsupported value"},
		{name: "field validation", method: "POST", path: podsPath + "?fieldValidation=x", body: `{}`, code: 422, want: "fieldValidation"},
		{name: "apply without manager", method: "PATCH", path: podsPath + "/a", header: map[string]string{"Content-Type": "application/apply-patch+yaml"}, body: `{}`, code: 422, want: "fieldManager"},
		{name: "force of a merge", method: "PATCH", path: podsPath + "/a?force=true", header: map[string]string{"Content-Type": "application/merge-patch+json"}, body: `{}`, code: 422, want: "may not be specified for non-apply patch"},
		{name: "labels", path: podsPath + "?labelSelector=a%20in", code: 400, want: "unable to parse"},
		{name: "fields", path: podsPath + "?fieldSelector=spec.foo%3D1", code: 400, want: `"message":"field label not supported: spec.foo"`},
		{name: "limit", path: podsPath + "?limit=x", code: 400, want: "limit"},
		{name: "continue", path: podsPath + "?limit=1&continue=xx", code: 400, want: "continue"},
		{name: "revision", path: podsPath + "?resourceVersion=x", code: 400, want: "resourceVersion"},
		{name: "match", path: podsPath + "?resourceVersionMatch=Exact", code: 422, want: "resourceVersionMatch is forbidden unless resourceVersion is provided"},
		{name: "list with initial events", path: podsPath + "?sendInitialEvents=true", code: 422, want: "sendInitialEvents is forbidden for list"},
		{name: "watch-list without match", path: podsPath + "?watch=1&sendInitialEvents=true", code: 422, want: "resourceVersionMatch"},
		{name: "exact and gone", path: podsPath + "?resourceVersion=50&resourceVersionMatch=Exact", code: 410, want: "Expired"},
		{name: "include", path: podsPath + "/a?includeObject=x", header: map[string]string{"Accept": typeJSON + ";as=Table;v=v1;g=meta.k8s.io"}, code: 400, want: "includeObject"},
		{name: "too large", method: "POST", path: podsPath, body: strings.Repeat(" ", 2<<20), code: 413, want: "limit is 1048576"},
		{name: "deep", method: "POST", path: podsPath, body: strings.Repeat(`{"a":`, 5000), code: 400, want: "nests deeper"},
		{name: "deep YAML", method: "POST", path: podsPath, header: yamlBody, body: "a: " + strings.Repeat(`[`, 50000), code: 400, want: "nests deeper"},
		{name: "encoded body", method: "POST", path: podsPath, header: map[string]string{"Content-Encoding": "gzip"}, body: "x", code: 415, want: "gzip"},
		{name: "long URL", path: podsPath + "?x=" + strings.Repeat("a", 20000), code: 414, want: "longer"},
		{name: "delete options", method: "DELETE", path: podsPath + "/a", body: `{"kind":"Pod"}`, code: 400, want: "DeleteOptions"},
		{name: "propagation", method: "DELETE", path: podsPath + "/a?propagationPolicy=x", code: 422, want: "propagationPolicy"},
		{name: "scale", path: "/apis/apps/v1/namespaces/default/deployments/x/scale", code: 503, want: "scale"},
		{name: "logs", path: podsPath + "/a/log", code: 503, want: "logs"},
		{name: "no blobs", path: "/weft/v1/blobs", code: 404, want: "could not find"},
		{name: "OpenAPI v2", path: "/openapi/v2", code: 200, want: `"paths":{}`},
	} {
		t.Run(c.name, func(t *testing.T) { c.do(t, server) })
	}
}

func TestAliasBomb(t *testing.T) {
	server, _, _ := serve(t, nil)
	var bomb strings.Builder
	bomb.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 12; i++ {
		fmt.Fprintf(&bomb, "a%d: &a%d [%s*a%d]\n", i, i, strings.Repeat(fmt.Sprintf("*a%d,", i-1), 9), i-1)
	}
	call{
		method: "POST", path: podsPath, header: map[string]string{"Content-Type": typeYAML},
		body: bomb.String(), code: 400, want: "expands to more than",
	}.do(t, server)
}

func TestAnswers(t *testing.T) {
	server, f, _ := serve(t, nil)
	f.put(pod("a"))
	table := map[string]string{"Accept": typeJSON + ";as=Table;v=v1;g=meta.k8s.io," + typeJSON}
	for _, c := range []call{
		{name: "table", path: podsPath, header: table, code: 200, want: `"rows":[{"cells":["a",""],"object":{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1"`},
		{name: "table of one", path: podsPath + "/a?includeObject=Object", header: table, code: 200, want: `"object":{"kind":"Pod"`},
		{name: "default columns", path: "/apis/example.com/v1/widgets", header: table, code: 200, want: `"name":"Age"`},
		{name: "table without objects", path: podsPath + "?includeObject=None", header: table, code: 200, want: `"object":null`},
		{name: "old table", path: podsPath, header: map[string]string{"Accept": typeJSON + ";as=Table;v=v1beta1;g=meta.k8s.io"}, code: 200, want: `"apiVersion":"meta.k8s.io/v1beta1"`},
		{name: "metadata", path: podsPath, header: map[string]string{"Accept": typeJSON + ";as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}, code: 200, want: `"kind":"PartialObjectMetadataList"`},
		{name: "yaml", path: podsPath + "/a", header: map[string]string{"Accept": typeYAML}, code: 200, want: "\nkind: Pod\n", wantHeader: "Content-Type: application/yaml"},
		{name: "yaml list", path: podsPath, header: map[string]string{"Accept": typeYAML}, code: 200, want: "kind: PodList"},
		{name: "weighted", path: podsPath, header: map[string]string{"Accept": typeYAML + ";q=0.5," + typeJSON}, code: 200, want: `{"kind":"PodList"`},
		{name: "fallback", path: "/apis/example.com/v1/widgets", header: map[string]string{"Accept": typeProtobuf + "," + typeJSON}, code: 200, want: `{"kind":"WidgetList","apiVersion":"example.com/v1"`},
		{name: "warning", method: "POST", path: podsPath, body: `{"metadata":{"name":"w","annotations":{"warn":"mind \"this\""}}}`, code: 201, wantHeader: `Warning: 299 - "mind \"this\""`},
		{name: "lenient", method: "POST", path: podsPath, body: `{"metadata":{"name":"l"},"spec":{"foo":1}}`, code: 201, wantHeader: `Warning: 299 - "unknown field \"spec.foo\""`},
		{name: "from YAML", method: "POST", path: podsPath, header: map[string]string{"Content-Type": typeYAML}, body: "metadata: {name: z}\nspec: {containers: [{name: a}]}\n", code: 201, want: `"name":"z"`},
		{name: "apply in YAML", method: "PATCH", path: podsPath + "/a?fieldManager=x", header: map[string]string{"Content-Type": "application/apply-patch+yaml"}, body: "metadata: {name: a}\n", code: 200, want: `"patched":"yes"`},
		{name: "deleted", method: "DELETE", path: "/api/v1/namespaces/default/configmaps/none", code: 404},
		{name: "version", path: "/version", code: 200, want: `"gitVersion":"v1.36.6+weft"`},
		{name: "health", path: "/healthz", code: 200, want: "ok"},
		{name: "aggregated", path: "/apis", header: map[string]string{"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}, code: 200, want: `"resource":"widgets"`, wantHeader: "Content-Type: application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"},
		{name: "openapi moved", path: "/openapi/v3/api/v1?hash=x", header: map[string]string{"Accept": typeJSON}, code: 301},
		{name: "group", path: "/apis/apps", code: 200, want: `"kind":"APIGroup"`},
		{name: "root", path: "/", code: 200, want: `"/apis/apps/v1"`},
	} {
		if c.code >= 400 && c.want == "" {
			c.want = "not found"
		}
		t.Run(c.name, func(t *testing.T) { c.do(t, server) })
	}
	if string(f.patched[0].Data) != `{"metadata":{"name":"a"}}` {
		t.Errorf("an apply in YAML reached the client as %s", f.patched[0].Data)
	}
}

func TestUnchangedDocuments(t *testing.T) {
	server, f, _ := serve(t, nil)
	for _, path := range []string{"/api", "/apis", "/api/v1", "/openapi/v3", "/openapi/v3/api/v1"} {
		response, err := server.Client().Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close() // only the header counts
		tag := response.Header.Get("ETag")
		call{path: path, header: map[string]string{"If-None-Match": tag}, code: 304}.do(t, server)
	}
	f.mu.Lock()
	f.generation++
	f.mu.Unlock()
	call{path: "/apis", code: 200, want: "example.com"}.do(t, server)
}

func TestPages(t *testing.T) {
	server, f, s := serve(t, nil)
	for _, name := range []string{"a", "b", "c"} {
		f.put(pod(name))
	}
	list := func(query string) corev1.PodList {
		t.Helper()
		var l corev1.PodList
		response, err := server.Client().Get(server.URL + podsPath + "?limit=2" + query)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }() // only read
		if err := json.NewDecoder(response.Body).Decode(&l); err != nil {
			t.Fatal(err)
		}
		return l
	}
	first := list("")
	if len(first.Items) != 2 || first.Continue == "" || *first.RemainingItemCount != 1 {
		t.Fatalf("first page: %+v", first.ListMeta)
	}
	f.put(pod("d"))
	second := list("&continue=" + url.QueryEscape(first.Continue))
	if len(second.Items) != 1 || second.Items[0].Name != "c" || second.ResourceVersion != first.ResourceVersion || second.Continue != "" {
		t.Errorf("the second page is not of the first one's state: %+v", second)
	}
	s.pages.age(time.Now().Add(time.Hour))
	expired := call{path: podsPath + "?limit=2&continue=" + url.QueryEscape(first.Continue), code: 410, want: `"continue":"`}
	expired.do(t, server)
	again := token{Revision: -1, Namespace: "default", Name: "b"}.String()
	if rest := list("&continue=" + again); len(rest.Items) != 2 {
		t.Errorf("inconsistent rest: %+v", rest)
	}
}

func TestTooNew(t *testing.T) {
	server, _, _ := serve(t, nil)
	call{path: podsPath + "?resourceVersion=9999&timeout=200ms", code: 504}.do(t, server)
}

// TestOvertaken: a server that may not know the newest state, because it stood
// still or was cut off while another one began to lead, tells none.
func TestOvertaken(t *testing.T) {
	server, f, _ := serve(t, func(c *Config) { c.Scale = scales{} })
	f.put(pod("a"))
	f.mu.Lock()
	f.overtaken = true
	f.mu.Unlock()
	page := token{Revision: -1, Namespace: "default", Name: "a"}.String()
	for _, path := range []string{
		podsPath + "/a", podsPath, podsPath + "?watch=1&timeoutSeconds=1", podsPath + "?limit=1&continue=" + page,
		"/apis/apps/v1/namespaces/default/deployments/a/scale",
	} {
		t.Run(path, func(t *testing.T) { call{path: path, code: 503, want: "leads no longer"}.do(t, server) })
	}
}

// scales answers for any object.
type scales struct{}

func (scales) Scale(core.Key) (*autoscalingv1.Scale, error) { return &autoscalingv1.Scale{}, nil }

func TestCounts(t *testing.T) {
	server, _, _ := serve(t, func(c *Config) {
		c.Counts = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "counted 1") })
	})
	call{path: "/metrics", code: 200, want: "counted 1"}.do(t, server)
	call{path: "/", code: 200, want: `"/metrics"`}.do(t, server)
	call{method: http.MethodPost, path: "/metrics", code: 405}.do(t, server)
	server, _, _ = serve(t, func(*Config) {})
	call{path: "/metrics", code: 404}.do(t, server)
}

func TestPanicsAndInflight(t *testing.T) {
	release := make(chan struct{})
	entered := make(chan struct{})
	server, _, _ := serve(t, func(c *Config) {
		c.MaxInflight = 1
		c.Ready = func() error {
			entered <- struct{}{}
			<-release
			panic("on purpose")
		}
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		call{path: "/readyz", code: 500, want: "caused a panic"}.do(t, server)
	}()
	<-entered
	call{path: "/healthz", code: 429, wantHeader: "Retry-After: 1"}.do(t, server)
	close(release)
	<-done
	call{path: "/healthz", code: 200, want: "ok"}.do(t, server)
}

type logs struct{}

func (logs) Logs(_ context.Context, _ *corev1.Pod, q core.LogQuery, w io.Writer) error {
	if q.Container == "broken" {
		return errors.New("the node is away")
	}
	_, err := fmt.Fprintf(w, "%s follow=%v tail=%d\n", q.Container, q.Follow, *q.TailLines)
	return err
}

func TestLogs(t *testing.T) {
	server, f, _ := serve(t, func(c *Config) { c.Logs = logs{} })
	f.put(pod("unbound"))
	running := pod("p")
	running.Spec.NodeName, running.Status.Phase = "n", corev1.PodRunning
	running.Spec.Containers = []corev1.Container{{Name: "a"}, {Name: "b"}, {Name: "broken"}}
	running.Status.ContainerStatuses = []corev1.ContainerStatus{
		{Name: "a", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
		{Name: "b", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}},
		{Name: "broken", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}},
	}
	f.put(running)
	starting := pod("s")
	starting.Spec.NodeName = "n"
	f.put(starting)
	for _, c := range []call{
		{name: "lines", path: "/p/log?container=a&tailLines=5", code: 200, want: "a follow=false tail=5", wantHeader: "Content-Type: text/plain"},
		{name: "follow", path: "/p/log?container=a&tailLines=5&follow=true", code: 200, want: "follow=true"},
		{name: "which", path: "/p/log", code: 400, want: "a container name must be specified for pod p, choose one of: [a b broken]"},
		{name: "unknown", path: "/p/log?container=x", code: 400, want: "container x is not valid for pod p"},
		{name: "waiting", path: "/p/log?container=b", code: 400, want: `container \"b\" in pod \"p\" is waiting to start: trying and failing to pull image`},
		{name: "creating", path: "/s/log", code: 400, want: `container \"a\" in pod \"s\" is waiting to start: ContainerCreating`},
		{name: "previous", path: "/p/log?container=a&previous=true", code: 400, want: `previous terminated container \"a\" in pod \"p\" not found`},
		{name: "unbound", path: "/unbound/log", code: 204},
		{name: "broken", path: "/p/log?container=broken", code: 500, want: "the node is away"},
		{name: "tail", path: "/p/log?tailLines=-1", code: 422, want: "must be greater than or equal to 0"},
		{name: "since", path: "/p/log?sinceSeconds=1&sinceTime=2020-01-01T00:00:00Z", code: 422, want: "at most one of"},
		{name: "bytes", path: "/p/log?limitBytes=0", code: 422, want: "must be greater than 0"},
	} {
		c.path = podsPath + c.path
		t.Run(c.name, func(t *testing.T) { c.do(t, server) })
	}
}

type blobs map[string]string

func (b blobs) PutBlob(_ context.Context, name string, _ int64, r io.Reader) (bus.BlobInfo, error) {
	data, err := io.ReadAll(r)
	b[name] = string(data)
	return bus.BlobInfo{Name: name, Size: int64(len(data))}, err
}

func (b blobs) GetBlob(context.Context, string) (bus.BlobInfo, io.ReadCloser, error) {
	return bus.BlobInfo{}, nil, bus.ErrNotFound
}

func (b blobs) ListBlobs(context.Context) ([]bus.BlobInfo, error) {
	var all []bus.BlobInfo
	for name, data := range b {
		all = append(all, bus.BlobInfo{Name: name, Size: int64(len(data))})
	}
	return all, nil
}

type planner struct{}

func (planner) Plan(_ context.Context, objects []core.Object) (any, error) {
	return map[string]string{"first": fmt.Sprintf("%T", objects[0])}, nil
}

func TestWeftEndpoints(t *testing.T) {
	dir := t.TempDir()
	server, _, _ := serve(t, func(c *Config) { c.Blobs, c.Plan, c.MaxBlob, c.SpoolDir = blobs{}, planner{}, 10, dir })
	const digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	for _, c := range []call{
		{method: "PUT", path: "/weft/v1/blobs", body: "abc", code: 200, want: `{"digest":"` + digest + `","size":3}`},
		{method: "PUT", path: "/weft/v1/blobs?digest=sha256:00", body: "abc", code: 400, want: "digest"},
		{method: "PUT", path: "/weft/v1/blobs", body: "", code: 400, want: "empty"},
		{method: "PUT", path: "/weft/v1/blobs", body: "abcdefghijk", code: 413, want: "limit is 10"},
		{path: "/weft/v1/blobs", code: 200, want: digest},
		{method: "POST", path: "/weft/v1/blobs", code: 405},
		{method: "POST", path: "/weft/v1/plan", body: `{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}]}`, code: 200, want: `{"first":"*v1.Pod"}`},
		{method: "POST", path: "/weft/v1/plan", body: `{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Pod","spec":{"x":1}}]}`, code: 400, want: `items[0]: Pod in version`},
		{method: "POST", path: "/weft/v1/plan", body: `{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Secret"}]}`, code: 403, want: "secrets"},
		{method: "POST", path: "/weft/v1/plan", body: `{"apiVersion":"v1","kind":"Pod"}`, code: 400, want: "a List of v1 is wanted"},
	} {
		t.Run(c.method+c.body, func(t *testing.T) { c.do(t, server) })
	}
}

func TestSelfReviews(t *testing.T) {
	server, _, _ := serve(t, nil)
	call{method: "POST", path: "/apis/authentication.k8s.io/v1/selfsubjectreviews", body: `{}`, code: 201, want: `"username":"tester"`}.do(t, server)
	review := `{"spec":{"resourceAttributes":{"verb":"get","resource":"%s"}}}`
	call{method: "POST", path: "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body: fmt.Sprintf(review, "pods"), code: 201, want: `"allowed":true`}.do(t, server)
	call{method: "POST", path: "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body: fmt.Sprintf(review, "secrets"), code: 201, want: `"allowed":false`}.do(t, server)
}
