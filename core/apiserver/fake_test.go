package apiserver

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/weftrun/weft/core"
)

// fake is a core.Client over maps, for tests of what the server makes of it.
type fake struct {
	kinds []*core.Kind

	mu         sync.Mutex // guards the fields below
	wake       *sync.Cond
	generation int64
	revision   int64
	floor      int64
	objects    map[core.Key]core.Object
	log        []core.Change
	patched    []core.Patch
	options    core.WriteOptions
	snapshot   *fakeSnapshot // of the newest revision, or nil
	overtaken  bool          // another core may lead
}

func newFake() *fake {
	f := &fake{objects: map[core.Key]core.Object{}, revision: 100, floor: 100}
	f.wake = sync.NewCond(&f.mu)
	f.kinds = []*core.Kind{
		builtin("", "v1", "ConfigMap", "configmaps", true),
		builtin("", "v1", "Namespace", "namespaces", false),
		builtin("", "v1", "Pod", "pods", true, "log", "status", "binding", "eviction"),
		builtin("", "v1", "Secret", "secrets", true),
		builtin("apps", "v1", "Deployment", "deployments", true, "scale", "status"),
		widgets(),
	}
	f.kinds[2].ShortNames = []string{"po"}
	f.kinds[2].Fields = func(o core.Object) map[string]string {
		p := o.(*corev1.Pod)
		return map[string]string{"spec.nodeName": p.Spec.NodeName, "status.phase": string(p.Status.Phase)}
	}
	f.kinds[2].Versions[0].Columns = []metav1.TableColumnDefinition{{Name: "Name", Type: "string"}, {Name: "Status", Type: "string"}}
	f.kinds[2].Versions[0].Cells = func(o core.Object, _ time.Time) []any {
		return []any{o.GetName(), string(o.(*corev1.Pod).Status.Phase)}
	}
	return f
}

func builtin(group, version, kind, resource string, namespaced bool, subresources ...string) *core.Kind {
	return &core.Kind{
		Group: group, Kind: kind, ListKind: kind + "List", Resource: resource, Singular: strings.ToLower(kind),
		Namespaced: namespaced, Storage: version, Versions: []core.Version{{Name: version}}, Subresources: subresources,
	}
}

func widgets() *core.Kind {
	k := builtin("example.com", "v1", "Widget", "widgets", true, "status")
	k.Custom = true
	k.Versions[0].Schema = widgetSchema()
	return k
}

func (f *fake) Kinds() iter.Seq[*core.Kind] { return slices.Values(f.kinds) }
func (f *fake) Generation() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.generation
}

func (f *fake) KindOf(r core.GroupResource) (*core.Kind, bool) {
	at := slices.IndexFunc(f.kinds, func(k *core.Kind) bool { return k.GroupResource() == r })
	if at < 0 {
		return nil, false
	}
	return f.kinds[at], true
}

func (f *fake) KindNamed(gk schema.GroupKind) (*core.Kind, bool) {
	at := slices.IndexFunc(f.kinds, func(k *core.Kind) bool { return k.Group == gk.Group && k.Kind == gk.Kind })
	if at < 0 {
		return nil, false
	}
	return f.kinds[at], true
}

type fakeSnapshot struct {
	revision int64
	keys     []core.Key
	objects  map[core.Key]core.Object
}

func (f *fake) Snapshot() core.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.snapshot != nil {
		return f.snapshot
	}
	s := &fakeSnapshot{revision: f.revision, objects: map[core.Key]core.Object{}}
	for k, o := range f.objects {
		s.keys = append(s.keys, k)
		s.objects[k] = o
	}
	slices.SortFunc(s.keys, func(a, b core.Key) int {
		if a.Less(b) {
			return -1
		}
		return 1
	})
	f.snapshot = s
	return s
}

func (s *fakeSnapshot) Revision() int64 { return s.revision }
func (s *fakeSnapshot) Get(k core.Key) (core.Object, bool) {
	o, ok := s.objects[k]
	return o, ok
}

func (s *fakeSnapshot) List(r core.GroupResource, namespace string) iter.Seq2[core.Key, core.Object] {
	return func(yield func(core.Key, core.Object) bool) {
		for _, k := range s.keys {
			if k.GroupResource() == r && (namespace == "" || namespace == k.Namespace) && !yield(k, s.objects[k]) {
				return
			}
		}
	}
}

func (s *fakeSnapshot) Indexed(_ core.Index, node string) iter.Seq2[core.Key, core.Object] {
	return func(yield func(core.Key, core.Object) bool) {
		for k, o := range s.List(core.Pods, "") {
			if o.(*corev1.Pod).Spec.NodeName == node && !yield(k, o) {
				return
			}
		}
	}
}

func (s *fakeSnapshot) Count(r core.GroupResource) int {
	n := 0
	for range s.List(r, "") {
		n++
	}
	return n
}

func (f *fake) WaitFor(ctx context.Context, revision int64) (core.Snapshot, error) {
	for {
		f.mu.Lock()
		overtaken := f.overtaken
		f.mu.Unlock()
		if overtaken {
			return nil, apierrors.NewServiceUnavailable("this process leads no longer")
		}
		if s := f.Snapshot(); s.Revision() >= revision {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return nil, apierrors.NewTimeoutError("revision is not there yet", 1)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

type fakeWatch struct {
	f         *fake
	resource  core.GroupResource
	namespace string
	at        int64
}

func (f *fake) Watch(r core.GroupResource, namespace string, from int64) (core.Watch, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if from < f.floor {
		return nil, apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", from, f.floor))
	}
	return &fakeWatch{f: f, resource: r, namespace: namespace, at: from}, nil
}

func (w *fakeWatch) Next(ctx context.Context) ([]core.Change, error) {
	stop := context.AfterFunc(ctx, func() {
		w.f.mu.Lock()
		defer w.f.mu.Unlock()
		w.f.wake.Broadcast()
	})
	defer stop()
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	for {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var found []core.Change
		for _, c := range w.f.log {
			if c.Revision > w.at && c.Key.GroupResource() == w.resource && (w.namespace == "" || c.Key.Namespace == w.namespace) {
				found = append(found, c)
			}
		}
		w.at = w.f.revision
		if len(found) > 0 {
			return found, nil
		}
		w.f.wake.Wait()
	}
}

func (w *fakeWatch) Revision() int64 { return w.at }
func (w *fakeWatch) Close()          {}

func (f *fake) commit(key core.Key, object core.Object, deleted bool) core.Object {
	f.revision++
	f.snapshot = nil
	object.SetResourceVersion(core.FormatRevision(f.revision))
	c := core.Change{Key: key, Object: object, Deleted: deleted, Revision: f.revision}
	if old, ok := f.objects[key]; ok {
		c.Old = old
	}
	if deleted {
		delete(f.objects, key)
	} else {
		f.objects[key] = object
	}
	f.log = append(f.log, c)
	f.wake.Broadcast()
	return object
}

func (f *fake) keyOf(o core.Object) core.Key {
	k, _ := f.KindNamed(o.GetObjectKind().GroupVersionKind().GroupKind())
	return core.KeyFor(k.GroupResource(), o)
}

func (f *fake) Create(_ context.Context, o core.Object, w core.WriteOptions) (core.Object, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.options = w
	key := f.keyOf(o)
	if _, ok := f.objects[key]; ok {
		return nil, apierrors.NewAlreadyExists(key.GroupResource(), key.Name)
	}
	if o.GetAnnotations()["warn"] != "" {
		w.Warn(o.GetAnnotations()["warn"])
	}
	o.SetUID(types.UID(fmt.Sprint("uid-", f.revision)))
	o.SetCreationTimestamp(metav1.Now())
	if w.DryRun {
		return o, nil
	}
	return f.commit(key, o, false), nil
}

func (f *fake) Update(_ context.Context, key core.Key, o core.Object, w core.WriteOptions) (core.Object, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.options = w
	old, ok := f.objects[key]
	if !ok {
		return nil, apierrors.NewNotFound(key.GroupResource(), key.Name)
	}
	if w.Subresource == "binding" {
		pod := core.Copy(old).(*corev1.Pod)
		pod.Spec.NodeName = o.(*corev1.Binding).Target.Name
		return f.commit(key, pod, false), nil
	}
	o.SetUID(old.GetUID())
	return f.commit(key, o, false), nil
}

func (f *fake) Patch(_ context.Context, key core.Key, p core.Patch, w core.WriteOptions) (core.Object, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.options = w
	f.patched = append(f.patched, p)
	old, ok := f.objects[key]
	if !ok {
		return nil, apierrors.NewNotFound(key.GroupResource(), key.Name)
	}
	o := core.Copy(old)
	o.SetLabels(map[string]string{"patched": "yes"})
	return f.commit(key, o, false), nil
}

func (f *fake) Mutate(_ context.Context, key core.Key, change func(core.Object) error, _ core.WriteOptions) (core.Object, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := core.Copy(f.objects[key])
	if err := change(o); err != nil {
		return nil, err
	}
	return f.commit(key, o, false), nil
}

func (f *fake) Delete(_ context.Context, key core.Key, _ core.DeleteOptions) (core.Object, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old, ok := f.objects[key]
	if !ok {
		return nil, false, apierrors.NewNotFound(key.GroupResource(), key.Name)
	}
	return f.commit(key, core.Copy(old), true), false, nil
}

func (f *fake) Transact(context.Context, []core.Write) ([]core.Object, error) {
	return nil, errors.New("unused")
}

// put stores an object without the API.
func (f *fake) put(o core.Object) core.Object {
	f.mu.Lock()
	defer f.mu.Unlock()
	if o.GetUID() == "" {
		o.SetUID(types.UID("uid-" + o.GetName()))
	}
	return f.commit(f.keyOf(o), o, false)
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "x"}}},
	}
}

// open lets everyone named by a header in and forbids what is called secrets.
type open struct{}

func (open) Authenticate(r *http.Request) (core.User, error) {
	if r.Header.Get("X-Nobody") != "" {
		return core.User{}, errors.New("no credentials")
	}
	return core.User{Name: "tester", Groups: []string{core.GroupAdmins}}, nil
}

func (open) Authorize(user core.User, resource *authorizationv1.ResourceAttributes, _ *authorizationv1.NonResourceAttributes) error {
	if resource != nil && resource.Resource == "secrets" {
		return apierrors.NewForbidden(core.Secrets, resource.Name, fmt.Errorf("User %q may not", user.Name))
	}
	return nil
}

func serve(t testing.TB, change func(*Config)) (*httptest.Server, *fake, *Server) {
	t.Helper()
	f := newFake()
	c := Config{Client: f, Authenticate: open{}, Authorize: open{}}
	if change != nil {
		change(&c)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(s.Handler())
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	return server, f, s
}

func restConfig(server *httptest.Server) *rest.Config {
	return &rest.Config{Host: server.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}, QPS: -1}
}
