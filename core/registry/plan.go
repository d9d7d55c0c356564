package registry

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/weftrun/weft/core"
)

// view is the state that a write is computed upon: the store's latest, or that
// with the earlier writes of a transaction over it.
type view interface {
	Latest(core.Key) (core.Object, bool)
}

// plan is what one write comes to.
type plan struct {
	key core.Key
	// old is the object before, shared; nil if there was none.
	old core.Object
	// object is the object after; of a removal its last state. When nothing
	// changes it is old.
	object core.Object
	// removed says that the object goes.
	removed bool
}

// unchanged tells that there is nothing to write.
func (p *plan) unchanged() bool { return !p.removed && p.object == p.old }

func (p *plan) op() core.Op {
	op := core.Op{Key: p.key}
	if p.old != nil {
		op.Expect = core.Revision(p.old)
	}
	if !p.removed {
		op.Object = p.object
	}
	return op
}

// maxAttempts bounds how often a write is computed again because another one
// came first. Each round some write has won, so only a bug gets this far.
const maxAttempts = 1000

// write computes a plan and commits it, again when another write came between
// and the caller did not insist on a revision (fixed).
func (r *Registry) write(ctx context.Context, dryRun, fixed bool, compute func() (plan, error)) (core.Object, *plan, error) {
	for attempt := 1; ; attempt++ {
		epoch := r.store.Epoch()
		p, err := compute()
		if err != nil {
			return nil, nil, err
		}
		object, err := r.commit(ctx, &p, epoch, dryRun)
		if err == nil {
			return object, &p, nil
		}
		lost := apierrors.IsConflict(err) || (apierrors.IsNotFound(err) && p.old != nil)
		if !lost || fixed || attempt == maxAttempts {
			return nil, nil, err
		}
		if ctx.Err() != nil {
			return nil, nil, apierrors.NewTimeoutError(fmt.Sprintf("write %s: %v", p.key, context.Cause(ctx)), 0)
		}
	}
}

// commit performs a plan that was computed since epoch, and returns the object
// as kept or its last state. What the plan was computed upon may be tentative: it
// must stand when its own commit is taken, and be settled before it is shown
// without one.
func (r *Registry) commit(ctx context.Context, p *plan, epoch uint64, dryRun bool) (core.Object, error) {
	if dryRun {
		if p.old == nil {
			return p.object, nil
		}
		return p.object, r.store.Settled(ctx, epoch)
	}
	if p.unchanged() {
		return p.object, r.store.Settled(ctx, epoch)
	}
	kept, err := r.store.Commit(ctx, epoch, []core.Op{p.op()})
	if err != nil {
		return nil, err
	}
	if p.removed {
		return p.object, nil
	}
	return kept[0], nil
}

// firm is deferred by each write with the epoch of its begin. A refusal may
// rest on what is not committed: that an object exists already may be because
// of a write, perhaps the caller's own of a moment ago, that never will be.
// Whoever is told must be able to rely on it.
func (r *Registry) firm(ctx context.Context, epoch uint64, err *error) {
	if *err == nil || apierrors.IsServiceUnavailable(*err) || apierrors.IsTimeout(*err) || apierrors.IsTooManyRequests(*err) {
		return
	}
	if unsettled := r.store.Settled(ctx, epoch); unsettled != nil {
		*err = unsettled
	}
}
