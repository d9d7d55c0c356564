package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftrun/weft/core"
)

const (
	// closingInterval is how often a definition that is being deleted is
	// looked at again while it still has objects.
	closingInterval = 200 * time.Millisecond
	// retryInterval is the pause after something went wrong.
	retryInterval = time.Second
)

// compiledKey tells when a definition must be compiled anew.
type compiledKey struct {
	uid        types.UID
	generation int64
	names      string
	closing    bool
}

// Run follows the CustomResourceDefinitions until ctx ends: it serves their
// kinds, tells in their status how that went, and empties those that are being
// deleted. Only one registry over a store may run at a time. The error is the
// store's; that ctx has ended is none.
func (r *Registry) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := r.follow(ctx); err != nil && ctx.Err() == nil && !apierrors.IsResourceExpired(err) {
			return fmt.Errorf("follow %s: %w", core.Definitions, err)
		}
	}
	return nil
}

// follow is Run from a fresh look at the state until the watch breaks.
func (r *Registry) follow(ctx context.Context) error {
	snapshot := r.store.Snapshot()
	watch, err := r.store.Watch(core.Definitions, "", snapshot.Revision())
	if err != nil {
		return err
	}
	defer watch.Close()
	for {
		again := r.reconcile(ctx, snapshot)
		if err := r.next(ctx, watch, again); err != nil {
			return err
		}
		snapshot = r.store.Snapshot()
	}
}

// next waits for a change of a definition, or for the time to look again.
func (r *Registry) next(ctx context.Context, watch core.Watch, again time.Duration) error {
	limited := ctx
	if again > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, again)
		defer cancel()
	}
	_, err := watch.Next(limited)
	if err != nil && again > 0 && limited.Err() != nil {
		return ctx.Err()
	}
	return err
}

// reconcile serves what snapshot defines and says so; again is when to look
// again even if nothing changes, 0 for never.
func (r *Registry) reconcile(ctx context.Context, snapshot core.Snapshot) (again time.Duration) {
	later := func(d time.Duration) {
		if again == 0 || d < again {
			again = d
		}
	}
	for _, v := range r.refresh(snapshot) {
		if err := r.report(ctx, v); err != nil {
			r.log.LogAttrs(ctx, slog.LevelWarn, "definition's status is not written", slog.String("object", v.definition.Name), slog.Any("err", err))
			later(retryInterval)
		}
		if v.definition.DeletionTimestamp == nil {
			continue
		}
		done, err := r.empty(ctx, v)
		switch {
		case err != nil:
			r.log.LogAttrs(ctx, slog.LevelWarn, "definition is not emptied", slog.String("object", v.definition.Name), slog.Any("err", err))
			later(retryInterval)
		case !done:
			later(closingInterval)
		}
	}
	return again
}

// verdict is what becomes of a definition.
type verdict struct {
	definition *apiextensionsv1.CustomResourceDefinition
	names      apiextensionsv1.CustomResourceDefinitionNames // accepted
	conflict   *metav1.Condition                             // reason and message, if not all names are accepted
	entry      *entry                                        // nil if it is not served
	problem    error                                         // why it cannot be served
}

// refresh brings the catalogue up to date with the definitions in snapshot.
func (r *Registry) refresh(snapshot core.Snapshot) []*verdict {
	var definitions []*apiextensionsv1.CustomResourceDefinition
	for _, object := range snapshot.List(core.Definitions, "") {
		if d, ok := object.(*apiextensionsv1.CustomResourceDefinition); ok {
			definitions = append(definitions, d)
		}
	}
	verdicts := judge(definitions, r.builtin)

	r.compiling.Lock()
	defer r.compiling.Unlock()
	entries := slices.Clone(r.builtin)
	compiled := make(map[compiledKey]*entry, len(verdicts))
	for _, v := range verdicts {
		if v.names.Plural == "" || v.names.Kind == "" {
			continue
		}
		key := compiledKey{
			uid: v.definition.UID, generation: v.definition.Generation,
			names: fmt.Sprintf("%q", v.names), closing: v.definition.DeletionTimestamp != nil,
		}
		v.entry = r.compiled[key]
		if v.entry == nil {
			v.entry, v.problem = compile(v.definition, v.names)
		}
		if v.entry != nil {
			compiled[key] = v.entry
			entries = append(entries, v.entry)
		}
	}
	r.compiled = compiled
	r.swap(entries)
	return verdicts
}

// swap makes entries the catalogue, unless they are it already.
func (r *Registry) swap(entries []*entry) {
	current := r.kinds.Load()
	if len(entries) == len(current.ordered) && !slices.ContainsFunc(entries, func(e *entry) bool { return current.byResource[e.resource] != e }) {
		return
	}
	r.kinds.Store(newCatalogue(current.generation+1, entries))
}

// judge gives each definition its names: a name belongs to a built-in kind, or
// to the definition that has been given it, or else to the oldest that asks.
func judge(definitions []*apiextensionsv1.CustomResourceDefinition, builtin []*entry) []*verdict {
	taken := map[nameKey]types.UID{}
	for _, e := range builtin {
		for _, n := range namesOf(e.kind.Group, e.kind.Resource, e.kind.Singular, e.kind.ShortNames, e.kind.Kind, e.kind.ListKind) {
			taken[n] = "built in"
		}
	}
	slices.SortStableFunc(definitions, func(a, b *apiextensionsv1.CustomResourceDefinition) int {
		if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	for _, d := range definitions {
		for _, n := range namesOfDefinition(d.Spec.Group, &d.Status.AcceptedNames) {
			if _, there := taken[n]; !there {
				taken[n] = d.UID
			}
		}
	}
	verdicts := make([]*verdict, 0, len(definitions))
	for _, d := range definitions {
		verdicts = append(verdicts, nameDefinition(d, taken))
	}
	return verdicts
}

// nameKey is a name in use: resources and kinds have separate names.
type nameKey struct {
	group string
	kind  bool
	name  string
}

func namesOf(group, plural, singular string, short []string, kind, list string) []nameKey {
	var names []nameKey
	for _, n := range append([]string{plural, singular}, short...) {
		if n != "" {
			names = append(names, nameKey{group, false, n})
		}
	}
	for _, n := range []string{kind, list} {
		if n != "" {
			names = append(names, nameKey{group, true, n})
		}
	}
	return names
}

func namesOfDefinition(group string, n *apiextensionsv1.CustomResourceDefinitionNames) []nameKey {
	return namesOf(group, n.Plural, n.Singular, n.ShortNames, n.Kind, n.ListKind)
}

// nameDefinition gives d those of its names that are free, and keeps for the
// others what it had.
func nameDefinition(d *apiextensionsv1.CustomResourceDefinition, taken map[nameKey]types.UID) *verdict {
	v := &verdict{definition: d, names: *d.Status.AcceptedNames.DeepCopy()}
	take := func(reason string, kind bool, names ...string) bool {
		for _, name := range names {
			if owner, there := taken[nameKey{d.Spec.Group, kind, name}]; there && owner != d.UID {
				v.conflict = &metav1.Condition{Reason: reason, Message: fmt.Sprintf("%q is already in use", name)}
				return false
			}
		}
		for _, name := range names {
			if name != "" {
				taken[nameKey{d.Spec.Group, kind, name}] = d.UID
			}
		}
		return true
	}
	want := &d.Spec.Names
	if take("PluralConflict", false, want.Plural) {
		v.names.Plural = want.Plural
	}
	if take("SingularConflict", false, want.Singular) {
		v.names.Singular = want.Singular
	}
	if take("ShortNamesConflict", false, want.ShortNames...) {
		v.names.ShortNames = slices.Clone(want.ShortNames)
	}
	if take("KindConflict", true, want.Kind) {
		v.names.Kind = want.Kind
	}
	if take("ListKindConflict", true, want.ListKind) {
		v.names.ListKind = want.ListKind
	}
	v.names.Categories = slices.Clone(want.Categories)
	if v.conflict != nil && d.Status.AcceptedNames.Plural == "" {
		v.names.Plural = "" // never established: not served under half of its names
	}
	return v
}

// report writes a definition's conditions, if they are not right already.
func (r *Registry) report(ctx context.Context, v *verdict) error {
	key := core.KeyFor(core.Definitions, v.definition)
	_, err := r.Mutate(ctx, key, func(o core.Object) error {
		d, ok := o.(*apiextensionsv1.CustomResourceDefinition)
		if !ok || d.UID != v.definition.UID || d.Generation != v.definition.Generation {
			return errStale
		}
		v.describe(d)
		return nil
	}, core.WriteOptions{Subresource: "status"})
	if errors.Is(err, errStale) || apierrors.IsNotFound(err) {
		return nil // its change is on the way
	}
	return err
}

// errStale says that a definition has changed since it was looked at.
var errStale = errors.New("the definition has changed")

// describe puts the verdict into d's status.
func (v *verdict) describe(d *apiextensionsv1.CustomResourceDefinition) {
	d.Status.AcceptedNames = v.names
	if v.conflict != nil && v.names.Plural == "" {
		d.Status.AcceptedNames = apiextensionsv1.CustomResourceDefinitionNames{}
	}
	accepted := apiextensionsv1.CustomResourceDefinitionCondition{
		Type: apiextensionsv1.NamesAccepted, Status: apiextensionsv1.ConditionTrue,
		Reason: "NoConflicts", Message: "no conflicts found",
	}
	if v.conflict != nil {
		accepted.Status, accepted.Reason, accepted.Message = apiextensionsv1.ConditionFalse, v.conflict.Reason, v.conflict.Message
	}
	established := apiextensionsv1.CustomResourceDefinitionCondition{
		Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue,
		Reason: "InitialNamesAccepted", Message: "the initial names have been accepted",
	}
	switch {
	case v.problem != nil:
		established.Status, established.Reason, established.Message = apiextensionsv1.ConditionFalse, "SchemaRefused", v.problem.Error()
	case v.entry == nil:
		established.Status, established.Reason, established.Message = apiextensionsv1.ConditionFalse, "NotAccepted", "not all names are accepted"
	}
	setCondition(d, accepted)
	setCondition(d, established)
	for i := range d.Spec.Versions {
		name := d.Spec.Versions[i].Name
		if d.Spec.Versions[i].Storage && !slices.Contains(d.Status.StoredVersions, name) {
			d.Status.StoredVersions = append(d.Status.StoredVersions, name)
		}
	}
}

func setCondition(d *apiextensionsv1.CustomResourceDefinition, c apiextensionsv1.CustomResourceDefinitionCondition) {
	c.LastTransitionTime = now()
	for i := range d.Status.Conditions {
		have := &d.Status.Conditions[i]
		if have.Type != c.Type {
			continue
		}
		if have.Status == c.Status {
			c.LastTransitionTime = have.LastTransitionTime
		}
		*have = c
		return
	}
	d.Status.Conditions = append(d.Status.Conditions, c)
}

// empty deletes the objects of a definition that is being deleted, and lets it
// go when there are none.
func (r *Registry) empty(ctx context.Context, v *verdict) (done bool, err error) {
	d := v.definition
	if !slices.Contains(d.Finalizers, apiextensionsv1.CustomResourceCleanupFinalizer) {
		return true, nil
	}
	left := 0
	if v.entry != nil {
		for key, object := range r.store.Snapshot().List(v.entry.resource, "") {
			left++
			if object.GetDeletionTimestamp() != nil {
				continue
			}
			if _, _, err := r.Delete(ctx, key, core.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				return false, err
			}
		}
	}
	if left > 0 {
		return false, nil // look again: they may have finalizers
	}
	_, err = r.Mutate(ctx, core.KeyFor(core.Definitions, d), func(o core.Object) error {
		o.SetFinalizers(slices.DeleteFunc(o.GetFinalizers(), func(f string) bool {
			return f == apiextensionsv1.CustomResourceCleanupFinalizer
		}))
		return nil
	}, core.WriteOptions{})
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	return err == nil, err
}

// defining returns the strategy of definitions with what the write path itself
// adds: they must be such that it can serve them, and stay until it has
// emptied them.
func defining(s *Strategy) *Strategy {
	d := *s
	d.Validate = func(o core.Object) field.ErrorList {
		return alsoServed(o, nil, callOne(s.Validate, o))
	}
	d.ValidateUpdate = func(o, old core.Object) field.ErrorList {
		var errs field.ErrorList
		if s.ValidateUpdate != nil {
			errs = s.ValidateUpdate(o, old)
		}
		return alsoServed(o, old, errs)
	}
	d.Deleting = func(o core.Object) {
		if s.Deleting != nil {
			s.Deleting(o)
		}
		c, ok := o.(*apiextensionsv1.CustomResourceDefinition)
		if !ok {
			return
		}
		if !slices.Contains(c.Finalizers, apiextensionsv1.CustomResourceCleanupFinalizer) {
			c.Finalizers = append(c.Finalizers, apiextensionsv1.CustomResourceCleanupFinalizer)
		}
		setCondition(c, apiextensionsv1.CustomResourceDefinitionCondition{
			Type: apiextensionsv1.Terminating, Status: apiextensionsv1.ConditionTrue, Reason: "InstanceDeletionPending",
			Message: "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
		})
	}
	d.Held = func(o core.Object) bool {
		return o.GetDeletionTimestamp() == nil || (s.Held != nil && s.Held(o))
	}
	return &d
}

func callOne(f func(core.Object) field.ErrorList, o core.Object) field.ErrorList {
	if f == nil {
		return nil
	}
	return f(o)
}

// alsoServed adds to errs what of a definition cannot be served. One that
// stands already may be changed otherwise.
func alsoServed(o, old core.Object, errs field.ErrorList) field.ErrorList {
	d, ok := o.(*apiextensionsv1.CustomResourceDefinition)
	if !ok {
		return errs
	}
	if before, ok := old.(*apiextensionsv1.CustomResourceDefinition); ok && before.Generation == d.Generation {
		return errs
	}
	return unique(append(errs, validateSchemas(d)...))
}
