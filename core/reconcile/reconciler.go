package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/weftrun/weft/core"
)

// Config configures a Reconciler. The zero value of an optional field means
// its default.
type Config struct {
	Client core.Client           // required
	Source core.ControllerSource // required
	Logger *slog.Logger          // required
	// Events takes the events of decisions; optional: they are dropped.
	Events Events
	// Decided hears how long the controller of a kind took to answer; optional.
	// It is called concurrently and must be fast.
	Decided func(kind string, took time.Duration)
	// Workers is how many parents are decided at once; optional, 8. Those
	// whose controller has not answered for a while do not count; of one
	// controller there are 8 at most.
	Workers int
	// DecideTimeout is how long one decision may take; optional, 10 s.
	DecideTimeout time.Duration
	// Creates is how many children of one parent are created or deleted at
	// once; optional, 64.
	Creates int
}

// Validate says what is wrong with c.
func (c Config) Validate() error {
	var errs []error
	if c.Client == nil || c.Source == nil || c.Logger == nil {
		errs = append(errs, errors.New("client, source and logger are required"))
	}
	if c.Workers < 0 || c.DecideTimeout < 0 || c.Creates < 0 {
		errs = append(errs, errors.New("workers, decide timeout and creates must not be negative"))
	}
	return errors.Join(errs...)
}

// Reconciler runs the controllers of its source against its client.
type Reconciler struct {
	config  Config
	engine  engine
	router  *router
	queue   *queue
	watches watches
}

// New returns a Reconciler that works once Run runs.
func New(c Config) (*Reconciler, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("reconcile: %w", err)
	}
	c.Workers = cmp.Or(c.Workers, 8)
	c.DecideTimeout = cmp.Or(c.DecideTimeout, 10*time.Second)
	c.Creates = cmp.Or(c.Creates, 64)
	if c.Events == nil {
		c.Events = noEvents{}
	}
	if c.Decided == nil {
		c.Decided = func(string, time.Duration) {}
	}
	empty, _ := newTable(nil)
	r := &Reconciler{config: c, router: newRouter(c.Client, empty), queue: newQueue()}
	r.engine = engine{
		client: c.Client, router: r.router, events: c.Events, log: c.Logger,
		timeout: c.DecideTimeout, creates: c.Creates, now: time.Now, watch: r.watches.want, decided: c.Decided,
	}
	r.watches.init()
	return r, nil
}

type noEvents struct{}

func (noEvents) Event(string, corev1.ObjectReference, string, string, string) {}

// Run reconciles until ctx ends; rounds that have begun are finished, or see
// ctx end. Run it once.
func (r *Reconciler) Run(ctx context.Context) error {
	ctx = core.WithUser(ctx, core.System("reconcile"))
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.follow(ctx) })
	group.Go(func() error { return r.runWatches(ctx) })
	for range r.config.Workers {
		group.Go(func() error { return r.work(ctx, group) })
	}
	return group.Wait()
}

// follow keeps the table of controllers that of the source.
func (r *Reconciler) follow(ctx context.Context) error {
	left := map[core.GroupResource]*entry{}
	for {
		controllers, changed := r.config.Source.Controllers()
		t, errs := newTable(controllers)
		for _, err := range errs {
			r.config.Logger.Error("controller cannot serve", "err", err)
		}
		retry := r.define(ctx, t)
		r.tellLeft(left, r.router.current(), t)
		r.router.replace(t)
		r.watches.wantAll(r.router.resources())
		r.enqueueParents(t)
		var again <-chan time.Time
		if retry {
			again = time.After(time.Second)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-again:
		}
	}
}

// define keeps the definitions that controllers bring along. It returns true
// if one could not be written now.
func (r *Reconciler) define(ctx context.Context, t *table) (retry bool) {
	for _, e := range t.byName {
		if e.Definition == nil {
			continue
		}
		if err := r.defineOne(ctx, e); err != nil && ctx.Err() == nil {
			r.config.Logger.Warn("definition not written", "kind", e.Kind.Kind, "err", err)
			retry = retry || !apierrors.IsInvalid(err)
		}
	}
	return retry
}

func (r *Reconciler) defineOne(ctx context.Context, e *entry) error {
	wanted := core.Copy(e.Definition)
	wanted.Name = e.Resource.Resource + "." + e.Resource.Group
	wanted.APIVersion, wanted.Kind = "apiextensions.k8s.io/v1", "CustomResourceDefinition"
	key := core.KeyFor(core.Definitions, wanted)
	if _, exists := r.config.Client.Snapshot().Get(key); !exists {
		_, err := r.config.Client.Create(ctx, core.Copy(wanted), core.WriteOptions{FieldManager: e.source})
		if !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	_, err := r.config.Client.Mutate(ctx, key, func(o core.Object) error { return replaceSpec(o, wanted) }, core.WriteOptions{FieldManager: e.source})
	return err
}

func (r *Reconciler) enqueueParents(t *table) {
	snapshot := r.config.Client.Snapshot()
	for resource, entries := range t.byParent {
		for key := range snapshot.List(resource, "") {
			for _, e := range entries {
				r.queue.add(subject{controller: e.Name, key: key}, 0)
			}
		}
	}
}

// relieveAfter is how long a round may take before another worker takes the
// place of its own.
const relieveAfter = 50 * time.Millisecond

// work performs rounds until ctx ends. A round that takes long, as when its
// controller does not answer, does not keep others waiting: then another worker
// begins in the group, and this one ends with the round.
func (r *Reconciler) work(ctx context.Context, group *errgroup.Group) error {
	for {
		w := r.queue.next(ctx)
		if w == nil {
			return nil
		}
		relieved := make(chan struct{})
		timer := time.AfterFunc(relieveAfter, func() {
			group.Go(func() error { return r.work(ctx, group) })
			close(relieved)
		})
		r.perform(ctx, w)
		if !timer.Stop() {
			<-relieved
			return nil
		}
	}
}

// perform performs one round.
func (r *Reconciler) perform(ctx context.Context, w *work) {
	c, serves := r.router.current().byName[w.controller]
	if !serves {
		r.router.forget(w.subject)
		r.queue.done(w, outcome{gone: true})
		return
	}
	o := r.engine.round(ctx, c, w.subject, &w.state)
	if o.err != nil && ctx.Err() == nil {
		r.config.Logger.Debug("round to be tried again", "kind", c.Kind.Kind, "object", w.key.String(), "err", o.err)
	}
	if r.queue.done(w, o) {
		r.nameHot(c, w.key)
	}
}

// nameHot shows on a parent that its controller goes round in circles.
func (r *Reconciler) nameHot(c *entry, key core.Key) {
	parent, ok := r.config.Client.Snapshot().Get(key)
	if !ok {
		return
	}
	r.config.Logger.Warn("controller changes its mind without end", "kind", c.Kind.Kind, "object", key.String())
	r.config.Events.Event(c.source, reference(parent), corev1.EventTypeWarning, reasonHot,
		fmt.Sprintf("controller %s has written more than %d times in succession although nothing else has changed; it is slowed down", c.Name, hotRounds))
}
