package registry

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
)

// maxWrites bounds one transaction; a decision about 5,000 children fits.
const maxWrites = 10_000

// Transact implements core.Client.
func (r *Registry) Transact(ctx context.Context, writes []core.Write) (kept []core.Object, err error) {
	defer r.firm(ctx, r.store.Epoch(), &err)
	if len(writes) > maxWrites {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("a transaction of %d writes: at most %d are permitted", len(writes), maxWrites))
	}
	entries := make([]*entry, len(writes))
	for i := range writes {
		e, err := r.checkWrite(&writes[i])
		if err != nil {
			return nil, fmt.Errorf("write %d: %w", i, err)
		}
		entries[i] = e
	}
	for attempt := 1; ; attempt++ {
		epoch := r.store.Epoch()
		t := &transaction{below: r.store, touched: map[core.Key]int{}}
		last := make([]core.Object, len(writes))
		for i := range writes {
			p, err := r.planWrite(ctx, t, entries[i], &writes[i])
			if err != nil {
				return nil, err
			}
			last[i] = p.object
			t.add(p)
		}
		err := r.commitAll(ctx, t, epoch, writes, last)
		if err == nil {
			return last, nil
		}
		raced := apierrors.IsConflict(err) || apierrors.IsNotFound(err)
		if !raced || ctx.Err() != nil || attempt == maxAttempts {
			return nil, err
		}
	}
}

// checkWrite refuses a write that does not say one thing.
func (r *Registry) checkWrite(w *core.Write) (*entry, error) {
	acts := 0
	for _, set := range []bool{w.Create != nil, w.Mutate != nil, w.Delete} {
		if set {
			acts++
		}
	}
	if acts != 1 {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("%s: exactly one of Create, Mutate and Delete is to be set, not %d", w.Key, acts))
	}
	if w.Create != nil && (w.Create.GetName() != w.Key.Name || w.Create.GetNamespace() != w.Key.Namespace) {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("%s: the object to create is named %s/%s", w.Key, w.Create.GetNamespace(), w.Create.GetName()))
	}
	return r.entryOf(w.Key)
}

func (r *Registry) planWrite(ctx context.Context, t *transaction, e *entry, w *core.Write) (plan, error) {
	q := &request{WriteOptions: core.WriteOptions{Subresource: w.Subresource}}
	if w.Create != nil {
		return r.planCreate(ctx, t, e, core.Copy(w.Create), q)
	}
	before, ok := t.before(w.Key)
	if !ok {
		return plan{}, apierrors.NewNotFound(e.resource, w.Key.Name)
	}
	if err := fence(e, before, w.UID, w.Revision, w.Generation); err != nil {
		return plan{}, err
	}
	if p, ok := t.finished(w.Key); ok && !w.Delete {
		return p, nil
	}
	if w.Delete {
		return r.planDelete(ctx, t, e, w.Key, &core.DeleteOptions{})
	}
	return r.planChange(ctx, t, e, w.Key, q, func(old core.Object) (core.Object, error) {
		object, err := e.editable(old, q)
		if err != nil {
			return nil, err
		}
		return object, w.Mutate(object)
	})
}

// commitAll commits what t has gathered and puts what was kept into last.
func (r *Registry) commitAll(ctx context.Context, t *transaction, epoch uint64, writes []core.Write, last []core.Object) error {
	ops, at := t.ops()
	if len(ops) > 0 {
		kept, err := r.store.Commit(ctx, epoch, ops)
		if err != nil {
			return err
		}
		for i := range writes {
			if n, ok := at[writes[i].Key]; ok && kept[n] != nil {
				last[i] = kept[n]
			}
		}
		return nil
	}
	return r.store.Settled(ctx, epoch)
}

// fence checks what a write insists on.
func fence(e *entry, old core.Object, uid types.UID, revision, generation int64) error {
	switch {
	case uid != "" && old.GetUID() != uid:
		return apierrors.NewConflict(e.resource, old.GetName(), fmt.Errorf("uid is %s, %s was expected", old.GetUID(), uid))
	case revision != 0 && core.Revision(old) != revision:
		return apierrors.NewConflict(e.resource, old.GetName(), errModified)
	case generation != 0 && old.GetGeneration() != generation:
		return apierrors.NewConflict(e.resource, old.GetName(), fmt.Errorf("generation is %d, %d was expected", old.GetGeneration(), generation))
	}
	return nil
}

// transaction is the latest state with the plans of a transaction over it.
type transaction struct {
	below   view
	touched map[core.Key]int // index into plans
	plans   []plan           // the first state before and the last after, a key
}

// Latest implements view.
func (t *transaction) Latest(key core.Key) (core.Object, bool) {
	if i, ok := t.touched[key]; ok {
		if t.plans[i].removed || t.plans[i].object == nil {
			return nil, false
		}
		return t.plans[i].object, true
	}
	return t.below.Latest(key)
}

// before returns the object at key as it was before the transaction, or as the
// transaction has made it: what fences are held against, for a transaction's
// own writes are no reason to refuse it.
func (t *transaction) before(key core.Key) (core.Object, bool) {
	if i, ok := t.touched[key]; ok && t.plans[i].old != nil {
		return t.plans[i].old, true
	}
	return t.Latest(key)
}

// finished returns the plan for an object that goes because the transaction
// itself took its last finalizer. What is still said of it, such as a last
// status, is no error and changes nothing.
func (t *transaction) finished(key core.Key) (plan, bool) {
	i, ok := t.touched[key]
	if !ok || !t.plans[i].removed || t.plans[i].old == nil || t.plans[i].old.GetDeletionTimestamp() == nil {
		return plan{}, false
	}
	return t.plans[i], true
}

func (t *transaction) add(p plan) {
	if p.old == nil && !p.removed {
		// So that a later write in here is an update like any other.
		p.object.SetResourceVersion("0")
	}
	i, again := t.touched[p.key]
	if !again {
		t.touched[p.key] = len(t.plans)
		t.plans = append(t.plans, p)
		return
	}
	first := t.plans[i].old
	t.plans[i] = plan{key: p.key, old: first, object: p.object, removed: p.removed}
}

// ops are the changes to commit, and where each key's is.
func (t *transaction) ops() ([]core.Op, map[core.Key]int) {
	ops := make([]core.Op, 0, len(t.plans))
	at := make(map[core.Key]int, len(t.plans))
	for i := range t.plans {
		p := &t.plans[i]
		if p.unchanged() || (p.removed && p.old == nil) {
			continue
		}
		at[p.key] = len(ops)
		ops = append(ops, p.op())
	}
	return ops, at
}
