package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/weftrun/weft/core"
)

// Events records what happens to objects. Event never blocks. core/events
// implements it.
type Events interface {
	Event(source string, about corev1.ObjectReference, kind, reason, message string)
}

// Reasons of the events that come from here and not from a controller.
const (
	reasonDecide  = "DecisionFailed"
	reasonInvalid = "DecisionRefused"
	reasonAside   = "SetAside"
	reasonApply   = "ApplyFailed"
	reasonHot     = "HotLoop"
)

// engine performs rounds over a client: the cluster's, or a plan's overlay.
type engine struct {
	client  core.Client
	router  *router
	events  Events
	log     *slog.Logger
	timeout time.Duration // of one decision
	creates int           // at once
	// watch makes sure that a resource is watched; nil in a plan.
	watch func(core.GroupResource)
	now   func() time.Time // fixed in a plan
	// decided hears how long a controller took; nil in a plan.
	decided func(kind string, took time.Duration)
}

// round observes, decides and applies once for s.
func (e *engine) round(ctx context.Context, c *entry, s subject, state *parentState) outcome {
	begin := time.Now()
	state.begin()
	defer state.end()
	seen, err := e.observe(ctx, c, s, state)
	if err != nil {
		return outcome{err: err}
	}
	if seen == nil {
		return outcome{gone: true}
	}
	if seen.skip {
		return outcome{cost: time.Since(begin)}
	}
	decision, err := e.decide(ctx, c, seen)
	o := outcome{cost: time.Since(begin)}
	if err == nil {
		err = check(c, seen, &decision)
		if err != nil {
			err = &refusal{reason: reasonInvalid, err: err}
		}
	}
	if err == nil {
		o.requeue = min(decision.RequeueAfter, maxRequeue)
		o.wrote, err = e.apply(ctx, c, seen, &decision, state)
	}
	o.err = err
	e.tell(c, seen, err)
	return o
}

// refusal is an error that is shown on the parent.
type refusal struct {
	reason string
	err    error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// tell shows what went wrong on the parent, unless it is a lost race.
func (e *engine) tell(c *entry, seen *observation, err error) {
	var r *refusal
	if err == nil || !errors.As(err, &r) {
		return
	}
	e.log.Warn("round failed", "kind", c.Kind.Kind, "object", seen.key.String(), "reason", r.reason, "err", err)
	e.events.Event(c.source, reference(seen.Parent), corev1.EventTypeWarning, r.reason, err.Error())
}

// decide calls the controller with a deadline.
func (e *engine) decide(ctx context.Context, c *entry, seen *observation) (decision core.Decision, err error) {
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			e.log.Error("controller panicked", "kind", c.Kind.Kind, "object", seen.key.String(), "panic", p, "stack", string(debug.Stack()))
			err = &refusal{reason: reasonDecide, err: fmt.Errorf("controller %s panicked: %v", c.Name, p)}
		}
	}()
	begin := time.Now()
	decision, err = c.Decide(ctx, seen.Observation)
	if e.decided != nil {
		e.decided(c.Kind.Kind, time.Since(begin))
	}
	if err == nil {
		return decision, nil
	}
	if parent := context.Cause(ctx); parent != nil && !errors.Is(parent, context.DeadlineExceeded) {
		return core.Decision{}, err // the core itself is stopping
	}
	if _, ok := errors.AsType[*core.SetAsideError](err); ok {
		return core.Decision{}, &refusal{reason: reasonAside, err: err}
	}
	return core.Decision{}, &refusal{reason: reasonDecide, err: fmt.Errorf("decide: %w", err)}
}

// lostRace tells that an error only says that the world has moved on, or is
// too busy now.
func lostRace(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsNotFound(err) || apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err) || apierrors.IsTooManyRequests(err)
}

func reference(o core.Object) corev1.ObjectReference {
	gvk := o.GetObjectKind().GroupVersionKind()
	return corev1.ObjectReference{
		APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind,
		Namespace: o.GetNamespace(), Name: o.GetName(), UID: o.GetUID(),
	}
}
