package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
)

// Bounds of a plan.
const (
	maxPlanObjects = 10000
	maxPlanRounds  = 2000
	maxPlanWrites  = 20000
)

// ErrUnfinished says that a plan shows only the beginning: the controllers
// would have gone on beyond the bounds of planning.
var ErrUnfinished = errors.New("the plan is cut off: controllers did not come to rest within its bounds")

// PlannedChange is one thing that would happen to an object.
type PlannedChange struct {
	Verb string // "create", "update" or "delete"
	Key  core.Key
	// Before is the object as it is; nil for a creation.
	Before core.Object
	// After is the object as it would be; nil for a deletion. UIDs and
	// generated names in it stand for those that would be drawn.
	After core.Object
}

// Plan tells what would come of applying objects: what the controllers would
// create, change and delete until they come to rest, ordered by key. Nothing
// is written. Nodes and time stand still meanwhile, so of a rollout that waits
// for pods to be ready it shows the first step. With an error the changes
// found until then are returned, too; it is ErrUnfinished if bounds were hit.
// It may be called concurrently, and while Run runs or not.
func (r *Reconciler) Plan(ctx context.Context, objects []core.Object, now time.Time) ([]PlannedChange, error) {
	if len(objects) > maxPlanObjects {
		return nil, fmt.Errorf("plan %d objects: at most %d are allowed", len(objects), maxPlanObjects)
	}
	controllers, _ := r.config.Source.Controllers()
	t, _ := newTable(controllers)
	p := &planning{over: newOverlay(r.config.Client, now), router: newRouter(r.config.Client, t), waits: map[subject]struct{}{}, states: map[subject]*parentState{}}
	p.engine = engine{
		client: p.over, router: p.router, events: noEvents{}, log: r.config.Logger,
		timeout: r.config.DecideTimeout, creates: 1, now: func() time.Time { return now },
	}
	p.findOrphans()
	for _, object := range objects {
		if err := p.applyGiven(ctx, core.Copy(object)); err != nil {
			return p.over.result(), fmt.Errorf("plan %s %q: %w", object.GetObjectKind().GroupVersionKind().Kind, object.GetName(), err)
		}
	}
	err := p.settle(ctx)
	return p.over.result(), err
}

// planning is one plan being made.
type planning struct {
	engine engine
	over   *overlay
	router *router
	order  []subject
	waits  map[subject]struct{}
	states map[subject]*parentState
}

func (p *planning) findOrphans() {
	snapshot := p.over.Snapshot()
	for resource := range p.router.table.byChild {
		if !p.router.adoptable(resource) {
			continue
		}
		for key, object := range snapshot.List(resource, "") {
			p.router.note(&core.Change{Key: key, Object: object})
		}
	}
}

// applyGiven applies one of the given objects to the overlay.
func (p *planning) applyGiven(ctx context.Context, object core.Object) error {
	kind, ok := p.over.KindNamed(object.GetObjectKind().GroupVersionKind().GroupKind())
	if !ok {
		return apierrors.NewBadRequest("no kind " + object.GetObjectKind().GroupVersionKind().String() + " is served")
	}
	if kind.Namespaced && object.GetNamespace() == "" {
		object.SetNamespace("default")
	}
	key := core.KeyFor(kind.GroupResource(), object)
	if _, exists := p.over.snap.Get(key); !exists || object.GetName() == "" {
		_, err := p.over.Create(ctx, object, core.WriteOptions{Version: object.GetObjectKind().GroupVersionKind().Version})
		return err
	}
	body, err := json.Marshal(object)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	after, err := p.over.base.Patch(ctx, key, core.Patch{Type: types.ApplyPatchType, Data: body}, core.WriteOptions{
		DryRun: true, FieldManager: "weft-plan", Force: true,
	})
	if err != nil {
		return err
	}
	p.over.put(key, core.Copy(after))
	return nil
}

// settle lets the controllers decide until none has a reason to.
func (p *planning) settle(ctx context.Context) error {
	var errs []error
	failed := map[subject]struct{}{}
	for rounds := 0; ; rounds++ {
		p.spread()
		if len(p.order) == 0 {
			return errors.Join(errs...)
		}
		if rounds >= maxPlanRounds || p.over.writes > maxPlanWrites {
			return errors.Join(append(errs, ErrUnfinished)...)
		}
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		s := p.order[0]
		p.order = p.order[1:]
		delete(p.waits, s)
		state := p.states[s]
		if state == nil {
			state = &parentState{}
			p.states[s] = state
		}
		o := p.engine.round(ctx, p.router.table.byName[s.controller], s, state)
		if _, again := failed[s]; o.err != nil && !again {
			failed[s] = struct{}{}
			errs = append(errs, fmt.Errorf("controller %s on %s: %w", s.controller, s.key, o.err))
		}
	}
}

// spread turns the changes since the last call into subjects to decide.
func (p *planning) spread() {
	changes, snapshot := p.over.take(), p.over.Snapshot()
	for i := range changes {
		p.router.note(&changes[i])
		p.router.route(&changes[i], snapshot, func(s subject) {
			if _, waits := p.waits[s]; !waits {
				p.waits[s] = struct{}{}
				p.order = append(p.order, s)
			}
		})
	}
}
