package mapstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
)

// Client is a core.Client over a Store that neither defaults nor validates:
// for tests of what stands on a Client. It knows the kinds it was given. Pods
// bound to a node are deleted in two phases.
type Client struct {
	*Store
	kinds []*core.Kind
	names atomic.Int64
	// Refuse, if set, is asked before each write; set it before use.
	Refuse func(verb string, key core.Key, object core.Object) error
}

var _ core.Client = (*Client)(nil)

// NewClient returns a Client with these kinds over a new Store.
func NewClient(kinds ...*core.Kind) *Client { return &Client{Store: New(), kinds: kinds} }

// Kind makes a Kind of the group, version, kind and resource.
func Kind(gvk schema.GroupVersionKind, resource string, namespaced bool) *core.Kind {
	return &core.Kind{
		Group: gvk.Group, Kind: gvk.Kind, ListKind: gvk.Kind + "List", Resource: resource, Namespaced: namespaced,
		Storage: gvk.Version, Versions: []core.Version{{Name: gvk.Version}}, Subresources: []string{"status"},
	}
}

// Kinds implements core.Kinds.
func (c *Client) Kinds() iter.Seq[*core.Kind] {
	return func(yield func(*core.Kind) bool) {
		for _, k := range c.kinds {
			if !yield(k) {
				return
			}
		}
	}
}

// KindOf implements core.Kinds.
func (c *Client) KindOf(r core.GroupResource) (*core.Kind, bool) {
	for _, k := range c.kinds {
		if k.GroupResource() == r {
			return k, true
		}
	}
	return nil, false
}

// KindNamed implements core.Kinds.
func (c *Client) KindNamed(g schema.GroupKind) (*core.Kind, bool) {
	for _, k := range c.kinds {
		if k.Group == g.Group && k.Kind == g.Kind {
			return k, true
		}
	}
	return nil, false
}

// Generation implements core.Kinds.
func (c *Client) Generation() int64 { return 1 }

func (c *Client) refused(verb string, key core.Key, o core.Object) error {
	if c.Refuse == nil {
		return nil
	}
	return c.Refuse(verb, key, o)
}

// Create implements core.Client.
func (c *Client) Create(ctx context.Context, o core.Object, w core.WriteOptions) (core.Object, error) {
	kind, ok := c.KindNamed(o.GetObjectKind().GroupVersionKind().GroupKind())
	if !ok {
		return nil, apierrors.NewBadRequest("no kind " + o.GetObjectKind().GroupVersionKind().String())
	}
	key := c.prepare(kind.GroupResource(), o)
	if err := c.refused("create", key, o); err != nil {
		return nil, err
	}
	if w.DryRun {
		return o, nil
	}
	kept, err := c.Commit(ctx, c.Epoch(), []core.Op{{Key: key, Object: o}})
	if err != nil {
		return nil, err
	}
	return kept[0], nil
}

func (c *Client) prepare(r core.GroupResource, o core.Object) core.Key {
	n := c.names.Add(1)
	if o.GetName() == "" {
		o.SetName(o.GetGenerateName() + strconv.FormatInt(n, 36))
	}
	o.SetUID(types.UID("uid-" + strconv.FormatInt(n, 10)))
	o.SetCreationTimestamp(metav1.NewTime(time.Now()))
	o.SetGeneration(1)
	return core.KeyFor(r, o)
}

// Update implements core.Client.
func (c *Client) Update(ctx context.Context, key core.Key, o core.Object, w core.WriteOptions) (core.Object, error) {
	return c.one(ctx, core.Write{Key: key, Subresource: w.Subresource, UID: o.GetUID(), Revision: core.Revision(o), Mutate: func(dst core.Object) error {
		return assign(dst, o)
	}}, w.DryRun)
}

// Patch implements core.Client by refusing.
func (c *Client) Patch(_ context.Context, key core.Key, _ core.Patch, _ core.WriteOptions) (core.Object, error) {
	return nil, apierrors.NewMethodNotSupported(key.GroupResource(), "patch")
}

// Mutate implements core.Client.
func (c *Client) Mutate(ctx context.Context, key core.Key, change func(core.Object) error, w core.WriteOptions) (core.Object, error) {
	for {
		o, err := c.one(ctx, core.Write{Key: key, Subresource: w.Subresource, Mutate: change}, w.DryRun)
		if !errors.Is(err, errRaced) {
			return o, err
		}
	}
}

var errRaced = errors.New("another write came first")

func (c *Client) one(ctx context.Context, w core.Write, dryRun bool) (core.Object, error) {
	op, result, err := c.op(c.Snapshot(), &w)
	if err != nil || dryRun || op == nil {
		return result, err
	}
	kept, err := c.Commit(ctx, c.Epoch(), []core.Op{*op})
	if apierrors.IsConflict(err) && w.Revision == 0 {
		return nil, errRaced
	}
	if err != nil {
		return nil, err
	}
	if kept[0] == nil {
		return result, nil
	}
	return kept[0], nil
}

// op computes a write upon a snapshot; nil if it changes nothing.
func (c *Client) op(s core.Snapshot, w *core.Write) (*core.Op, core.Object, error) {
	old, ok := s.Get(w.Key)
	if !ok {
		return nil, nil, apierrors.NewNotFound(w.Key.GroupResource(), w.Key.Name)
	}
	if (w.UID != "" && w.UID != old.GetUID()) || (w.Revision != 0 && w.Revision != core.Revision(old)) || (w.Generation != 0 && w.Generation != old.GetGeneration()) {
		return nil, nil, apierrors.NewConflict(w.Key.GroupResource(), w.Key.Name, fmt.Errorf("a fence does not hold"))
	}
	if w.Delete {
		return &core.Op{Key: w.Key, Expect: core.Revision(old)}, old, nil
	}
	o := core.Copy(old)
	if err := w.Mutate(o); err != nil {
		return nil, nil, err
	}
	o.SetResourceVersion(old.GetResourceVersion())
	if equality.Semantic.DeepEqual(o, old) {
		return nil, old, nil
	}
	if err := c.refused("update", w.Key, o); err != nil {
		return nil, nil, err
	}
	if w.Subresource == "" && specDiffers(o, old) {
		o.SetGeneration(old.GetGeneration() + 1)
	}
	if o.GetDeletionTimestamp() != nil && len(o.GetFinalizers()) == 0 && ptrZero(o.GetDeletionGracePeriodSeconds()) {
		return &core.Op{Key: w.Key, Expect: core.Revision(old)}, o, nil
	}
	return &core.Op{Key: w.Key, Expect: core.Revision(old), Object: o}, o, nil
}

func ptrZero(p *int64) bool { return p == nil || *p == 0 }

// Delete implements core.Client.
func (c *Client) Delete(ctx context.Context, key core.Key, d core.DeleteOptions) (core.Object, bool, error) {
	for {
		o, live, err := c.deleteOnce(ctx, key, d)
		if !errors.Is(err, errRaced) {
			return o, live, err
		}
	}
}

func (c *Client) deleteOnce(ctx context.Context, key core.Key, d core.DeleteOptions) (core.Object, bool, error) {
	old, ok := c.Snapshot().Get(key)
	if !ok {
		return nil, false, apierrors.NewNotFound(key.GroupResource(), key.Name)
	}
	if p := d.Preconditions; p != nil && p.UID != nil && *p.UID != old.GetUID() {
		return nil, false, apierrors.NewConflict(key.GroupResource(), key.Name, errors.New("another uid"))
	}
	if err := c.refused("delete", key, old); err != nil {
		return nil, false, err
	}
	o := core.Copy(old)
	grace := int64(0)
	if node := nodeOf(old); node != "" {
		grace = 30
	}
	if d.GracePeriodSeconds != nil {
		grace = *d.GracePeriodSeconds
	}
	if d.Propagation != nil {
		o.SetFinalizers(append(o.GetFinalizers(), propagationFinalizers[*d.Propagation]...))
	}
	if grace == 0 && len(o.GetFinalizers()) == 0 {
		_, err := c.Commit(ctx, c.Epoch(), []core.Op{{Key: key, Expect: core.Revision(old)}})
		return old, false, raced(err)
	}
	if o.GetDeletionTimestamp() == nil {
		o.SetDeletionTimestamp(&metav1.Time{Time: time.Now().Add(time.Duration(grace) * time.Second)})
		o.SetGeneration(o.GetGeneration() + 1)
	}
	o.SetDeletionGracePeriodSeconds(&grace)
	kept, err := c.Commit(ctx, c.Epoch(), []core.Op{{Key: key, Expect: core.Revision(old), Object: o}})
	if err != nil {
		return nil, false, raced(err)
	}
	return kept[0], true, nil
}

var propagationFinalizers = map[metav1.DeletionPropagation][]string{
	metav1.DeletePropagationForeground: {metav1.FinalizerDeleteDependents},
	metav1.DeletePropagationOrphan:     {metav1.FinalizerOrphanDependents},
}

func raced(err error) error {
	if apierrors.IsConflict(err) {
		return errRaced
	}
	return err
}

// Transact implements core.Client. Each key may be written more than once.
func (c *Client) Transact(ctx context.Context, writes []core.Write) ([]core.Object, error) {
	over := &Store{now: c.Snapshot().(*snapshot), previous: map[place]int64{}, moved: make(chan struct{})} //nolint:forcetypeassert // our own
	results := make([]core.Object, len(writes))
	final := map[core.Key]int{}
	var ops []core.Op
	for i := range writes {
		w := &writes[i]
		op, result, err := &core.Op{Key: w.Key, Object: w.Create}, w.Create, error(nil)
		if w.Create != nil {
			c.prepare(w.Key.GroupResource(), w.Create)
			err = c.refused("create", w.Key, w.Create)
		} else {
			op, result, err = c.op(over.now, w)
		}
		if err != nil {
			return nil, err
		}
		results[i] = result
		if op == nil {
			continue
		}
		if n, again := final[op.Key]; again {
			ops[n].Object = op.Object
		} else {
			final[op.Key] = len(ops)
			ops = append(ops, *op)
		}
		if op.Object != nil {
			shadow := *op
			shadow.Object = core.Copy(op.Object)
			if _, err := over.Commit(ctx, over.Epoch(), []core.Op{shadow}); err != nil {
				return nil, err
			}
		}
	}
	if len(ops) == 0 {
		return results, nil
	}
	kept, err := c.Commit(ctx, c.Epoch(), ops)
	if err != nil {
		return nil, err
	}
	for i := range writes {
		if n, ok := final[writes[i].Key]; ok && kept[n] != nil {
			results[i] = kept[n]
		}
	}
	return results, nil
}
