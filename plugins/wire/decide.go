package wire

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
)

func keyTo(k core.Key) *Key {
	return &Key{Group: k.Group, Resource: k.Resource, Namespace: k.Namespace, Name: k.Name}
}

func (k *Key) to() core.Key {
	return core.Key{Group: k.GetGroup(), Resource: k.GetResource(), Namespace: k.GetNamespace(), Name: k.GetName()}
}

// FromObservation converts an observation. holds says which objects the
// receiver has already in that very version; nil means none.
func FromObservation(controller string, o core.Observation, e Encoding, holds func(core.Object) bool) (*DecideRequest, error) {
	r := &DecideRequest{
		Controller: controller, NowUnixNano: o.Now.UnixNano(), Seed: o.Seed,
		Finalizing: o.Finalizing, Memory: o.Memory,
	}
	var err error
	slot := func(object core.Object) *Slot {
		s, failed := e.slot(object, holds == nil || !holds(object))
		if failed != nil && err == nil {
			err = failed
		}
		return s
	}
	r.Parent = slot(o.Parent)
	for _, child := range o.Children {
		r.Children = append(r.Children, slot(child))
	}
	for _, related := range o.Related {
		r.Related = append(r.Related, slot(related))
	}
	for _, f := range o.Failures {
		r.Failures = append(r.Failures, &Failure{Verb: f.Verb, Kind: f.Kind, Name: f.Name, Reason: f.Reason, Message: f.Message})
	}
	return r, err
}

// RelateSlot converts the parent of a RelateRequest.
func RelateSlot(parent core.Object, e Encoding) (*Slot, error) { return e.slot(parent, true) }

// ToObservation converts a request. resolve turns a slot into its object.
func ToObservation(r *DecideRequest, resolve func(*Slot) (core.Object, error)) (core.Observation, error) {
	o := core.Observation{
		Now: time.Unix(0, r.GetNowUnixNano()).UTC(), Seed: r.GetSeed(),
		Finalizing: r.GetFinalizing(), Memory: r.GetMemory(),
	}
	var err error
	if o.Parent, err = resolve(r.GetParent()); err != nil {
		return o, fmt.Errorf("parent: %w", err)
	}
	if o.Children, err = resolveAll("children", r.GetChildren(), resolve); err != nil {
		return o, err
	}
	if o.Related, err = resolveAll("related", r.GetRelated(), resolve); err != nil {
		return o, err
	}
	for _, f := range r.GetFailures() {
		o.Failures = append(o.Failures, core.Failure{Verb: f.GetVerb(), Kind: f.GetKind(), Name: f.GetName(), Reason: f.GetReason(), Message: f.GetMessage()})
	}
	return o, nil
}

func resolveAll(field string, slots []*Slot, resolve func(*Slot) (core.Object, error)) ([]core.Object, error) {
	out := make([]core.Object, 0, len(slots))
	for i, s := range slots {
		object, err := resolve(s)
		if err != nil {
			return nil, fmt.Errorf("%s[%d]: %w", field, i, err)
		}
		out = append(out, object)
	}
	return out, nil
}

// FromDecision converts a decision.
func FromDecision(d core.Decision, e Encoding) (*Decision, error) {
	out := &Decision{Annotations: d.Annotations, RequeueAfterNano: d.RequeueAfter.Nanoseconds()}
	var err error
	if d.Status != nil {
		if out.Status, err = e.Encode(d.Status); err != nil {
			return nil, fmt.Errorf("status: %w", err)
		}
	}
	if d.Finalizers != nil {
		out.Finalizers = &Finalizers{Names: d.Finalizers}
	}
	if d.Memory != nil {
		out.Memory = &Memory{Data: d.Memory}
	}
	if out.Create, err = e.encodeAll(d.Create); err != nil {
		return nil, fmt.Errorf("create: %w", err)
	}
	if out.Update, err = e.encodeAll(d.Update); err != nil {
		return nil, fmt.Errorf("update: %w", err)
	}
	for _, x := range d.Delete {
		out.Delete = append(out.Delete, &Deletion{Key: keyTo(x.Key), Uid: string(x.UID), Reason: x.Reason})
	}
	for _, p := range d.Patches {
		out.Patches = append(out.Patches, &RelatedPatch{
			Key: keyTo(p.Key), Uid: string(p.UID), Subresource: p.Subresource, Type: string(p.Patch.Type), Data: p.Patch.Data,
		})
	}
	for _, n := range d.Events {
		note := &Note{Type: n.Type, Reason: n.Reason, Message: n.Message}
		if n.About != nil {
			note.About = keyTo(*n.About)
		}
		out.Events = append(out.Events, note)
	}
	return out, nil
}

// ToDecision converts what a plugin answered. That it is permitted is checked
// by whoever applies it.
func ToDecision(w *Decision) (core.Decision, error) {
	d := core.Decision{Annotations: w.GetAnnotations(), RequeueAfter: time.Duration(w.GetRequeueAfterNano())}
	var err error
	if len(w.GetStatus()) > 0 {
		if d.Status, err = decode(w.GetStatus()); err != nil {
			return d, fmt.Errorf("status: %w", err)
		}
	}
	if w.GetFinalizers() != nil {
		d.Finalizers = append([]string{}, w.GetFinalizers().GetNames()...)
	}
	if w.GetMemory() != nil {
		d.Memory = append([]byte{}, w.GetMemory().GetData()...)
	}
	if d.Create, err = decodeAll("create", w.GetCreate()); err != nil {
		return d, err
	}
	if d.Update, err = decodeAll("update", w.GetUpdate()); err != nil {
		return d, err
	}
	for _, x := range w.GetDelete() {
		d.Delete = append(d.Delete, core.Deletion{Key: x.GetKey().to(), UID: types.UID(x.GetUid()), Reason: x.GetReason()})
	}
	for _, p := range w.GetPatches() {
		d.Patches = append(d.Patches, core.RelatedPatch{
			Key: p.GetKey().to(), UID: types.UID(p.GetUid()), Subresource: p.GetSubresource(),
			Patch: core.Patch{Type: types.PatchType(p.GetType()), Data: p.GetData()},
		})
	}
	for _, n := range w.GetEvents() {
		note := core.Note{Type: n.GetType(), Reason: n.GetReason(), Message: n.GetMessage()}
		if n.GetAbout() != nil {
			about := n.GetAbout().to()
			note.About = &about
		}
		d.Events = append(d.Events, note)
	}
	return d, nil
}
