// Package workloadstest runs controllers over a pretend cluster held in maps:
// no goroutines, no clock of its own, every step chosen by the test. It must
// not be imported by anything but tests, and stands for none of the core's
// guarantees beyond those that core.Decision states.
package workloadstest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
)

// Namespace is where tests keep their objects.
const Namespace = "default"

// World is a pretend cluster. It is not safe for concurrent use.
type World struct {
	t        testing.TB
	Now      time.Time
	Revision int64
	Objects  map[core.Key]core.Object
	Events   []core.Note
	Requeue  map[core.Key]time.Time
	// Refuse, if set, is asked before each create and delete.
	Refuse func(verb string, key core.Key) string
	// Reason is the status reason of what Refuse refuses; empty is Forbidden.
	Reason string
	// Crash, if set, is asked before each create and delete, too: if it says
	// so, the rest of the decision is lost, as when the core dies.
	Crash func() bool

	failures map[core.Key][]core.Failure
	memory   map[core.Key][]byte
	uids     int
}

// New returns an empty world at a fixed time.
func New(t testing.TB) *World {
	return &World{
		t:        t,
		Now:      time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		Objects:  make(map[core.Key]core.Object),
		Requeue:  make(map[core.Key]time.Time),
		failures: make(map[core.Key][]core.Failure),
		memory:   make(map[core.Key][]byte),
	}
}

// Add stores a new object as the API server would and returns its key.
func (w *World) Add(resource core.GroupResource, object core.Object) core.Key {
	w.t.Helper()
	if object.GetNamespace() == "" {
		object.SetNamespace(Namespace)
	}
	key := core.KeyFor(resource, object)
	if _, taken := w.Objects[key]; taken {
		w.t.Fatalf("%s exists already", key)
	}
	w.uids++
	object.SetUID(types.UID(fmt.Sprintf("uid-%06d", w.uids)))
	object.SetCreationTimestamp(metav1.Time{Time: w.Now})
	object.SetGeneration(1)
	w.put(key, object)
	return key
}

func (w *World) put(key core.Key, object core.Object) {
	w.Revision++
	object.SetResourceVersion(core.FormatRevision(w.Revision))
	w.Objects[key] = object
}

// Get returns the object at key, or nil.
func Get[T core.Object](w *World, key core.Key) (object T) {
	object, _ = w.Objects[key].(T)
	return object
}

// Change stores a changed copy of the object at key; spec says that its
// generation rises.
func Change[T core.Object](w *World, key core.Key, spec bool, change func(T)) {
	w.t.Helper()
	old, ok := w.Objects[key].(T)
	if !ok {
		w.t.Fatalf("change %s: there is none", key)
	}
	object := core.Copy(old)
	change(object)
	if spec {
		object.SetGeneration(object.GetGeneration() + 1)
	}
	w.put(key, object)
	w.collect(key)
}

// List returns the objects of a resource ordered by key.
func List[T core.Object](w *World, resource core.GroupResource) []T {
	var keys []core.Key
	for key := range w.Objects {
		if key.GroupResource() == resource {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, compareKeys)
	list := make([]T, len(keys))
	for i, key := range keys {
		list[i] = w.Objects[key].(T)
	}
	return list
}

func compareKeys(a, b core.Key) int {
	switch {
	case a.Less(b):
		return -1
	case b.Less(a):
		return 1
	}
	return 0
}

// Delete begins an object's deletion. A pod on a node, and whatever has
// finalizers, stays until Stop and the finalizers' removal.
func (w *World) Delete(key core.Key) {
	object, ok := w.Objects[key]
	if !ok || object.GetDeletionTimestamp() != nil {
		return
	}
	object = object.DeepCopyObject().(core.Object)
	grace := int64(0)
	if pod, is := object.(*corev1.Pod); is && pod.Spec.NodeName != "" && !finished(pod) {
		grace = 30
	}
	object.SetDeletionTimestamp(&metav1.Time{Time: w.Now.Add(time.Duration(grace) * time.Second)})
	object.SetDeletionGracePeriodSeconds(&grace)
	w.put(key, object)
	w.collect(key)
}

func finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// Stop ends a pod that is being deleted, as its node would: its containers
// fail and its grace is over.
func (w *World) Stop(key core.Key) {
	Change(w, key, false, func(pod *corev1.Pod) {
		if !finished(pod) {
			pod.Status.Phase = corev1.PodFailed
		}
		pod.DeletionGracePeriodSeconds = new(int64)
	})
}

// collect removes an object whose deletion is done, and the children of one
// that is gone.
func (w *World) collect(key core.Key) {
	object := w.Objects[key]
	if object.GetDeletionTimestamp() == nil || len(object.GetFinalizers()) > 0 {
		return
	}
	if grace := object.GetDeletionGracePeriodSeconds(); grace != nil && *grace > 0 {
		return
	}
	delete(w.Objects, key)
	w.Revision++
	for _, child := range w.childrenOf(object.GetUID()) {
		w.Delete(child)
	}
}

func (w *World) childrenOf(uid types.UID) []core.Key {
	var keys []core.Key
	for key, object := range w.Objects {
		if owner := metav1.GetControllerOf(object); owner != nil && owner.UID == uid {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, compareKeys)
	return keys
}

// Decide asks c about the object at key and applies what it decides, as the
// core does. It returns the decision.
func (w *World) Decide(c core.Controller, key core.Key) core.Decision {
	w.t.Helper()
	parent, ok := w.Objects[key]
	if !ok {
		return core.Decision{}
	}
	d, err := c.Decide(w.t.Context(), w.observe(c, key, parent))
	if err != nil {
		w.t.Fatalf("decide %s: %v", key, err)
	}
	w.apply(c, key, parent, d)
	return d
}

func (w *World) observe(c core.Controller, key core.Key, parent core.Object) core.Observation {
	children := w.childrenOf(parent.GetUID())
	seen := core.Observation{
		Now:      w.Now,
		Seed:     uint64(w.Revision) * 0x9e3779b97f4a7c15,
		Parent:   parent,
		Failures: w.failures[key],
		Memory:   w.memory[key],
	}
	for _, child := range children {
		seen.Children = append(seen.Children, w.Objects[child])
	}
	for _, relation := range c.Relate(parent) {
		seen.Related = append(seen.Related, w.related(relation)...)
	}
	if f := parent.GetFinalizers(); parent.GetDeletionTimestamp() != nil && len(f) > 0 {
		seen.Finalizing = true
	}
	return seen
}

func (w *World) related(r core.Relation) []core.Object {
	var found []core.Object
	for _, object := range List[core.Object](w, r.Resource) {
		if r.Namespace != "" && object.GetNamespace() != r.Namespace || r.Name != "" && object.GetName() != r.Name {
			continue
		}
		if r.Selector == nil || r.Selector.Matches(labels.Set(object.GetLabels())) {
			found = append(found, object)
		}
	}
	return found
}

func (w *World) apply(c core.Controller, key core.Key, parent core.Object, d core.Decision) {
	w.t.Helper()
	kinds := c.Describe()
	w.applyParent(key, d)
	for _, child := range d.Update {
		w.update(resourceOf(kinds, child), child)
	}
	if d.Memory != nil {
		w.memory[key] = d.Memory
	}
	w.patch(d)
	w.collect(key) // what was one record is done
	delete(w.failures, key)
	delete(w.Requeue, key)
	owner := metav1.NewControllerRef(parent, kinds.Kind)
	for _, child := range d.Create {
		if w.Crash != nil && w.Crash() {
			return
		}
		child.SetOwnerReferences([]metav1.OwnerReference{*owner})
		childKey := core.KeyFor(resourceOf(kinds, child), child)
		if !w.refused(key, "create", childKey) {
			w.Add(childKey.GroupResource(), child)
		}
	}
	for _, deletion := range d.Delete {
		if w.Crash != nil && w.Crash() {
			return
		}
		if object, ok := w.Objects[deletion.Key]; !ok || object.GetUID() != deletion.UID {
			w.t.Fatalf("%s deletes %s (%s), which is not there", key, deletion.Key, deletion.UID)
		}
		if !w.refused(key, "delete", deletion.Key) {
			w.Delete(deletion.Key)
		}
	}
	w.Events = append(w.Events, d.Events...)
	if d.RequeueAfter > 0 {
		w.Requeue[key] = w.Now.Add(d.RequeueAfter)
	}
}

func (w *World) applyParent(key core.Key, d core.Decision) {
	object := core.Copy(w.Objects[key])
	before := w.Objects[key]
	if d.Status != nil {
		copyStatus(object, d.Status)
	}
	annotations := maps.Clone(object.GetAnnotations())
	for name, value := range d.Annotations {
		if annotations == nil {
			annotations = make(map[string]string)
		}
		if annotations[name] = value; value == "" {
			delete(annotations, name)
		}
	}
	object.SetAnnotations(annotations)
	if d.Finalizers != nil {
		object.SetFinalizers(d.Finalizers)
	}
	if !same(before, object) {
		w.put(key, object)
	}
}

// patch applies merge patches of finalizers, the only ones that come up.
func (w *World) patch(d core.Decision) {
	w.t.Helper()
	for _, p := range d.Patches {
		object, ok := w.Objects[p.Key]
		if !ok || object.GetUID() != p.UID {
			w.t.Fatalf("patch of %s, which is not there", p.Key)
		}
		var body struct {
			Metadata struct {
				Finalizers      []string
				ResourceVersion string
			}
		}
		if err := json.Unmarshal(p.Patch.Data, &body); err != nil {
			w.t.Fatal(err)
		}
		if body.Metadata.ResourceVersion != object.GetResourceVersion() {
			w.t.Fatalf("patch of %s is not based on what is there", p.Key)
		}
		object = object.DeepCopyObject().(core.Object)
		object.SetFinalizers(body.Metadata.Finalizers)
		w.put(p.Key, object)
		w.collect(p.Key)
	}
}

func resourceOf(d core.Description, child core.Object) core.GroupResource {
	kind := child.GetObjectKind().GroupVersionKind()
	for _, c := range d.Children {
		if c.Kind == kind {
			return c.Resource
		}
	}
	return schema.GroupResource{Group: kind.Group, Resource: strings.ToLower(kind.Kind)}
}

func (w *World) update(resource core.GroupResource, child core.Object) {
	w.t.Helper()
	key := core.KeyFor(resource, child)
	old, ok := w.Objects[key]
	if !ok || old.GetResourceVersion() != child.GetResourceVersion() {
		w.t.Fatalf("update of %s is not based on what is there", key)
	}
	child = core.Copy(child)
	if specChanged(old, child) {
		child.SetGeneration(old.GetGeneration() + 1)
	}
	w.put(key, child)
	w.collect(key)
}

func (w *World) refused(parent core.Key, verb string, key core.Key) bool {
	if w.Refuse == nil {
		return false
	}
	message := w.Refuse(verb, key)
	if message != "" {
		w.failures[parent] = append(w.failures[parent], core.Failure{
			Verb: verb, Name: key.Name, Reason: cmp.Or(w.Reason, "Forbidden"), Message: message,
		})
	}
	return message != ""
}
