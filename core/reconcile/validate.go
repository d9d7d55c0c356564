package reconcile

import (
	"fmt"
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftrun/weft/core"
)

// Limits on one decision.
const (
	maxCreates    = 10000
	maxTouched    = 9000 // updates, which must fit into one record, and deletes
	maxPatches    = 100
	maxRelations  = 1000
	maxNotes      = 200
	maxMemory     = 16 << 10
	maxObject     = 1536 << 10 // bytes of one object
	maxDecision   = 64 << 20   // bytes of all objects of a decision
	maxAnnotation = 256 << 10
	maxFinalizers = 16
	maxRequeue    = 24 * time.Hour
	maxProblems   = 10 // told of one decision
)

// checker collects what is wrong with a decision.
type checker struct {
	c    *entry
	seen *observation
	errs field.ErrorList
	size int
	// children finds observed children by their UID.
	children map[types.UID]int
}

// check tells what is wrong with a decision. One that is wrong changes
// nothing. It completes the namespaces of new children.
func check(c *entry, seen *observation, d *core.Decision) error {
	k := checker{c: c, seen: seen}
	k.bounds(d)
	if len(k.errs) > 0 {
		return k.result()
	}
	k.parent(d)
	for i, object := range d.Create {
		k.create(field.NewPath("create").Index(i), object)
	}
	if len(d.Update) > 0 || len(d.Delete) > 0 {
		k.children = make(map[types.UID]int, len(seen.Children))
		for i, child := range seen.Children {
			k.children[child.GetUID()] = i
		}
	}
	for i, object := range d.Update {
		k.update(field.NewPath("update").Index(i), object)
	}
	for i := range d.Delete {
		k.delete(field.NewPath("delete").Index(i), &d.Delete[i])
	}
	for i := range d.Patches {
		k.patch(field.NewPath("patches").Index(i), &d.Patches[i])
	}
	for i := range d.Events {
		k.note(field.NewPath("events").Index(i), &d.Events[i])
	}
	if k.size > maxDecision {
		k.fail(field.TooLong(field.NewPath("create"), "", maxDecision))
	}
	return k.result()
}

func (k *checker) fail(err *field.Error) { k.errs = append(k.errs, err) }

func (k *checker) result() error {
	if len(k.errs) == 0 {
		return nil
	}
	if more := len(k.errs) - maxProblems; more > 0 {
		return fmt.Errorf("decision of controller %s: %w and %d more", k.c.Name, k.errs[:maxProblems].ToAggregate(), more)
	}
	return fmt.Errorf("decision of controller %s: %w", k.c.Name, k.errs.ToAggregate())
}

func (k *checker) bounds(d *core.Decision) {
	for _, b := range []struct {
		name     string
		n, limit int
	}{
		{"create", len(d.Create), maxCreates},
		{"update", len(d.Update), maxTouched},
		{"delete", len(d.Delete), maxTouched},
		{"patches", len(d.Patches), maxPatches},
		{"events", len(d.Events), maxNotes},
		{"finalizers", len(d.Finalizers), maxFinalizers},
		{"annotations", len(d.Annotations), maxNotes},
	} {
		if b.n > b.limit {
			k.fail(field.TooMany(field.NewPath(b.name), b.n, b.limit))
		}
	}
	if len(d.Memory) > maxMemory {
		k.fail(field.TooLong(field.NewPath("memory"), "", maxMemory))
	}
	if d.RequeueAfter < 0 {
		k.fail(field.Invalid(field.NewPath("requeueAfter"), d.RequeueAfter.String(), "must not be negative"))
	}
}

func (k *checker) parent(d *core.Decision) {
	if !absent(d.Status) {
		path := field.NewPath("status")
		if gvk := d.Status.GetObjectKind().GroupVersionKind(); gvk != k.c.Kind {
			k.fail(field.Invalid(path, gvk.String(), "must be the parent, a "+k.c.Kind.String()))
		}
		k.measure(path, d.Status)
	}
	for i, f := range d.Finalizers {
		path := field.NewPath("finalizers").Index(i)
		if !k.c.owns(f) {
			k.fail(field.Invalid(path, f, fmt.Sprintf("must begin with %q", k.c.Name+"/")))
		}
		for _, msg := range validation.IsQualifiedName(f) {
			k.fail(field.Invalid(path, f, msg))
		}
	}
	total := 0
	for name, value := range d.Annotations {
		total += len(name) + len(value)
		for _, msg := range validation.IsQualifiedName(name) {
			k.fail(field.Invalid(field.NewPath("annotations"), name, msg))
		}
	}
	if total > maxAnnotation {
		k.fail(field.TooLong(field.NewPath("annotations"), "", maxAnnotation))
	}
}

func (k *checker) create(path *field.Path, o core.Object) {
	if absent(o) {
		k.fail(field.Required(path, "an object"))
		return
	}
	gvk := o.GetObjectKind().GroupVersionKind()
	if _, declared := k.c.children[gvk.GroupKind()]; !declared {
		k.fail(field.Forbidden(path, fmt.Sprintf("%s is not a declared kind of children", gvk.GroupKind())))
		return
	}
	if o.GetName() == "" && o.GetGenerateName() == "" {
		k.fail(field.Required(path.Child("metadata", "name"), "or generateName"))
	}
	if len(o.GetName()) > validation.DNS1123SubdomainMaxLength || len(o.GetGenerateName()) > validation.DNS1123SubdomainMaxLength {
		k.fail(field.TooLong(path.Child("metadata", "name"), "", validation.DNS1123SubdomainMaxLength))
	}
	if o.GetUID() != "" || o.GetResourceVersion() != "" {
		k.fail(field.Forbidden(path.Child("metadata"), "uid and resourceVersion must not be set on a new child"))
	}
	if metav1.GetControllerOfNoCopy(o) != nil {
		k.fail(field.Forbidden(path.Child("metadata", "ownerReferences"), "the core adds the controller"))
	}
	if parent := k.seen.Parent.GetNamespace(); parent != "" {
		if o.GetNamespace() == "" {
			o.SetNamespace(parent)
		} else if o.GetNamespace() != parent {
			k.fail(field.Invalid(path.Child("metadata", "namespace"), o.GetNamespace(), fmt.Sprintf("must be the parent's, %q", parent)))
		}
	}
	k.measure(path, o)
}

func (k *checker) update(path *field.Path, o core.Object) {
	if absent(o) {
		k.fail(field.Required(path, "an object"))
		return
	}
	i, seen := k.children[o.GetUID()]
	if !seen {
		k.fail(field.Invalid(path.Child("metadata", "uid"), string(o.GetUID()), "must be a child that was seen"))
		return
	}
	child := k.seen.Children[i]
	if o.GetName() != child.GetName() || o.GetNamespace() != child.GetNamespace() ||
		o.GetObjectKind().GroupVersionKind().GroupKind() != child.GetObjectKind().GroupVersionKind().GroupKind() {
		k.fail(field.Invalid(path.Child("metadata", "name"), o.GetName(), "must be the name, namespace and kind of the child that was seen"))
	}
	if o.GetResourceVersion() != child.GetResourceVersion() {
		k.fail(field.Invalid(path.Child("metadata", "resourceVersion"), o.GetResourceVersion(), "must be the one that was seen"))
	}
	if owner := metav1.GetControllerOfNoCopy(o); owner != nil && owner.UID != k.seen.Parent.GetUID() {
		k.fail(field.Forbidden(path.Child("metadata", "ownerReferences"), "must not name another controller"))
	}
	k.measure(path, o)
}

func (k *checker) delete(path *field.Path, d *core.Deletion) {
	if i, seen := k.children[d.UID]; !seen || k.seen.keys[i] != d.Key {
		k.fail(field.Invalid(path, d.Key.String(), "must be a child that was seen, with its uid"))
	}
}

func (k *checker) patch(path *field.Path, p *core.RelatedPatch) {
	if len(p.Patch.Data) > maxObject {
		k.fail(field.TooLong(path.Child("patch"), "", maxObject))
	}
	switch p.Patch.Type {
	case types.JSONPatchType, types.MergePatchType:
	default:
		k.fail(field.NotSupported(path.Child("patch", "type"), p.Patch.Type, []types.PatchType{types.JSONPatchType, types.MergePatchType}))
	}
	for i, key := range k.seen.related {
		if key == p.Key {
			if uid := k.seen.Related[i].GetUID(); p.UID != uid {
				k.fail(field.Invalid(path.Child("uid"), string(p.UID), "must be that of the object that was seen"))
			}
			return
		}
	}
	k.fail(field.Forbidden(path.Child("key"), fmt.Sprintf("%s is not among the related objects that were seen", p.Key)))
}

func (k *checker) note(path *field.Path, n *core.Note) {
	if n.Type != corev1.EventTypeNormal && n.Type != corev1.EventTypeWarning {
		k.fail(field.NotSupported(path.Child("type"), n.Type, []string{corev1.EventTypeNormal, corev1.EventTypeWarning}))
	}
	if n.Reason == "" {
		k.fail(field.Required(path.Child("reason"), ""))
	}
	if n.About == nil || *n.About == k.seen.key {
		return
	}
	if _, declared := k.c.byChild[n.About.GroupResource()]; !declared {
		k.fail(field.Forbidden(path.Child("about"), fmt.Sprintf("%s is neither the parent nor a child", n.About)))
	}
}

// measure adds up the sizes of objects that can tell theirs cheaply. Others
// are measured where they are encoded.
func (k *checker) measure(path *field.Path, o core.Object) {
	s, ok := o.(interface{ Size() int })
	if !ok {
		return
	}
	n := s.Size()
	k.size += n
	if n > maxObject {
		k.fail(field.TooLong(path, "", maxObject))
	}
}

// absent tells that there is no object, or a nil pointer in its place.
func absent(o core.Object) bool {
	if o == nil {
		return true
	}
	v := reflect.ValueOf(o)
	return v.Kind() == reflect.Pointer && v.IsNil()
}
