package reconcile

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/weftrun/weft/core"
)

// Reasons of the events on a kind that a controller brought along.
const (
	reasonLeft   = "ControllerGone"
	reasonServes = "ControllerServes"
)

// maxLeft bounds the objects of one kind that say so when nothing serves it
// any more; its definition does in any case.
const maxLeft = 200

// tellLeft says of each kind that has lost its last controller between two
// tables, on its definition and on its objects, that nothing happens to them
// any more; and on the definition when one is back. Left holds the kinds of
// which that was said.
func (r *Reconciler) tellLeft(left map[core.GroupResource]*entry, before, now *table) {
	for resource := range before.byParent {
		if len(now.byParent[resource]) == 0 && left[resource] == nil {
			left[resource] = before.byParent[resource][0]
			r.tellGone(left[resource])
		}
	}
	for resource := range left {
		if serving := now.byParent[resource]; len(serving) > 0 {
			delete(left, resource)
			r.onDefinition(serving[0], corev1.EventTypeNormal, reasonServes, fmt.Sprintf("controller %s serves %s again", serving[0].Name, resource))
		}
	}
}

func (r *Reconciler) tellGone(e *entry) {
	r.config.Logger.Warn("no controller serves a kind any more", "kind", e.Resource.String(), "controller", e.Name)
	why := fmt.Sprintf("controller %s is gone, with its plugin: until a plugin serves %s again, nothing happens to its objects", e.Name, e.Resource)
	r.onDefinition(e, corev1.EventTypeWarning, reasonLeft, why)
	told := 0
	for _, parent := range r.config.Client.Snapshot().List(e.Resource, "") {
		if told++; told > maxLeft {
			return
		}
		r.config.Events.Event(e.source, reference(parent), corev1.EventTypeWarning, reasonAside, why)
	}
}

// onDefinition records an event on the CustomResourceDefinition of a kind, if
// there is one.
func (r *Reconciler) onDefinition(e *entry, kind, reason, message string) {
	key := core.Key{Group: core.Definitions.Group, Resource: core.Definitions.Resource, Name: e.Resource.String()}
	if definition, ok := r.config.Client.Snapshot().Get(key); ok {
		r.config.Events.Event(e.source, reference(definition), kind, reason, message)
	}
}
