package node_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/image"
	"github.com/weftrun/weft/wasm/node"
	"github.com/weftrun/weft/wasm/node/ledger"
	"github.com/weftrun/weft/wasm/wasmtest"
)

// link is a core in memory: it keeps what is reported.
type link struct {
	mu      sync.Mutex
	sink    core.DesiredSink
	desired map[core.Key]core.Object
	status  map[types.UID]corev1.PodStatus
	phases  map[types.UID][]string // as they were reported, with the containers' states
	gone    map[types.UID]bool
	events  []string
	server  core.NodeServer
	reports int
	usages  []core.NodeUsage
	away    atomic.Bool // it does not answer
}

func (l *link) Register(ctx context.Context, _ *corev1.Node) (int64, error) {
	for l.away.Load() {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(time.Second):
		}
	}
	return 1, nil
}
func (l *link) Heartbeat(context.Context, corev1.NodeStatus) error { return nil }
func (l *link) Usage(_ context.Context, u core.NodeUsage) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.usages = append(l.usages, u)
	return nil
}
func (l *link) Blob(context.Context, string) (io.ReadCloser, error) {
	return nil, errors.New("no blobs")
}
func (l *link) Serve(ctx context.Context, s core.NodeServer) error {
	l.server = s
	<-ctx.Done()
	return nil
}
func (l *link) Follow(ctx context.Context, _ uint64, sink core.DesiredSink) error {
	l.mu.Lock()
	l.sink = sink
	all := map[core.Key]core.Object{}
	for key, o := range l.desired {
		if pod, ok := o.(*corev1.Pod); ok {
			pod = pod.DeepCopy()
			if s, ok := l.status[pod.UID]; ok {
				pod.Status = *s.DeepCopy()
			}
			o = pod
		}
		all[key] = o
	}
	sink.Reset(1, all)
	l.mu.Unlock()
	<-ctx.Done()
	return nil
}

func (l *link) Event(e core.NodeEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e.Type+" "+e.Reason+" "+e.Message)
}

func (l *link) Report(o core.Observed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reports++
	l.status[o.UID] = o.Status
	l.phases[o.UID] = append(l.phases[o.UID], string(o.Status.Phase)+" "+states(&o.Status))
	if o.Gone {
		l.gone[o.UID] = true
	}
}

// states is a word for each container, init containers first.
func states(s *corev1.PodStatus) string {
	var words []string
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
		for _, c := range list {
			switch {
			case c.State.Running != nil:
				words = append(words, "running")
			case c.State.Terminated != nil:
				words = append(words, fmt.Sprintf("%s:%d", c.State.Terminated.Reason, c.State.Terminated.ExitCode))
			case c.State.Waiting != nil:
				words = append(words, c.State.Waiting.Reason)
			}
		}
	}
	return strings.Join(words, ",")
}

// images are those that are there.
type images struct {
	mu      sync.Mutex
	missing bool
	asked   int
}

func (i *images) Resolve(_ context.Context, ref string, _ image.Policy) (image.Image, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked++
	if i.missing {
		return image.Image{}, &image.Error{Reason: image.ErrImagePull, Message: "there is no file"}
	}
	return image.Image{Digest: "sha256:" + ref, Path: "/x/" + ref + ".wasm"}, nil
}

// world is a node in a bubble.
type world struct {
	t      *testing.T
	link   *link
	rt     *wasmtest.Fake
	images *images
	logs   string
	ledger string
	stop   func()

	mu    sync.Mutex
	times map[string][]time.Duration // that were told, by name
}

func run(t *testing.T, test func(t *testing.T, w *world)) {
	logs, folder := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, rt: &wasmtest.Fake{}, images: &images{}, logs: logs, ledger: folder, link: &link{
			desired: map[core.Key]core.Object{}, status: map[types.UID]corev1.PodStatus{}, phases: map[types.UID][]string{}, gone: map[types.UID]bool{},
		}}
		w.start()
		test(t, w)
		w.stop()
		w.rt.Close()
	})
}

// start starts an agent.
func (w *world) start() {
	w.t.Helper()
	kept, err := ledger.Open(ledger.Config{Dir: w.ledger, Logger: slog.New(slog.NewTextHandler(w.t.Output(), nil)), Unsynced: true})
	if err != nil {
		w.t.Fatal(err)
	}
	told := func(name string) func(time.Duration) {
		return func(took time.Duration) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.times[name] = append(w.times[name], took)
		}
	}
	w.times = map[string][]time.Duration{}
	a, err := node.New(node.Config{
		Node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}}}},
		Link: w.link, Runtime: w.rt, Images: w.images, Logs: w.logs, Ledger: kept, Logger: slog.New(slog.DiscardHandler),
		Timings: node.Timings{Worker: told("worker"), PodStart: told("pod"), Start: told("start")},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
		if err := kept.Close(); err != nil {
			w.t.Error(err)
		}
	})
	synctest.Wait()
}

func pod(name string, policy corev1.RestartPolicy, scripts ...string) *corev1.Pod {
	p := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name)},
		Spec:       corev1.PodSpec{RestartPolicy: policy, NodeName: "n1"},
	}
	for i, script := range scripts {
		p.Spec.Containers = append(p.Spec.Containers, container(fmt.Sprint("c", i), script))
	}
	return p
}

func container(name, script string) corev1.Container {
	return corev1.Container{Name: name, Image: "m", Args: strings.Fields(script)}
}

func keyOf(o core.Object) core.Key {
	resource := core.Pods
	switch o.(type) {
	case *corev1.ConfigMap:
		resource = core.ConfigMaps
	case *corev1.Secret:
		resource = core.Secrets
	case *nodev1.RuntimeClass:
		resource = core.RuntimeClasses
	}
	return core.KeyFor(resource, o)
}

func (w *world) set(o core.Object) {
	w.link.mu.Lock()
	defer w.link.mu.Unlock()
	w.link.desired[keyOf(o)] = o
	w.link.sink.Set(keyOf(o), o)
}

// remove deletes a pod with a grace period; 0 takes it away at once.
func (w *world) remove(p *corev1.Pod, grace int64) {
	if grace == 0 {
		w.link.mu.Lock()
		defer w.link.mu.Unlock()
		delete(w.link.desired, keyOf(p))
		w.link.sink.Unset(keyOf(p), p.UID)
		return
	}
	p = p.DeepCopy()
	now := metav1.Now()
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &now, &grace
	w.set(p)
}

func (w *world) is(p *corev1.Pod) string {
	w.link.mu.Lock()
	defer w.link.mu.Unlock()
	s := w.link.status[p.UID]
	text := string(s.Phase) + " " + states(&s)
	if w.link.gone[p.UID] {
		text += " gone"
	}
	return text
}

func (w *world) want(p *corev1.Pod, want string) {
	w.t.Helper()
	synctest.Wait()
	if got := w.is(p); got != want {
		w.t.Errorf("%s at %s: got %q, want %q", p.Name, time.Now().Format("04:05.000"), got, want)
	}
}

func (w *world) container(p *corev1.Pod) corev1.ContainerStatus {
	w.link.mu.Lock()
	defer w.link.mu.Unlock()
	return w.link.status[p.UID].ContainerStatuses[0]
}

func (w *world) events(reason string) (found []string) {
	w.link.mu.Lock()
	defer w.link.mu.Unlock()
	for _, e := range w.link.events {
		if strings.Fields(e)[1] == reason {
			found = append(found, e)
		}
	}
	return found
}

func sandboxOf(p *corev1.Pod) wasm.SandboxConfig { return wasm.SandboxConfig{ID: string(p.UID)} }
