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
	"github.com/weftrun/weft/wasm/node/ledger"
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
	// Ledger is what the node remembers on its disk; the caller runs and closes
	// it. Required.
	Ledger *ledger.Ledger
	// Logs is the folder of the containers' logs. Required.
	Logs   string
	Logger *slog.Logger // required
	// Timings hear how long things take; optional.
	Timings Timings
	// Starts is how many containers may be starting at once. Optional, 32.
	Starts int
}

// Timings hear how long things take. Those that are nil are not told. They are
// called concurrently and must be fast.
type Timings struct {
	// Worker hears of each pod how long it was known until somebody began to
	// look after it.
	Worker func(time.Duration)
	// PodStart hears of each pod how long it was known until the news was that
	// it runs, or has ended already. Pods from before the agent's time are not
	// told.
	PodStart func(time.Duration)
	// Start hears how long the runtime took to start a container, or to find
	// that it cannot.
	Start func(time.Duration)
}

func (t Timings) withDefaults() Timings {
	for _, f := range []*func(time.Duration){&t.Worker, &t.PodStart, &t.Start} {
		if *f == nil {
			*f = func(time.Duration) {}
		}
	}
	return t
}

// Agent runs the pods of one node.
type Agent struct {
	config Config
	starts chan struct{} // a place for each container that may be starting
	wake   chan struct{} // one is enough: there is something in fresh or tidy

	// mu guards what follows. A keeper's own mu may be taken under it.
	mu        sync.Mutex
	keepers   map[types.UID]*keeper
	referents map[core.Key]core.Object // ConfigMaps, Secrets and RuntimeClasses
	fresh     []*keeper                // to be run
	// found are the sandboxes that were open when the agent began; those that
	// no pod claims in the first whole set go to orphans.
	found   map[string]bool
	orphans []string
	tidy    bool // there was a whole set: what is no pod's can go
}

// New returns an agent that does nothing until Run.
func New(c Config) (*Agent, error) {
	if c.Node == nil || c.Link == nil || c.Runtime == nil || c.Images == nil || c.Ledger == nil || c.Logs == "" || c.Logger == nil {
		return nil, errors.New("node: node, link, runtime, images, ledger, logs and logger are required")
	}
	if c.Starts <= 0 {
		c.Starts = 32
	}
	c.Timings = c.Timings.withDefaults()
	return &Agent{
		config: c, starts: make(chan struct{}, c.Starts), wake: make(chan struct{}, 1),
		keepers: map[types.UID]*keeper{}, referents: map[core.Key]core.Object{},
	}, nil
}

// Run runs the pods that the ledger holds, registers the node as soon as a core
// answers, and then runs what that says, until ctx ends; then it leaves the pods
// to the runtime as they are.
func (a *Agent) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	resumed := make(chan uint64, 1) // the one result
	group.Go(func() error {
		if a.find(ctx) {
			resumed <- a.resume()
		}
		return nil
	})
	group.Go(func() error { return a.join(ctx, resumed) })
	group.Go(func() error { return a.config.Link.Serve(ctx, logServer{a}) })
	group.Go(func() error {
		a.runKeepers(ctx)
		return nil
	})
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("node %s: %w", a.config.Node.Name, err)
	}
	return nil
}

// resume runs what the ledger holds, and returns the term that it is of.
func (a *Agent) resume() (term uint64) {
	past := a.config.Ledger.State()
	if !past.Known {
		a.config.Logger.Info("this node's disk does not say what is desired of it, it waits for a core", "node", a.config.Node.Name)
		return past.Term
	}
	pods := 0
	for key, object := range past.Objects {
		pod, ok := object.(*corev1.Pod)
		if !ok {
			continue
		}
		pods++
		if o, ok := past.Observed[pod.UID]; ok {
			pod = pod.DeepCopy() // its status is that of when it came
			pod.Status = o.Status
			past.Objects[key] = pod
		}
	}
	a.config.Logger.Info("going on with what this node's disk says, until a core says otherwise", "node", a.config.Node.Name, "pods", pods)
	a.replace(past.Objects, true)
	return past.Term
}

// join registers the node, and has it be one of the cluster's.
func (a *Agent) join(ctx context.Context, resumed <-chan uint64) error {
	if _, err := a.config.Link.Register(ctx, a.config.Node); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	a.config.Logger.Info("node registered", "node", a.config.Node.Name)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.heartbeats(ctx) })
	group.Go(func() error { return a.usages(ctx) })
	group.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case term := <-resumed:
			return a.config.Link.Follow(ctx, term, a)
		}
	})
	return group.Wait()
}

// Abandon stops all pods at once and forgets them: this process is not the node
// any more, and what has an identity may run elsewhere. It is for after Run.
func (a *Agent) Abandon(ctx context.Context) error {
	err := a.config.Ledger.Forget()
	ids, listed := a.config.Runtime.Sandboxes(ctx)
	if listed != nil {
		return errors.Join(err, fmt.Errorf("stop all pods: %w", listed))
	}
	var group errgroup.Group
	group.SetLimit(cap(a.starts))
	for _, id := range ids {
		group.Go(func() error { return a.closeOrphan(ctx, id) })
	}
	return errors.Join(err, group.Wait())
}

// find learns which sandboxes are open from before this agent's time. Only then
// can pods be run: one that runs already must not be started twice. It returns
// false if ctx ended first.
func (a *Agent) find(ctx context.Context) bool {
	for {
		ids, err := a.config.Runtime.Sandboxes(ctx)
		if err == nil {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.found = make(map[string]bool, len(ids))
			for _, id := range ids {
				a.found[id] = true
			}
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		a.config.Logger.Warn("ask for sandboxes", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(retryRuntime):
		}
	}
}

// retryRuntime is how long to wait for a runtime that has gone.
const retryRuntime = time.Second

// runKeepers runs each new keeper until ctx ends and all have returned.
func (a *Agent) runKeepers(ctx context.Context) {
	var group sync.WaitGroup
	defer group.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		}
		a.mu.Lock()
		fresh, orphans, tidy := a.fresh, a.orphans, a.tidy
		a.fresh, a.orphans, a.tidy = nil, nil, false
		a.mu.Unlock()
		for _, k := range fresh {
			group.Go(func() {
				k.run(ctx)
				a.forget(k)
			})
		}
		if tidy {
			group.Go(func() { a.clean(ctx, orphans) })
		}
	}
}

func (a *Agent) nudge() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
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
func (a *Agent) Reset(term uint64, objects map[core.Key]core.Object) {
	a.config.Ledger.Reset(term, objects)
	a.replace(objects, false)
}

// replace takes over a whole set: from the core, or resumed from before this
// agent's time.
func (a *Agent) replace(objects map[core.Key]core.Object, resumed bool) {
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
			k := a.keep(key, pod)
			k.verify(pod, resumed)
		}
	}
	a.refer()
	if a.found == nil {
		return
	}
	for id := range a.found {
		if !wanted[types.UID(id)] {
			a.orphans = append(a.orphans, id)
		}
	}
	a.found, a.tidy = nil, true
	a.nudge()
}

// Set implements core.DesiredSink.
func (a *Agent) Set(key core.Key, object core.Object) {
	a.config.Ledger.Set(key, object)
	a.mu.Lock()
	defer a.mu.Unlock()
	if pod, ok := object.(*corev1.Pod); ok {
		a.keep(key, pod)
		return
	}
	a.referents[key] = object
	a.refer()
}

// refer has those try again that may have waited for a ConfigMap or Secret.
// The caller holds the lock.
func (a *Agent) refer() {
	for _, k := range a.keepers {
		k.referentsChanged()
	}
}

// Unset implements core.DesiredSink.
func (a *Agent) Unset(key core.Key, uid types.UID) {
	a.config.Ledger.Unset(key, uid)
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
func (a *Agent) keep(key core.Key, pod *corev1.Pod) *keeper {
	if k, ok := a.keepers[pod.UID]; ok {
		k.update(pod)
		return k
	}
	k := newKeeper(a, key, pod, a.found[string(pod.UID)])
	a.keepers[pod.UID] = k
	a.fresh = append(a.fresh, k)
	a.nudge()
	return k
}

// forget removes a keeper that has ended. A pod that was desired again after it
// had been dropped gets another.
func (a *Agent) forget(k *keeper) {
	a.mu.Lock()
	defer a.mu.Unlock()
	uid := k.uid
	if a.keepers[uid] != k {
		return
	}
	delete(a.keepers, uid)
	if pod := k.revived(); pod != nil {
		a.keep(k.key, pod)
	}
}

// referent returns what a pod refers to, if it is there.
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
