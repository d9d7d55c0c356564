package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/image"
)

// Images finds the module that a reference names. wasm/image implements it.
type Images interface {
	Resolve(ctx context.Context, ref string, p image.Policy) (image.Image, error)
}

// Config configures an Agent. The zero value of an optional field means its
// default.
type Config struct {
	// Node is the node as it registers: name, labels, taints, capacity.
	// Required.
	Node *corev1.Node
	// Link, Runtime and Images are required.
	Link    core.NodeLink
	Runtime wasm.Runtime
	Images  Images
	// Logs is the folder of the containers' logs. Required.
	Logs   string
	Logger *slog.Logger // required
	// Starts is how many containers may be starting at once. Optional, 32.
	Starts int
}

// Agent runs the pods of one node.
type Agent struct {
	config Config
	starts chan struct{} // a place for each container that may be starting

	mu        sync.Mutex
	keepers   map[types.UID]*keeper
	referents map[core.Key]core.Object // ConfigMaps and Secrets
	group     *errgroup.Group          // of the keepers; nil before Run
	ctx       context.Context          //nolint:containedctx // the keepers' own; set by Run
}

// New returns an agent that does nothing until Run.
func New(c Config) (*Agent, error) {
	if c.Node == nil || c.Link == nil || c.Runtime == nil || c.Images == nil || c.Logs == "" || c.Logger == nil {
		return nil, errors.New("node: node, link, runtime, images, logs and logger are required")
	}
	if c.Starts <= 0 {
		c.Starts = 32
	}
	return &Agent{
		config: c, starts: make(chan struct{}, c.Starts),
		keepers: map[types.UID]*keeper{}, referents: map[core.Key]core.Object{},
	}, nil
}

// Run registers the node and runs its pods until ctx ends; then it leaves them
// to the runtime as they are.
func (a *Agent) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	a.mu.Lock()
	a.group, a.ctx = group, ctx
	a.mu.Unlock()
	if _, err := a.config.Link.Register(ctx, a.config.Node); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	a.config.Logger.Info("node registered", "node", a.config.Node.Name)
	group.Go(func() error { return a.config.Link.Serve(ctx, logServer{a}) })
	group.Go(func() error { return a.config.Link.Follow(ctx, a) })
	group.Go(func() error { return a.heartbeats(ctx) })
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("node %s: %w", a.config.Node.Name, err)
	}
	return nil
}

func (a *Agent) heartbeats(ctx context.Context) error {
	tick := time.NewTicker(core.HeartbeatInterval)
	defer tick.Stop()
	for {
		if err := a.config.Link.Heartbeat(ctx, a.config.Node.Status); err != nil && ctx.Err() == nil {
			a.config.Logger.Warn("heartbeat", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Reset implements core.DesiredSink.
func (a *Agent) Reset(objects map[core.Key]core.Object) {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.referents)
	wanted := map[types.UID]bool{}
	for key, object := range objects {
		if _, ok := object.(*corev1.Pod); ok {
			wanted[object.GetUID()] = true
		} else {
			a.referents[key] = object
		}
	}
	for uid, k := range a.keepers {
		if !wanted[uid] {
			k.drop()
		}
	}
	for key, object := range objects {
		if pod, ok := object.(*corev1.Pod); ok {
			a.keep(key, pod)
		}
	}
}

// Set implements core.DesiredSink.
func (a *Agent) Set(key core.Key, object core.Object) {
	a.mu.Lock()
	defer a.mu.Unlock()
	pod, ok := object.(*corev1.Pod)
	if ok {
		a.keep(key, pod)
		return
	}
	a.referents[key] = object
	for _, k := range a.keepers {
		k.nudge() // one may have been waiting for it
	}
}

// Unset implements core.DesiredSink.
func (a *Agent) Unset(key core.Key, uid types.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if k, ok := a.keepers[uid]; ok {
		k.drop()
		return
	}
	delete(a.referents, key)
}

// keep hands a pod to its keeper, a new one if it has none. The caller holds
// the lock.
func (a *Agent) keep(key core.Key, pod *corev1.Pod) {
	if k, ok := a.keepers[pod.UID]; ok {
		k.update(pod)
		return
	}
	k := newKeeper(a, key, pod)
	a.keepers[pod.UID] = k
	ctx := a.ctx
	a.group.Go(func() error {
		defer a.forget(pod.UID, k)
		k.run(ctx)
		return nil
	})
}

func (a *Agent) forget(uid types.UID, k *keeper) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.keepers[uid] == k {
		delete(a.keepers, uid)
	}
}

// referent returns a ConfigMap or Secret that a pod refers to.
func (a *Agent) referent(key core.Key) (core.Object, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	object, ok := a.referents[key]
	return object, ok
}

func (a *Agent) keeper(uid types.UID) *keeper {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.keepers[uid]
}
