package apiserver_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/memory"
	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/apiserver"
	"github.com/weftrun/weft/core/auth"
	"github.com/weftrun/weft/core/registry"
	"github.com/weftrun/weft/core/store"
)

// cluster is a whole write path behind a real server.
type cluster struct {
	registry *registry.Registry
	admin    *rest.Config
	reader   *rest.Config
}

// start runs a store in memory, the registry and the server until the test
// ends.
func start(t testing.TB) *cluster {
	t.Helper()
	run := func(f func(context.Context) error) {
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		done := make(chan error)
		go func() { done <- f(ctx) }()
		t.Cleanup(func() { // the last that began stops first
			cancel()
			if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	s := openStore(t)
	run(s.Run)
	reg, err := registry.New(registry.Config{Store: s, Strategies: registry.Builtin()})
	if err != nil {
		t.Fatal(err)
	}
	run(reg.Run)
	user := core.WithUser(t.Context(), core.System("test"))
	namespace := &corev1.Namespace{TypeMeta: metav1.TypeMeta{Kind: "Namespace", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if _, err := reg.Create(user, namespace, core.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	c := &cluster{registry: reg}
	run(c.serve(t, reg))
	return c
}

func openStore(t testing.TB) *store.Store {
	t.Helper()
	hub := memory.New()
	conn := hub.Connect(bus.Identity{Role: bus.RoleCore, Name: "core"})
	wal, err := conn.OpenLog(t.Context(), "WAL")
	if err != nil {
		t.Fatal(err)
	}
	snapshots, err := conn.OpenLog(t.Context(), "SNAPSHOTS")
	if err != nil {
		t.Fatal(err)
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // it never fails
	key, err := store.NewKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), store.Config{Log: wal, Snapshots: snapshots, Key: key, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serve makes certificates and a server, and returns what runs it.
func (c *cluster) serve(t testing.TB, reg *registry.Registry) func(context.Context) error {
	t.Helper()
	dir := t.TempDir()
	ca, err := auth.OpenAuthority(filepath.Join(dir, "pki"))
	if err != nil {
		t.Fatal(err)
	}
	settings, err := ca.ServerConfig("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	server, err := apiserver.New(apiserver.Config{
		Client: reg, Scale: reg, Convert: reg, Authenticate: &auth.Authenticator{}, Authorize: auth.Roles{}, TLS: settings,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config := func(user core.User) *rest.Config {
		path := filepath.Join(dir, user.Name)
		k := auth.Kubeconfig{Server: "https://" + l.Addr().String(), Authority: ca, User: user}
		if err := k.WriteFile(path); err != nil {
			t.Fatal(err)
		}
		config, err := clientcmd.BuildConfigFromFlags("", path)
		if err != nil {
			t.Fatal(err)
		}
		config.QPS = -1
		return config
	}
	c.admin = config(core.User{Name: "admin", Groups: []string{core.GroupAdmins}})
	c.reader = config(core.User{Name: "rita", Groups: []string{core.GroupReaders}})
	return func(ctx context.Context) error { return server.Serve(ctx, l) }
}

const deployment = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":2,
	"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},
	"spec":{"containers":[{"name":"c","image":"x.wasm"}]}}}}`

func TestPatchesOverTheRealWritePath(t *testing.T) {
	c := start(t)
	client := kubernetes.NewForConfigOrDie(c.admin)
	deployments := client.AppsV1().Deployments("default")
	yes := true
	for _, p := range []struct {
		name    string
		kind    types.PatchType
		data    string
		options metav1.PatchOptions
		image   string
	}{
		{"apply", types.ApplyPatchType, deployment, metav1.PatchOptions{FieldManager: "a"}, "x.wasm"},
		{"apply again", types.ApplyPatchType, strings.ReplaceAll(deployment, "x.wasm", "y.wasm"), metav1.PatchOptions{FieldManager: "b", Force: &yes}, "y.wasm"},
		{"strategic", types.StrategicMergePatchType, `{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"z.wasm"}]}}}}`, metav1.PatchOptions{}, "z.wasm"},
		{"json", types.JSONPatchType, `[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"w.wasm"}]`, metav1.PatchOptions{}, "w.wasm"},
		{"merge", types.MergePatchType, `{"metadata":{"labels":{"a":"b"}}}`, metav1.PatchOptions{}, "w.wasm"},
		{"dry run", types.MergePatchType, `{"spec":{"paused":true}}`, metav1.PatchOptions{DryRun: []string{"All"}}, "w.wasm"},
	} {
		patched, err := deployments.Patch(t.Context(), "web", p.kind, []byte(p.data), p.options)
		if err != nil {
			t.Fatalf("%s: %v", p.name, err)
		}
		if got := patched.Spec.Template.Spec.Containers[0].Image; got != p.image || len(patched.Spec.Template.Spec.Containers) != 1 {
			t.Errorf("%s: image %s, want %s", p.name, got, p.image)
		}
	}
	_, err := deployments.Patch(t.Context(), "web", types.ApplyPatchType, []byte(deployment), metav1.PatchOptions{FieldManager: "c"})
	if !apierrors.IsConflict(err) {
		t.Errorf("an apply over others' fields: %v", err)
	}
	got, err := deployments.Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil || got.Spec.Paused || got.Labels["a"] != "b" {
		t.Errorf("after a dry run: %+v, %v", got, err)
	}
	_, err = deployments.Patch(t.Context(), "web", types.MergePatchType, []byte(`{"spec":{"foo":1}}`), metav1.PatchOptions{FieldValidation: "Strict"})
	if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), `strict decoding error: unknown field "spec.foo"`) {
		t.Errorf("a strict patch: %v", err)
	}
}

func TestScaleOverTheRealWritePath(t *testing.T) {
	c := start(t)
	client := kubernetes.NewForConfigOrDie(c.admin)
	deployments := client.AppsV1().Deployments("default")
	if _, err := deployments.Patch(t.Context(), "web", types.ApplyPatchType, []byte(deployment), metav1.PatchOptions{FieldManager: "a"}); err != nil {
		t.Fatal(err)
	}
	scale, err := deployments.GetScale(t.Context(), "web", metav1.GetOptions{})
	if err != nil || scale.Spec.Replicas != 2 {
		t.Fatalf("scale %+v, %v", scale, err)
	}
	scale.Spec.Replicas = 9
	dry, err := deployments.UpdateScale(t.Context(), "web", scale, metav1.UpdateOptions{DryRun: []string{"All"}})
	if err != nil || dry.Spec.Replicas != 9 {
		t.Errorf("a dry run: %+v, %v", dry, err)
	}
	scale.Spec.Replicas = 5
	if scale, err = deployments.UpdateScale(t.Context(), "web", scale, metav1.UpdateOptions{}); err != nil || scale.Spec.Replicas != 5 {
		t.Errorf("updated scale %+v, %v", scale, err)
	}
	var patched autoscalingv1.Scale
	data, err := client.AppsV1().RESTClient().Patch(types.MergePatchType).Namespace("default").Resource("deployments").Name("web").
		SubResource("scale").Body([]byte(`{"spec":{"replicas":7}}`)).Do(t.Context()).Raw()
	if err == nil {
		err = json.Unmarshal(data, &patched)
	}
	if err != nil || patched.Spec.Replicas != 7 {
		t.Errorf("patched scale %s, %v", data, err)
	}
	if got, err := deployments.Get(t.Context(), "web", metav1.GetOptions{}); err != nil || *got.Spec.Replicas != 7 {
		t.Errorf("deployment %+v, %v", got, err)
	}
}

func TestPodsOverTheRealWritePath(t *testing.T) {
	c := start(t)
	client := kubernetes.NewForConfigOrDie(c.admin)
	pods := client.CoreV1().Pods("default")
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "p-"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "x"}}}}
	made, err := pods.Create(t.Context(), p, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(made.Name, "p-") || made.Status.Phase != corev1.PodPending {
		t.Errorf("made %+v", made)
	}
	bind := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: made.Name}, Target: corev1.ObjectReference{Kind: "Node", Name: "n"}}
	if err := pods.Bind(t.Context(), bind, metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
	bound, err := pods.Get(t.Context(), made.Name, metav1.GetOptions{})
	if err != nil || bound.Spec.NodeName != "n" {
		t.Fatalf("bound %+v, %v", bound, err)
	}
	bound.Status.Phase = corev1.PodRunning
	if shown, err := pods.UpdateStatus(t.Context(), bound, metav1.UpdateOptions{}); err != nil || shown.Status.Phase != corev1.PodRunning {
		t.Errorf("status %+v, %v", shown, err)
	}
	on, err := pods.List(t.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=n,status.phase!=Failed"})
	if err != nil || len(on.Items) != 1 {
		t.Errorf("on the node: %+v, %v", on, err)
	}
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: made.Name, Namespace: "default"}}
	if err := pods.EvictV1(t.Context(), eviction); err != nil {
		t.Error(err)
	}
	going, err := pods.Get(t.Context(), made.Name, metav1.GetOptions{})
	if err != nil || going.DeletionTimestamp == nil {
		t.Errorf("evicted %+v, %v", going, err)
	}
	_, err = pods.Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "A"}}, metav1.CreateOptions{})
	if !apierrors.IsInvalid(err) {
		t.Errorf("an invalid pod: %v", err)
	}
}

func TestReaderOverTheRealWritePath(t *testing.T) {
	c := start(t)
	client := kubernetes.NewForConfigOrDie(c.reader)
	if _, err := client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
	_, err := client.CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{})
	if want := `secrets is forbidden: User "rita" cannot list resource "secrets" in API group "" in the namespace "default"`; err == nil || err.Error() != want {
		t.Errorf("secrets: %v", err)
	}
	if err := client.CoreV1().Namespaces().Delete(t.Context(), "default", metav1.DeleteOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("delete: %v", err)
	}
}

func TestCustomKindOverTheRealWritePath(t *testing.T) {
	c := start(t)
	yes := true
	definition := &apiextensionsv1.CustomResourceDefinition{
		TypeMeta:   metav1.TypeMeta{Kind: "CustomResourceDefinition", APIVersion: "apiextensions.k8s.io/v1"},
		ObjectMeta: metav1.ObjectMeta{Name: "widgets.example.com"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "example.com", Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "widgets", Kind: "Widget", Singular: "widget", ListKind: "WidgetList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true,
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
					Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{
						"spec": {Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{"size": {Type: "integer"}, "any": {Type: "object", XPreserveUnknownFields: &yes}}},
					},
				}},
				AdditionalPrinterColumns: []apiextensionsv1.CustomResourceColumnDefinition{{Name: "Size", Type: "integer", JSONPath: ".spec.size"}},
			}},
		},
	}
	content, err := json.Marshal(definition)
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal(content, &u.Object); err != nil {
		t.Fatal(err)
	}
	client := dynamic.NewForConfigOrDie(c.admin)
	definitions := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	if _, err := client.Resource(definitions).Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	widgets := client.Resource(schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "widgets"}).Namespace("default")
	widget := func(name, field string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "example.com/v1", "kind": "Widget", "metadata": map[string]any{"name": name}, "spec": map[string]any{field: int64(3)},
		}}
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) { // real sockets: no bubble
		if _, err = widgets.Create(t.Context(), widget("w", "size"), metav1.CreateOptions{}); err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = widgets.Create(t.Context(), widget("v", "foo"), metav1.CreateOptions{FieldValidation: "Strict"})
	if !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), "spec.foo") {
		t.Errorf("an unknown field: %v", err)
	}
	if _, err := widgets.Patch(t.Context(), "w", types.MergePatchType, []byte(`{"spec":{"size":4}}`), metav1.PatchOptions{}); err != nil {
		t.Error(err)
	}
	if got, err := widgets.Get(t.Context(), "w", metav1.GetOptions{}); err != nil || got.Object["spec"].(map[string]any)["size"] != int64(4) {
		t.Errorf("got %v, %v", got, err)
	}
	table, err := rawTable(t, c.admin)
	if err != nil || !strings.Contains(table, `"cells":["w",4]`) && !strings.Contains(table, `"cells":["w",4,`) {
		t.Errorf("table %s, %v", table, err)
	}
}

func rawTable(t *testing.T, config *rest.Config) (string, error) {
	t.Helper()
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return "", err
	}
	request, err := newRequest(t.Context(), config.Host+"/apis/example.com/v1/widgets")
	if err != nil {
		return "", err
	}
	request.Header.Set("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }() // only read
	if response.ProtoMajor != 2 {
		t.Errorf("the protocol is %s, not HTTP/2", response.Proto)
	}
	data, err := io.ReadAll(response.Body)
	return string(data), err
}

func newRequest(ctx context.Context, url string) (*http.Request, error) {
	return http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
}

// TestWatchEndsWithServe checks that a watch does not hold up the end, and
// that its client is told by an end of the stream, not by an error.
func TestWatchEndsWithServe(t *testing.T) {
	var w interface{ ResultChan() <-chan watch.Event }
	began := time.Now()
	t.Run("cluster", func(t *testing.T) {
		c := start(t)
		client := kubernetes.NewForConfigOrDie(c.admin)
		var err error
		w, err = client.CoreV1().Pods("").Watch(context.WithoutCancel(t.Context()), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		began = time.Now()
	})
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("the end took %v", took)
	}
	if e, ok := <-w.ResultChan(); ok {
		t.Errorf("got %+v", e)
	}
}
