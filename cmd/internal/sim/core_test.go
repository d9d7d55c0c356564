package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/events"
	"github.com/weftrun/weft/core/lifecycle"
	"github.com/weftrun/weft/core/nodelink"
	"github.com/weftrun/weft/core/reconcile"
	"github.com/weftrun/weft/core/registry"
	"github.com/weftrun/weft/core/scheduler"
	"github.com/weftrun/weft/core/store"
	"github.com/weftrun/weft/workloads/deployment"
	"github.com/weftrun/weft/workloads/job"
	"github.com/weftrun/weft/workloads/replicaset"
)

// leaseTime is how long a core that is cut off may believe that it leads.
const leaseTime = 2 * time.Second

// coreRun is one process of a core.
type coreRun struct {
	who    bus.Identity
	conn   bus.Bus
	client core.Client
	cancel context.CancelFunc
	ended  chan struct{}
	cutAt  atomic.Int64 // when it was cut off, in Unix nanoseconds; 0: it is not
}

// leading is what the lease says: it is renewed as long as the core is not cut
// off.
func (c *coreRun) leading() bool {
	at := c.cutAt.Load()
	return at == 0 || time.Since(time.Unix(0, at)) < leaseTime
}

// keepLease ends with the lease, and the core with it, as a real core does: one that
// leads no longer must not go on answering nodes until it happens to write.
func (c *coreRun) keepLease(ctx context.Context) error {
	ticker := time.NewTicker(leaseTime / 4)
	defer ticker.Stop()
	for c.leading() {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
	return store.ErrNotLeading
}

// flaky is a kind whose plugin may be away.
type flaky struct {
	core.Controller
	down *atomic.Bool
}

func (f flaky) Decide(ctx context.Context, seen core.Observation) (core.Decision, error) {
	if f.down.Load() {
		return core.Decision{}, errors.New("the plugin is gone")
	}
	return f.Controller.Decide(ctx, seen)
}

type controllers []core.Controller

func (c controllers) Controllers() ([]core.Controller, <-chan struct{}) { return c, nil }

// strategies are made once: they do not change.
var strategies = registry.Builtin()

func durability() func(core.GroupResource) core.Durability {
	of := map[core.GroupResource]core.Durability{}
	for _, s := range strategies {
		of[s.Kind.GroupResource()] = s.Kind.Durability
	}
	return func(r core.GroupResource) core.Durability { return of[r] }
}

// startCore starts a core that leads from now on.
func (w *world) startCore() error {
	w.cores++
	c := &coreRun{who: bus.Identity{Role: bus.RoleCore, Name: fmt.Sprint("core-", w.cores)}, ended: make(chan struct{})}
	c.conn = w.hub.Connect(c.who)
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	c.cancel = cancel
	kept, err := w.openStore(ctx, c)
	if err != nil {
		cancel()
		_ = c.conn.Close() // it never served
		return err
	}
	run, err := w.assemble(c, kept)
	if err != nil {
		w.t.Fatal(err)
	}
	go func() {
		defer close(c.ended)
		err := runCore(ctx, kept, run)
		_ = c.conn.Close() // it is over
		if err != nil && c.cutAt.Load() == 0 && !errors.Is(err, context.Canceled) {
			w.t.Errorf("seed %d: core %s ended by itself: %v", w.seed, c.who.Name, err)
		}
	}()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.core = c
	return nil
}

func (w *world) openStore(ctx context.Context, c *coreRun) (*store.Store, error) {
	wal, err := c.conn.OpenLog(ctx, "WAL")
	if err != nil {
		return nil, err
	}
	snapshots, err := c.conn.OpenLog(ctx, "SNAPSHOTS")
	if err != nil {
		return nil, err
	}
	key, err := store.NewKey(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, store.Config{
		Log: wal, Snapshots: snapshots, Key: key, Leading: c.leading, Logger: w.log, Durability: durability(),
	})
}

// runCore runs the parts; the store is the last to end.
func runCore(ctx context.Context, kept *store.Store, parts []func(context.Context) error) error {
	below, stop := context.WithCancel(context.WithoutCancel(ctx))
	working, ended := context.WithCancelCause(ctx)
	done := make(chan error, 1) // the one result
	go func() {
		err := kept.Run(below)
		ended(fmt.Errorf("the store ended: %w", err))
		done <- err
	}()
	group, working := errgroup.WithContext(working)
	for _, run := range parts {
		group.Go(func() error { return run(working) })
	}
	err := group.Wait()
	stop()
	return errors.Join(err, <-done)
}

// assemble makes the parts of a core.
func (w *world) assemble(c *coreRun, kept *store.Store) ([]func(context.Context) error, error) {
	client, err := registry.New(registry.Config{Store: kept, Strategies: strategies, Logger: w.log})
	if err != nil {
		return nil, err
	}
	c.client = client
	recorder, err := events.New(events.Config{Client: client, Logger: w.log})
	if err != nil {
		return nil, err
	}
	reconciler, err := reconcile.New(reconcile.Config{
		Client: client, Logger: w.log, Events: recorder,
		Source: controllers{flaky{replicaset.New(), &w.pluginDown}, flaky{deployment.New(), &w.pluginDown}, flaky{job.New(), &w.pluginDown}},
	})
	if err != nil {
		return nil, err
	}
	placer, err := scheduler.New(scheduler.Config{Client: client, Logger: w.log, Events: recorder})
	if err != nil {
		return nil, err
	}
	ender, err := lifecycle.New(lifecycle.Config{Client: &taker{client, w}, Logger: w.log, Events: recorder})
	if err != nil {
		return nil, err
	}
	hub, err := nodelink.New(nodelink.Config{
		Bus: c.conn, Client: client, Events: recorder, Logger: w.log, Term: func() uint64 { return uint64(kept.Term()) },
		Usage: func(string, core.NodeUsage) {},
		Blob:  func(context.Context, string) (io.ReadCloser, error) { return nil, bus.ErrNotFound },
	})
	if err != nil {
		return nil, err
	}
	return []func(context.Context) error{c.keepLease, client.Run, recorder.Run, reconciler.Run, placer.Run, ender.Run, hub.Run}, nil
}

// cutCore separates a core from the bus.
func (w *world) cutCore(c *coreRun) {
	c.cutAt.Store(time.Now().UnixNano())
	w.hub.Cut(c.who, true)
}

// discard is for logs of runs that succeed.
var discard = slog.New(slog.DiscardHandler)
