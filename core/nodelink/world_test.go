package nodelink_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/memory"
	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/nodelink"
	"github.com/weftrun/weft/core/registry"
	"github.com/weftrun/weft/core/registry/registrytest"
)

var (
	coreID = bus.Identity{Role: bus.RoleCore, Name: "core-1"}
	nodeID = bus.Identity{Role: bus.RoleNode, Name: "n1"}
)

// client is a core.Client whose watches can be made to expire.
type client struct {
	core.Client
	mu      sync.Mutex
	expired chan struct{}
	refuse  func(key core.Key) error
	deposed bool // another core leads
}

func (c *client) WaitFor(ctx context.Context, revision int64) (core.Snapshot, error) {
	c.mu.Lock()
	deposed := c.deposed
	c.mu.Unlock()
	if deposed {
		return nil, errors.New("another leads")
	}
	return c.Client.WaitFor(ctx, revision)
}

func (c *client) depose(yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deposed = yes
}

func (c *client) Mutate(ctx context.Context, key core.Key, change func(core.Object) error, o core.WriteOptions) (core.Object, error) {
	c.mu.Lock()
	refuse := c.refuse
	c.mu.Unlock()
	if refuse != nil {
		if err := refuse(key); err != nil {
			return nil, err
		}
	}
	return c.Client.Mutate(ctx, key, change, o)
}

func (c *client) setRefuse(f func(core.Key) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuse = f
}

// expire ends all watches with 410.
func (c *client) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.expired)
	c.expired = make(chan struct{})
}

func (c *client) Watch(resource core.GroupResource, namespace string, from int64) (core.Watch, error) {
	w, err := c.Client.Watch(resource, namespace, from)
	c.mu.Lock()
	defer c.mu.Unlock()
	return &watch{Watch: w, expired: c.expired}, err
}

type watch struct {
	core.Watch
	expired chan struct{}
}

func (w *watch) Next(ctx context.Context) ([]core.Change, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-w.expired:
			cancel()
		case <-stop:
		}
	}()
	changes, err := w.Watch.Next(ctx)
	select {
	case <-w.expired:
		return nil, apierrors.NewResourceExpired("too old")
	default:
		return changes, err
	}
}

// events keeps what was recorded.
type events struct {
	mu   sync.Mutex
	list []string
}

func (e *events) Event(_ string, about corev1.ObjectReference, _, reason, _ string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, about.Kind+"/"+about.Name+" "+reason)
}

func (e *events) all() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.list)
}

// sink keeps what a node is told to hold.
type sink struct {
	mu     sync.Mutex
	held   map[core.Key]core.Object
	resets int
	sets   int
	least  int // the smallest set a Reset brought
}

func (s *sink) Reset(_ uint64, objects map[core.Key]core.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.resets == 0 || len(objects) < s.least {
		s.least = len(objects)
	}
	s.held = maps.Clone(objects)
	s.resets++
}

func (s *sink) Set(key core.Key, object core.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[key] = object
	s.sets++
}

func (s *sink) Unset(key core.Key, uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.held[key]; o != nil && o.GetUID() == uid {
		delete(s.held, key)
	}
}

// brief tells states of objects apart as a node should.
func brief(o core.Object) string {
	if pod, ok := o.(*corev1.Pod); ok {
		return fmt.Sprint(pod.UID, pod.Generation, pod.Labels, pod.Annotations, pod.DeletionTimestamp != nil)
	}
	return fmt.Sprint(o.GetUID(), o.GetResourceVersion())
}

func (s *sink) brief() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]string{}
	for key, o := range s.held {
		out[key.String()] = brief(o)
	}
	return out
}

// world is a core and its bus, in a bubble.
type world struct {
	t     testing.TB
	carry *memory.Hub
	// connect is carry's, unless the bus is another.
	connect func(bus.Identity) bus.Bus
	client  *client
	events  *events
	used    *used
	hub     *nodelink.Hub
	stop    func()
	term    uint64
}

func newWorld(t testing.TB) *world {
	r, err := registry.New(registry.Config{Store: registrytest.NewStore(), Strategies: registry.Builtin()})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, carry: memory.New(), client: &client{Client: r, expired: make(chan struct{})}, events: &events{}, used: &used{}}
	w.connect = w.carry.Connect
	for _, name := range []string{"default", "kube-node-lease"} {
		w.create(registrytest.Namespace(name))
	}
	return w
}

func (w *world) create(o core.Object) core.Object {
	w.t.Helper()
	made, err := w.client.Create(w.ctx(), o, core.WriteOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		w.t.Fatal(err)
	}
	return made
}

func (w *world) ctx() context.Context { return core.WithUser(w.t.Context(), core.System("test")) }

// start starts a core, of the next term.
func (w *world) start() {
	w.t.Helper()
	w.term++
	term := w.term
	conn := w.connect(coreID)
	hub, err := nodelink.New(nodelink.Config{
		Bus: conn, Client: w.client, Events: w.events, Usage: w.used.put, Term: func() uint64 { return term }, Logger: quiet(),
		Blob: func(_ context.Context, digest string) (io.ReadCloser, error) {
			if digest == "none" {
				return nil, fmt.Errorf("get blob: %w", bus.ErrNotFound)
			}
			return io.NopCloser(strings.NewReader("content of " + digest)), nil
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := hub.Run(ctx); err != nil {
			w.t.Error(err)
		}
	}()
	w.hub = hub
	w.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		_ = conn.Close()
	})
	w.t.Cleanup(w.stop)
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// node is a running node's end.
type node struct {
	*nodelink.Link
	sink  *sink
	conn  bus.Bus
	stop  func()
	errs  chan error // of Run and Follow
	epoch int64
}

func nodeObject(name string) *corev1.Node {
	return &corev1.Node{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
	}
}

func (w *world) node(who bus.Identity) *node {
	w.t.Helper()
	conn := w.connect(who)
	link, err := nodelink.NewLink(conn, quiet())
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	n := &node{Link: link, sink: &sink{}, conn: conn, errs: make(chan error, 2)}
	if n.epoch, err = link.Register(ctx, nodeObject(who.Name)); err != nil {
		w.t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() { n.errs <- link.Run(ctx) })
	group.Go(func() { n.errs <- link.Follow(ctx, 0, n.sink) })
	group.Go(func() {
		for ctx.Err() == nil {
			_ = link.Heartbeat(ctx, nodeObject(who.Name).Status)
			select {
			case <-ctx.Done():
			case <-time.After(core.HeartbeatInterval):
			}
		}
	})
	n.stop = sync.OnceFunc(func() {
		cancel()
		group.Wait()
		_ = conn.Close()
	})
	w.t.Cleanup(n.stop)
	return n
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "file:x.wasm"}}},
	}
}

func refer(p *corev1.Pod, configMap, secret string) *corev1.Pod {
	c := &p.Spec.Containers[0]
	c.EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: configMap}}}}
	c.Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: secret}, Key: "k"}}}}
	return p
}

func podKey(name string) core.Key {
	return core.Key{Resource: "pods", Namespace: "default", Name: name}
}

// bound creates a pod on a node.
func (w *world) bound(p *corev1.Pod, on string) *corev1.Pod {
	w.t.Helper()
	p.Spec.NodeName = on
	made, ok := w.create(p).(*corev1.Pod)
	if !ok {
		w.t.Fatal("no pod")
	}
	return made
}

func (w *world) pod(name string) *corev1.Pod {
	o, ok := w.client.Snapshot().Get(podKey(name))
	if !ok {
		return nil
	}
	return o.(*corev1.Pod)
}

func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Data: map[string]string{"k": value},
	}
}

func secret(name, value string) *corev1.Secret {
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Data: map[string][]byte{"k": []byte(value)},
	}
}

// wanted is what a node should hold by the state alone.
func (w *world) wanted(on string) map[string]string {
	out := map[string]string{}
	snapshot := w.client.Snapshot()
	add := func(resource, name string) {
		key := core.Key{Resource: resource, Namespace: "default", Name: name}
		if o, ok := snapshot.Get(key); ok {
			out[key.String()] = brief(o)
		}
	}
	for key, o := range snapshot.List(core.Pods, "") {
		p := o.(*corev1.Pod)
		if p.Spec.NodeName != on {
			continue
		}
		out[key.String()] = brief(o)
		if c := p.Spec.Containers[0]; len(c.EnvFrom) > 0 {
			add("configmaps", c.EnvFrom[0].ConfigMapRef.Name)
			add("secrets", c.Env[0].ValueFrom.SecretKeyRef.Name)
		}
	}
	return out
}

func (w *world) wantHeld(n *node, on string) {
	w.t.Helper()
	if diff := cmp.Diff(w.wanted(on), n.sink.brief()); diff != "" {
		w.t.Errorf("held by %s at %s: %s", on, time.Now().Format("05.000"), diff)
	}
}

// run runs a test in a bubble with a core and a node.
func run(t *testing.T, test func(w *world, n *node)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		n := w.node(nodeID)
		time.Sleep(time.Second)
		test(w, n)
	})
}
