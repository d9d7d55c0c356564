package reconcile

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/weftrun/weft/core"
)

// retryWatch is how long a watch that could not be opened waits, such as that
// of a kind that is not served yet.
const retryWatch = 100 * time.Millisecond

// watches is the set of resources that are to be watched. It only grows: a
// watch that nobody needs any more costs little, and controllers come back.
type watches struct {
	mu     sync.Mutex
	wanted map[core.GroupResource]struct{}
	fresh  []core.GroupResource // not started yet
	wake   chan struct{}        // one token: fresh may have grown
}

func (w *watches) init() {
	w.wanted, w.wake = map[core.GroupResource]struct{}{}, make(chan struct{}, 1)
}

func (w *watches) want(resource core.GroupResource) {
	w.wantAll(map[core.GroupResource]struct{}{resource: {}})
}

func (w *watches) wantAll(resources map[core.GroupResource]struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for resource := range resources {
		if _, known := w.wanted[resource]; known || resource.Resource == "" {
			continue
		}
		w.wanted[resource] = struct{}{}
		w.fresh = append(w.fresh, resource)
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watches) take() []core.GroupResource {
	w.mu.Lock()
	defer w.mu.Unlock()
	fresh := w.fresh
	w.fresh = nil
	return fresh
}

// runWatches watches each wanted resource, one watch for all controllers.
func (r *Reconciler) runWatches(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		for _, resource := range r.watches.take() {
			running.Go(func() { r.watchResource(ctx, resource) })
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.watches.wake:
		}
	}
}

// watchResource follows one resource until ctx ends. When it falls behind what
// is kept, it begins anew with the whole state.
func (r *Reconciler) watchResource(ctx context.Context, resource core.GroupResource) {
	for ctx.Err() == nil {
		err := r.watchOnce(ctx, resource)
		if ctx.Err() != nil {
			return
		}
		if !apierrors.IsResourceExpired(err) {
			r.config.Logger.Debug("watch ended", "resource", resource.String(), "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryWatch):
		}
	}
}

func (r *Reconciler) watchOnce(ctx context.Context, resource core.GroupResource) error {
	if _, served := r.config.Client.KindOf(resource); !served {
		return errNotServed
	}
	snapshot := r.config.Client.Snapshot()
	watch, err := r.config.Client.Watch(resource, "", snapshot.Revision())
	if err != nil {
		return fmt.Errorf("watch %s: %w", resource, err)
	}
	defer watch.Close()
	r.router.resetOrphans(resource)
	for key, object := range snapshot.List(resource, "") {
		r.dispatch(&core.Change{Key: key, Object: object}, snapshot)
	}
	for {
		changes, err := watch.Next(ctx)
		if len(changes) > 0 {
			snapshot := r.config.Client.Snapshot()
			for i := range changes {
				r.dispatch(&changes[i], snapshot)
			}
		}
		if err != nil {
			return fmt.Errorf("watch %s: %w", resource, err)
		}
	}
}

var errNotServed = errors.New("the resource is not served")

func (r *Reconciler) dispatch(c *core.Change, snapshot core.Snapshot) {
	r.router.note(c)
	r.router.route(c, snapshot, func(s subject) { r.queue.add(s, c.Revision) })
}
