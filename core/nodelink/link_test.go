package nodelink_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
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

func (s *sink) Reset(objects map[core.Key]core.Object) {
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
	t      testing.TB
	carry  *memory.Hub
	client *client
	events *events
	hub    *nodelink.Hub
	stop   func()
	term   uint64
}

func newWorld(t testing.TB) *world {
	r, err := registry.New(registry.Config{Store: registrytest.NewStore(), Strategies: registry.Builtin()})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, carry: memory.New(), client: &client{Client: r, expired: make(chan struct{})}, events: &events{}}
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
	conn := w.carry.Connect(coreID)
	hub, err := nodelink.New(nodelink.Config{
		Bus: conn, Client: w.client, Events: w.events, Term: func() uint64 { return term }, Logger: quiet(),
		Blob: func(_ context.Context, digest string) (io.ReadCloser, error) {
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
	conn := w.carry.Connect(who)
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
	group.Go(func() { n.errs <- link.Follow(ctx, n.sink) })
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

func TestFollow(t *testing.T) {
	run(t, func(w *world, n *node) {
		other := w.node(bus.Identity{Role: bus.RoleNode, Name: "n2"})
		time.Sleep(time.Second)
		w.create(configMap("cm", "1"))
		w.create(secret("s", "1"))
		w.create(configMap("unused", "1"))
		w.bound(refer(pod("a"), "cm", "s"), "n1")
		w.bound(pod("b"), "n2")
		time.Sleep(10 * time.Millisecond)
		w.wantHeld(n, "n1")
		w.wantHeld(other, "n2")
		if len(other.sink.brief()) != 1 {
			t.Errorf("n2 holds %v", other.sink.brief())
		}
		before := n.sink.sets
		for i, key := range []core.Key{{Resource: "configmaps", Namespace: "default", Name: "cm"}, {Resource: "secrets", Namespace: "default", Name: "s"}} {
			if _, err := w.client.Mutate(w.ctx(), key, func(o core.Object) error {
				o.SetLabels(map[string]string{"changed": "yes"})
				return nil
			}, core.WriteOptions{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
			w.wantHeld(n, "n1")
			if n.sink.sets != before+i+1 {
				t.Errorf("%d messages for %s", n.sink.sets-before-i, key)
			}
		}
		if other.sink.sets != 1 {
			t.Errorf("n2 was told %d times", other.sink.sets)
		}
		w.create(configMap("late", "1"))
		w.bound(refer(pod("c"), "late", "none"), "n1")
		if _, _, err := w.client.Delete(w.ctx(), core.Key{Resource: "configmaps", Namespace: "default", Name: "late"}, core.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
		w.wantHeld(n, "n1")
		w.create(secret("none", "x")) // appears after the pod that needs it
		time.Sleep(10 * time.Millisecond)
		w.wantHeld(n, "n1")
		now := int64(0)
		if _, _, err := w.client.Delete(w.ctx(), podKey("a"), core.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.client.Delete(w.ctx(), podKey("c"), core.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
		w.wantHeld(n, "n1")
		if n.sink.resets != 1 {
			t.Errorf("pulled %d times", n.sink.resets)
		}
		n.sink.sets = 0
		n.Report(core.Observed{Key: podKey("c"), UID: w.pod("c").UID, Status: corev1.PodStatus{Phase: corev1.PodRunning}})
		time.Sleep(time.Second)
		if w.pod("c").Status.Phase != corev1.PodRunning || n.sink.sets != 0 {
			t.Errorf("a status alone was told to the node %d times, phase %s", n.sink.sets, w.pod("c").Status.Phase)
		}
	})
}

// TestRepair spoils one thing and expects the node to be right again.
func TestRepair(t *testing.T) {
	desired := func(m bus.Message) bool { return strings.Contains(m.Subject, ".desired.") }
	spoil := func(w *world, fate func(i int, m bus.Message) memory.Fate) {
		i := 0
		w.carry.OnDeliver(func(_, _ bus.Identity, m bus.Message) memory.Fate {
			if !desired(m) {
				return memory.Fate{}
			}
			i++
			return fate(i, m)
		})
	}
	three := func(w *world) {
		for i := range 3 {
			w.bound(pod(fmt.Sprint("p", i)), "n1")
		}
	}
	for name, test := range map[string]struct {
		act    func(w *world, n **node)
		within time.Duration
	}{
		"lost": {func(w *world, _ **node) {
			spoil(w, func(i int, _ bus.Message) memory.Fate { return memory.Fate{Drop: i == 2} })
			three(w)
		}, 100 * time.Millisecond},
		"last lost": {func(w *world, _ **node) {
			spoil(w, func(i int, _ bus.Message) memory.Fate { return memory.Fate{Drop: i == 3} })
			three(w)
		}, 700 * time.Millisecond},
		"last and its mark lost": {func(w *world, _ **node) {
			spoil(w, func(i int, _ bus.Message) memory.Fate { return memory.Fate{Drop: i == 3 || i == 4} })
			three(w)
		}, 1300 * time.Millisecond},
		"twice": {func(w *world, _ **node) {
			spoil(w, func(int, bus.Message) memory.Fate { return memory.Fate{Copies: 2} })
			three(w)
		}, 10 * time.Millisecond},
		"reordered": {func(w *world, _ **node) {
			spoil(w, func(i int, _ bus.Message) memory.Fate {
				return memory.Fate{Delay: time.Duration(4-min(i, 4)) * 20 * time.Millisecond}
			})
			three(w)
		}, 200 * time.Millisecond},
		"core restarts": {func(w *world, _ **node) {
			w.stop()
			three(w)
			w.start()
		}, 2100 * time.Millisecond},
		"core away for long": {func(w *world, _ **node) {
			w.stop()
			three(w)
			time.Sleep(time.Hour)
			w.start()
		}, 2100 * time.Millisecond},
		"node restarts": {func(w *world, n **node) {
			(*n).stop()
			three(w)
			*n = w.node(nodeID)
		}, 100 * time.Millisecond},
		"watch expires": {func(w *world, _ **node) {
			w.client.expire()
			three(w)
		}, 1500 * time.Millisecond},
		"cut off": {func(w *world, _ **node) {
			w.carry.Cut(nodeID, true)
			three(w)
			time.Sleep(time.Minute)
			w.carry.Cut(nodeID, false)
		}, 2100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(w *world, n *node) {
				w.bound(pod("before"), "n1")
				time.Sleep(5 * time.Second)
				test.act(w, &n)
				time.Sleep(test.within)
				w.wantHeld(n, "n1")
				w.carry.OnDeliver(nil)
				resets := n.sink.resets
				time.Sleep(time.Minute)
				if n.sink.resets > resets+1 {
					t.Errorf("pulled %d times more in quiet", n.sink.resets-resets)
				}
			})
		})
	}
}

// TestRepairProperty: whatever happens, in quiet the node soon holds what it
// should, and no pull ever brings a set that is missing what was always there.
func TestRepairProperty(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			r, luck := rand.New(rand.NewPCG(seed, 7)), rand.New(rand.NewPCG(seed, 8)) // luck under the carrier's lock
			w := newWorld(t)
			w.bound(pod("always"), "n1")
			w.start()
			n := w.node(nodeID)
			w.carry.OnDeliver(func(_, _ bus.Identity, m bus.Message) memory.Fate {
				if !strings.Contains(m.Subject, ".desired.") && !strings.Contains(m.Subject, ".heartbeat.") {
					return memory.Fate{}
				}
				return memory.Fate{Drop: luck.IntN(3) == 0, Copies: luck.IntN(2), Delay: time.Duration(luck.IntN(3)*luck.IntN(80)) * time.Millisecond}
			})
			for range 120 {
				w.disturb(r, &n)
				time.Sleep(time.Duration(r.IntN(200)) * time.Millisecond)
			}
			w.carry.OnDeliver(nil)
			time.Sleep(2200 * time.Millisecond) // a heartbeat, and the pull that follows it
			w.wantHeld(n, "n1")
			if t.Failed() {
				t.Logf("seed %d", seed)
			}
			if n.sink.least == 0 {
				t.Errorf("seed %d: a pull brought an empty set", seed)
			}
		})
	}
}

// disturb does one random thing.
func (w *world) disturb(r *rand.Rand, n **node) {
	name := fmt.Sprint("p", r.IntN(6))
	ref := func() string { return fmt.Sprint("r", r.IntN(3)) }
	switch r.IntN(12) {
	case 0, 1, 2:
		p := refer(pod(name), ref(), ref())
		p.Spec.NodeName = "n1"
		w.create(p) // there may be one
	case 3:
		now := int64(0)
		_, _, _ = w.client.Delete(w.ctx(), podKey(name), core.DeleteOptions{GracePeriodSeconds: &now}) // there may be none
	case 4:
		_, _, _ = w.client.Delete(w.ctx(), podKey(name), core.DeleteOptions{}) // there may be none
	case 5, 6:
		w.create(configMap(ref(), "1"))
		w.create(secret(ref(), "1"))
	case 7:
		_, _, _ = w.client.Delete(w.ctx(), core.Key{Resource: "configmaps", Namespace: "default", Name: ref()}, core.DeleteOptions{}) // there may be none
	case 8:
		for _, key := range []core.Key{podKey(name), {Resource: "secrets", Namespace: "default", Name: ref()}} {
			_, _ = w.client.Mutate(w.ctx(), key, func(o core.Object) error { // there may be none
				o.SetLabels(map[string]string{"x": fmt.Sprint(r.IntN(100))})
				return nil
			}, core.WriteOptions{})
		}
	case 9:
		if r.IntN(3) == 0 {
			w.stop()
			time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
			w.start()
		}
	case 10:
		if r.IntN(3) == 0 {
			(*n).stop()
			*n = w.node(nodeID)
		}
	case 11:
		w.client.expire()
	}
}

func TestEpoch(t *testing.T) {
	run(t, func(w *world, old *node) {
		p := w.bound(pod("a"), "n1")
		later := w.node(nodeID)
		if later.epoch != old.epoch+1 {
			t.Errorf("epochs %d and %d", old.epoch, later.epoch)
		}
		old.Report(core.Observed{Key: podKey("a"), UID: p.UID, Status: corev1.PodStatus{Phase: corev1.PodFailed}})
		for range 2 { // Run by its call, Follow by the answer to its heartbeat
			if err := <-old.errs; !errors.Is(err, nodelink.ErrSuperseded) {
				t.Errorf("got %v", err)
			}
		}
		later.Report(core.Observed{Key: podKey("a"), UID: p.UID, Status: corev1.PodStatus{Phase: corev1.PodRunning}})
		time.Sleep(time.Second)
		if phase := w.pod("a").Status.Phase; phase != corev1.PodRunning {
			t.Errorf("the phase is %s", phase)
		}
		if _, _, err := w.client.Delete(w.ctx(), core.Key{Resource: "nodes", Name: "n1"}, core.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := <-later.errs; !errors.Is(err, nodelink.ErrRemoved) {
			t.Errorf("got %v", err)
		}
	})
}

// TestOldTerm has a core go on that leads no more.
func TestOldTerm(t *testing.T) {
	run(t, func(w *world, n *node) {
		stopOld := w.stop
		w.start() // a second core on the same bus; both serve
		time.Sleep(3 * time.Second)
		conn := w.carry.Connect(coreID)
		stale, err := nodelink.New(nodelink.Config{
			Bus: conn, Client: w.client, Events: w.events, Term: func() uint64 { return 0 }, Logger: quiet(),
			Blob: func(context.Context, string) (io.ReadCloser, error) { return nil, bus.ErrNotFound },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(w.t.Context())
		done := make(chan error, 1)
		go func() { done <- stale.Run(ctx) }()
		stopOld()
		w.bound(pod("a"), "n1")
		time.Sleep(20 * time.Second)
		w.wantHeld(n, "n1")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = conn.Close()
	})
}
