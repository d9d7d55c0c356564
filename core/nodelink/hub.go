package nodelink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/core"
)

// Config configures a Hub. All fields are required.
type Config struct {
	Bus    bus.Bus
	Client core.Client
	// Events records what nodes say happened.
	Events Events
	// Usage takes in what a node says that it uses, and does not block.
	Usage func(node string, u core.NodeUsage)
	// Term returns the term of this core's leadership.
	Term func() uint64
	// Blob opens content of the cluster's own store by its digest.
	Blob   func(ctx context.Context, digest string) (io.ReadCloser, error)
	Logger *slog.Logger
}

// Events records what happens to objects; it never blocks. core/events
// implements it.
type Events interface {
	Event(source string, about corev1.ObjectReference, kind, reason, message string)
}

// Hub is the core's end of the node protocol.
type Hub struct {
	config Config

	// mu guards what follows. Messages are published under it, so that their
	// order on the bus is that of their numbers.
	mu      sync.Mutex
	nodes   map[string]*nodeSet
	refs    map[core.Key]map[string]int // ConfigMap, Secret or RuntimeClass: node: pods that refer to it
	senders map[string]*sender
	// loaded is the revision that the sets were last read from. The watches may
	// still bring changes from before it, which are not to undo what came later.
	loaded int64

	gate gate
}

// New returns a hub that does nothing until Run.
func New(c Config) (*Hub, error) {
	if c.Bus == nil || c.Client == nil || c.Term == nil || c.Blob == nil || c.Events == nil || c.Usage == nil || c.Logger == nil {
		return nil, errors.New("nodelink: bus, client, events, usage, term, blob and logger are required")
	}
	return &Hub{config: c, nodes: map[string]*nodeSet{}, refs: map[core.Key]map[string]int{}, senders: map[string]*sender{}}, nil
}

// Run serves nodes until ctx ends.
func (h *Hub) Run(ctx context.Context) error {
	ctx = core.WithUser(ctx, core.System("node-hub"))
	start := h.load()
	group, ctx := errgroup.WithContext(ctx)
	for _, resource := range []core.GroupResource{core.Pods, core.ConfigMaps, core.Secrets, core.RuntimeClasses} {
		group.Go(func() error { return h.follow(ctx, resource, start) })
	}
	group.Go(func() error { return h.marks(ctx) })
	group.Go(func() error { return h.serve(ctx) })
	return group.Wait()
}

// beatsMax bounds the heartbeats that are taken in at once; while so many are,
// further ones wait and the oldest of them count.
const beatsMax = 64

func (h *Hub) serve(ctx context.Context) (err error) {
	var open []bus.Subscription
	var beats errgroup.Group
	beats.SetLimit(beatsMax)
	defer func() {
		for _, s := range open {
			err = errors.Join(err, s.Close())
		}
		_ = beats.Wait() // the functions return no errors
	}()
	add := func(s bus.Subscription, err error) error {
		if err == nil {
			open = append(open, s)
		}
		return err
	}
	b := h.config.Bus
	err = errors.Join(
		add(b.Serve(ctx, bus.APIPattern(bus.RoleNode, methodRegister), h.register)),
		add(b.Serve(ctx, bus.APIPattern(bus.RoleNode, methodObserve), h.observe)),
		add(b.Serve(ctx, bus.APIPattern(bus.RoleNode, methodUsage), h.usage)),
		add(b.Accept(ctx, bus.APIPattern(bus.RoleNode, methodSync), h.sync)),
		add(b.Accept(ctx, bus.APIPattern(bus.RoleNode, methodBlob), h.blob)),
		add(b.Subscribe(ctx, bus.AllHeartbeats, func(m bus.Message) {
			beats.Go(func() error {
				h.heartbeat(ctx, m)
				return nil
			})
		})),
	)
	if err != nil {
		return fmt.Errorf("serve nodes: %w", err)
	}
	<-ctx.Done()
	return nil
}

// load reads every node's set anew and returns the revision it is of. Nobody
// sees a set half read: what a node does not find in it, it stops.
func (h *Hub) load() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, set := range h.nodes {
		set.forget()
	}
	clear(h.refs)
	snapshot := h.config.Client.Snapshot()
	for key, object := range snapshot.List(core.Pods, "") {
		if pod := podOf(object); pod != nil && pod.Spec.NodeName != "" {
			h.place(key, pod, false)
		}
	}
	h.loaded = snapshot.Revision()
	return h.loaded
}

// follow publishes the changes of one resource as they are committed.
func (h *Hub) follow(ctx context.Context, resource core.GroupResource, from int64) error {
	for {
		err := h.watch(ctx, resource, from)
		if ctx.Err() != nil {
			return nil
		}
		h.config.Logger.Warn("watch for nodes ended, reading everything anew", "kind", resource.Resource, "err", err)
		from = h.load()
		select {
		case <-ctx.Done():
		case <-time.After(retryFirst):
		}
	}
}

func (h *Hub) watch(ctx context.Context, resource core.GroupResource, from int64) error {
	w, err := h.config.Client.Watch(resource, "", from)
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		changes, err := w.Next(ctx)
		if err != nil {
			return err
		}
		h.mu.Lock()
		for i := range changes {
			if changes[i].Revision <= h.loaded {
				continue
			}
			if resource == core.Pods {
				h.podChanged(&changes[i])
			} else {
				h.referentChanged(&changes[i])
			}
		}
		h.mu.Unlock()
	}
}

// marks says each node's newest number again once it is quiet, and then until
// the node's heartbeats confirm it or the node seems to be away.
func (h *Hub) marks(ctx context.Context) error {
	tick := time.NewTicker(markDelay / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		h.mu.Lock()
		for name, set := range h.nodes {
			if set.marks < marksMax && set.acknowledged != set.sequence && time.Since(set.published) >= markAfter(set.marks) {
				set.marks++
				h.mark(name, set)
			}
		}
		h.mu.Unlock()
	}
}

// mark publishes the newest number. The caller holds the lock.
func (h *Hub) mark(node string, set *nodeSet) {
	h.send(node, &desired{term: h.config.Term(), sequence: set.sequence, action: actionMark})
}

// dismiss tells the processes of a node whose epoch is not the current one
// that they are to stop; 0 means that there is no such node any more.
func (h *Hub) dismiss(node string, epoch int64) {
	h.send(node, &desired{term: h.config.Term(), action: actionDismiss, epoch: epoch})
}

func (h *Hub) send(node string, d *desired) {
	m, err := d.message(node)
	if err == nil {
		err = h.config.Bus.Publish(context.Background(), m) //nolint:forbidigo // handing over does not block
	}
	if err != nil { // the node sees the gap and pulls
		h.config.Logger.Warn("publish to node", "node", node, "action", d.action, "object", d.key.String(), "err", err)
	}
}
