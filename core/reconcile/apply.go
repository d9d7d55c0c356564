package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
)

// maxFailures bounds the refusals that the next decision is told of.
const maxFailures = 100

// errRefused says that parts of a decision were refused; the next decision is
// told which.
var errRefused = errors.New("parts of the decision were refused")

// note remembers objects as a subject's own writes.
func (s *parentState) note(objects ...core.Object) {
	for _, o := range objects {
		if o == nil {
			continue
		}
		revision := core.Revision(o)
		s.atLeast = max(s.atLeast, revision)
		s.own = append(s.own, revision)
	}
}

// apply makes a checked decision so. It returns whether it wrote anything.
func (e *engine) apply(ctx context.Context, c *entry, seen *observation, d *core.Decision, state *parentState) (wrote bool, err error) {
	writes, err := e.together(c, seen, d)
	if err != nil {
		return false, err
	}
	if len(writes) > 0 {
		objects, err := e.client.Transact(ctx, writes)
		if err != nil {
			if lostRace(err) {
				return false, fmt.Errorf("apply to %s: %w", seen.key, err)
			}
			state.failures = refusedUpdates(d, err)
			return false, &refusal{reason: reasonApply, err: fmt.Errorf("apply to %s: %w", seen.key, err)}
		}
		before := seen.snapshot.Revision()
		state.note(objects...)
		wrote = slices.ContainsFunc(objects, func(o core.Object) bool { return o == nil || core.Revision(o) > before })
	}
	run := applying{engine: e, entry: c, seen: seen, state: state}
	run.create(ctx, d.Create)
	run.delete(ctx, d.Delete)
	for i := range d.Events {
		if !run.belies(&d.Events[i]) {
			e.record(c, seen, &d.Events[i])
		}
	}
	if run.deleted {
		// A deletion's own revision is not told.
		state.atLeast = max(state.atLeast, e.client.Snapshot().Revision())
	}
	state.failures = run.failures
	if run.stopped {
		return wrote || run.wrote, errRefused
	}
	return wrote || run.wrote, nil
}

func refusedUpdates(d *core.Decision, err error) []core.Failure {
	if len(d.Update) == 0 {
		return nil
	}
	first := d.Update[0]
	return []core.Failure{{
		Verb: "update", Kind: first.GetObjectKind().GroupVersionKind().Kind, Name: first.GetName(),
		Reason: reasonFor(err), Message: err.Error(),
	}}
}

func reasonFor(err error) string {
	return cmp.Or(string(apierrors.ReasonForError(err)), string(metav1.StatusReasonInternalError))
}

func (e *engine) record(c *entry, seen *observation, n *core.Note) {
	about := reference(seen.Parent)
	if n.About != nil && *n.About != seen.key {
		child := c.byChild[n.About.GroupResource()]
		about = corev1.ObjectReference{
			APIVersion: child.Kind.GroupVersion().String(), Kind: child.Kind.Kind,
			Namespace: n.About.Namespace, Name: n.About.Name,
		}
		if object, ok := seen.snapshot.Get(*n.About); ok {
			about.UID = object.GetUID()
		}
	}
	e.events.Event(c.source, about, n.Type, n.Reason, n.Message)
}

// applying creates and deletes children one by one.
type applying struct {
	*engine
	*entry
	seen  *observation
	state *parentState

	mu       sync.Mutex // guards what follows
	wrote    bool
	deleted  bool
	stopped  bool // at the first refusal
	failures []core.Failure
	undone   map[string]struct{} // names of children that were not created or deleted
}

// belies tells whether a note says that something was done which was not: a
// decision notes "Created pod: web-x" before it is known.
func (a *applying) belies(n *core.Note) bool {
	if len(a.undone) == 0 || n.Type != corev1.EventTypeNormal {
		return false
	}
	_, undone := a.undone[n.Message[strings.LastIndexByte(n.Message, ' ')+1:]]
	return undone
}

func (a *applying) leave(name string) {
	if a.undone == nil {
		a.undone = map[string]struct{}{}
	}
	a.undone[name] = struct{}{}
}

// create creates children, doubling the pace as long as none is refused.
func (a *applying) create(ctx context.Context, objects []core.Object) {
	if len(objects) == 0 {
		return
	}
	owner := ownerReference(a.entry, a.seen.Parent)
	for pace := 1; len(objects) > 0 && !a.stopped && ctx.Err() == nil; pace = min(2*pace, a.creates) {
		batch := objects[:min(pace, len(objects))]
		objects = objects[len(batch):]
		if len(batch) == 1 {
			a.createOne(ctx, batch[0], owner)
			continue
		}
		var wg sync.WaitGroup
		for _, object := range batch {
			wg.Go(func() { a.createOne(ctx, object, owner) })
		}
		wg.Wait()
	}
	for _, object := range objects {
		a.leave(object.GetName())
	}
}

func (a *applying) createOne(ctx context.Context, object core.Object, owner metav1.OwnerReference) {
	kind, name := object.GetObjectKind().GroupVersionKind().Kind, object.GetName()
	key := core.KeyFor(a.entry.children[object.GetObjectKind().GroupVersionKind().GroupKind()].Resource, object)
	object.SetOwnerReferences(append(slices.Clone(object.GetOwnerReferences()), owner))
	created, err := a.client.Create(ctx, object, core.WriteOptions{FieldManager: a.source})
	if apierrors.IsAlreadyExists(err) && a.isOurs(key) {
		return // a decision made again
	}
	a.result("create", kind, name, created, err)
}

// isOurs tells whether the object at key is a child of this parent, created
// by an earlier try of the same decision.
func (a *applying) isOurs(key core.Key) bool {
	object, ok := a.client.Snapshot().Get(key)
	if !ok {
		return false
	}
	owner := metav1.GetControllerOfNoCopy(object)
	if owner == nil || owner.UID != a.seen.Parent.GetUID() {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state.atLeast = max(a.state.atLeast, core.Revision(object))
	return true
}

// delete deletes children, at most a.creates at a time.
func (a *applying) delete(ctx context.Context, deletions []core.Deletion) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, a.creates) // one token for each deletion under way
	for i := range deletions {
		if a.halted(ctx) {
			a.mu.Lock()
			a.leave(deletions[i].Key.Name)
			a.mu.Unlock()
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			a.deleteOne(ctx, &deletions[i])
		})
	}
	wg.Wait()
}

func (a *applying) halted(ctx context.Context) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stopped || ctx.Err() != nil
}

func (a *applying) deleteOne(ctx context.Context, d *core.Deletion) {
	last, _, err := a.client.Delete(ctx, d.Key, core.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(d.UID))})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return // it is gone, or another one of its name
	}
	a.log.Debug("deleted child", "object", d.Key.String(), "parent", a.seen.key.String(), "reason", d.Reason)
	a.result("delete", a.byChild[d.Key.GroupResource()].Kind.Kind, d.Key.Name, last, err)
}

// result notes how one write of a child went.
func (a *applying) result(verb, kind, name string, object core.Object, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil {
		a.wrote, a.deleted = true, a.deleted || verb == "delete"
		a.state.note(object)
		return
	}
	a.stopped = true
	a.leave(name)
	if len(a.failures) < maxFailures && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		a.failures = append(a.failures, core.Failure{Verb: verb, Kind: kind, Name: name, Reason: reasonFor(err), Message: err.Error()})
	}
}
