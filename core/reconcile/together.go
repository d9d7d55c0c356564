package reconcile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
)

// together returns the writes of a decision that must happen in one record.
// The first one carries the fence on the parent.
func (e *engine) together(c *entry, seen *observation, d *core.Decision) ([]core.Write, error) {
	var writes []core.Write
	fenced := core.Write{Key: seen.key, UID: seen.Parent.GetUID(), Generation: seen.Parent.GetGeneration()}
	if change := parentChange(c, seen.Parent, d); change != nil {
		w := fenced
		w.Mutate = change
		writes = append(writes, w)
	}
	if !absent(d.Status) && !sameStatus(seen.Parent, d.Status) {
		w := fenced
		if kind, ok := e.client.KindOf(c.Resource); !ok || slices.Contains(kind.Subresources, "status") {
			w.Subresource = "status"
		}
		w.Mutate = func(o core.Object) error { return setStatus(o, d.Status) }
		writes = append(writes, w)
	}
	fence := len(writes) == 0
	for _, wanted := range d.Update {
		key := core.KeyFor(c.children[wanted.GetObjectKind().GroupVersionKind().GroupKind()].Resource, wanted)
		if child, ok := seen.snapshot.Get(key); ok && equality.Semantic.DeepEqual(child, wanted) {
			continue
		}
		writes = append(writes, core.Write{
			Key: key, UID: wanted.GetUID(), Revision: core.Revision(wanted),
			Mutate: func(o core.Object) error { return overwrite(o, wanted) },
		})
	}
	for i := range d.Patches {
		p := &d.Patches[i]
		writes = append(writes, core.Write{
			Key: p.Key, UID: p.UID, Subresource: p.Subresource,
			Mutate: func(o core.Object) error { return patchObject(o, p.Patch) },
		})
	}
	if w, ok := remember(c, seen, d.Memory); ok {
		writes = append(writes, w)
	}
	if fence && len(writes) > 0 {
		// Changes nothing; the decision was made about this generation.
		fenced.Mutate = func(core.Object) error { return nil }
		writes = slices.Insert(writes, 0, fenced)
	}
	return writes, nil
}

// parentChange sets the annotations and finalizers of a decision; it is nil
// if they are as they should be.
func parentChange(c *entry, parent core.Object, d *core.Decision) func(core.Object) error {
	annotate := false
	for name, value := range d.Annotations {
		is, there := parent.GetAnnotations()[name]
		annotate = annotate || is != value || (value == "" && there)
	}
	finalize := d.Finalizers != nil && !slices.Equal(finalizers(c, parent, d.Finalizers), parent.GetFinalizers())
	if !annotate && !finalize {
		return nil
	}
	return func(o core.Object) error {
		if annotate {
			o.SetAnnotations(annotated(o.GetAnnotations(), d.Annotations))
		}
		if finalize {
			o.SetFinalizers(finalizers(c, o, d.Finalizers))
		}
		return nil
	}
}

// annotated returns a copy of the annotations there are, with those of a
// decision; an empty value removes one.
func annotated(is, wanted map[string]string) map[string]string {
	all := maps.Clone(is)
	if all == nil {
		all = map[string]string{}
	}
	for name, value := range wanted {
		if value == "" {
			delete(all, name)
		} else {
			all[name] = value
		}
	}
	return all
}

// finalizers returns those that o has and are not the controller's, and those
// that the controller wants. None can be added to an object being deleted.
func finalizers(c *entry, o core.Object, wanted []string) []string {
	var result []string
	for _, f := range o.GetFinalizers() {
		if !c.owns(f) || slices.Contains(wanted, f) {
			result = append(result, f)
		}
	}
	for _, f := range wanted {
		if !slices.Contains(result, f) && o.GetDeletionTimestamp() == nil {
			result = append(result, f)
		}
	}
	return result
}

func statusOf(o core.Object) (reflect.Value, bool) {
	v := reflect.ValueOf(o)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return reflect.Value{}, false
	}
	f := v.Elem().FieldByName("Status")
	return f, f.IsValid()
}

func sameStatus(a, b core.Object) bool {
	ua, oka := a.(*unstructured.Unstructured)
	ub, okb := b.(*unstructured.Unstructured)
	if oka && okb {
		return equality.Semantic.DeepEqual(ua.Object["status"], ub.Object["status"])
	}
	sa, oka := statusOf(a)
	sb, okb := statusOf(b)
	return oka && okb && sa.Type() == sb.Type() && equality.Semantic.DeepEqual(sa.Interface(), sb.Interface())
}

// setStatus gives dst the status of src. It shares nothing with src.
func setStatus(dst, src core.Object) error {
	src = core.Copy(src)
	if d, ok := dst.(*unstructured.Unstructured); ok {
		if s, ok := src.(*unstructured.Unstructured); ok {
			d.Object["status"] = s.Object["status"]
			return nil
		}
	}
	d, okd := statusOf(dst)
	s, oks := statusOf(src)
	if !okd || !oks || d.Type() != s.Type() {
		return fmt.Errorf("set status of %s: a %T cannot take that of a %T", dst.GetName(), dst, src)
	}
	d.Set(s)
	return nil
}

// overwrite makes dst what src is. It shares nothing with src.
func overwrite(dst, src core.Object) error {
	d, s := reflect.ValueOf(dst), reflect.ValueOf(core.Copy(src))
	if d.Type() != s.Type() {
		return fmt.Errorf("update %s: it is a %T, not a %T", dst.GetName(), dst, src)
	}
	d.Elem().Set(s.Elem())
	return nil
}

// patchObject applies a JSON or merge patch to an object in place.
func patchObject(o core.Object, p core.Patch) error {
	before, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("encode %s: %w", o.GetName(), err)
	}
	var after []byte
	if p.Type == types.MergePatchType {
		after, err = jsonpatch.MergePatch(before, p.Data)
	} else {
		var patch jsonpatch.Patch
		if patch, err = jsonpatch.DecodePatch(p.Data); err == nil {
			after, err = patch.Apply(before)
		}
	}
	if err != nil {
		return fmt.Errorf("patch %s: %w", o.GetName(), err)
	}
	fresh, _ := reflect.TypeAssert[core.Object](reflect.New(reflect.TypeOf(o).Elem()))
	if err := json.Unmarshal(after, fresh); err != nil {
		return fmt.Errorf("patch %s: %w", o.GetName(), err)
	}
	reflect.ValueOf(o).Elem().Set(reflect.ValueOf(fresh).Elem())
	return nil
}

// remember returns the write that keeps memory, if it differs from what is
// kept.
func remember(c *entry, seen *observation, memory []byte) (core.Write, bool) {
	if memory == nil || bytes.Equal(memory, seen.Memory) {
		return core.Write{}, false
	}
	key := memoryKey(c.Name, seen.Parent.GetNamespace(), seen.Parent.GetUID())
	if seen.memory == nil {
		owner := ownerReference(c, seen.Parent)
		owner.Controller, owner.BlockOwnerDeletion = nil, nil
		return core.Write{Key: key, Create: &corev1.Secret{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, // the resource is given by the key
			ObjectMeta: metav1.ObjectMeta{
				Namespace: key.Namespace, Name: key.Name, OwnerReferences: []metav1.OwnerReference{owner},
			},
			Data: map[string][]byte{MemoryDatum: bytes.Clone(memory)},
		}}, true
	}
	w := core.Write{Key: key, UID: seen.memory.UID, Revision: core.Revision(seen.memory)}
	if len(memory) == 0 {
		w.Delete = true
		return w, true
	}
	w.Mutate = func(o core.Object) error {
		secret, ok := o.(*corev1.Secret)
		if !ok {
			return fmt.Errorf("memory %s is a %T", key.Name, o)
		}
		secret.Data = map[string][]byte{MemoryDatum: bytes.Clone(memory)}
		return nil
	}
	return w, true
}

// replaceSpec gives a definition the spec that its controller brings along;
// what the API fills in is filled in again.
func replaceSpec(o, wanted core.Object) error {
	d, okd := o.(*apiextensionsv1.CustomResourceDefinition)
	w, okw := wanted.(*apiextensionsv1.CustomResourceDefinition)
	if !okd || !okw {
		return fmt.Errorf("definition %s is a %T", o.GetName(), o)
	}
	d.Spec = *w.Spec.DeepCopy()
	return nil
}
