package registry

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	names "k8s.io/apimachinery/pkg/api/validate/content"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftrun/weft/core"
)

func eventStrategy() *Strategy {
	return typed[*corev1.Event]{
		kind: core.Kind{
			Kind: "Event", ListKind: "EventList", Resource: core.Events.Resource, Singular: "event",
			ShortNames: []string{"ev"}, Namespaced: true, Storage: "v1", Durability: core.Lazy,
		},
		create: func() *corev1.Event { return &corev1.Event{} },
		columns: []metav1.TableColumnDefinition{
			column("Last Seen", "string", "The time since it happened last."),
			column("Type", "string", "Normal or Warning."),
			column("Reason", "string", "Why it is told, in one word."),
			column("Object", "string", "The object that it is about."),
			wide("Subobject", "string", "The part of the object that it is about."),
			wide("Source", "string", "Who tells it."),
			column("Message", "string", "What happened."),
			wide("First Seen", "string", "The time since it happened first."),
			wide("Count", "integer", "How often it happened."),
			wide("Name", "string", "The event's own name."),
		},
		cells:    eventCells,
		fields:   eventFields,
		validate: validateEvent,
		validateUpdate: func(e, old *corev1.Event) field.ErrorList {
			return append(validateMetaUpdate(&e.ObjectMeta, &old.ObjectMeta), validateEvent(e)...)
		},
	}.strategy()
}

func eventCells(e *corev1.Event, now time.Time) []any {
	first := age(e.FirstTimestamp, now)
	if e.FirstTimestamp.IsZero() {
		first = age(metav1.Time(e.EventTime), now)
	}
	last, times := age(e.LastTimestamp, now), int64(e.Count)
	if e.LastTimestamp.IsZero() {
		last = first
	}
	switch {
	case e.Series != nil:
		last, times = age(metav1.Time(e.Series.LastObservedTime), now), int64(e.Series.Count)
	case times == 0:
		times = 1
	}
	about := strings.ToLower(e.InvolvedObject.Kind)
	if e.InvolvedObject.Name != "" {
		about += "/" + e.InvolvedObject.Name
	}
	return []any{
		last, e.Type, e.Reason, about, e.InvolvedObject.FieldPath, eventSource(e), strings.TrimSpace(e.Message), first, times, e.Name,
	}
}

func eventSource(e *corev1.Event) string {
	who, where := e.Source.Component, e.Source.Host
	defaultTo(&who, e.ReportingController)
	defaultTo(&where, e.ReportingInstance)
	if where != "" {
		return who + ", " + where
	}
	return who
}

func eventFields(e *corev1.Event) map[string]string {
	source := e.Source.Component
	defaultTo(&source, e.ReportingController)
	o := &e.InvolvedObject
	return map[string]string{
		"involvedObject.kind":            o.Kind,
		"involvedObject.namespace":       o.Namespace,
		"involvedObject.name":            o.Name,
		"involvedObject.uid":             string(o.UID),
		"involvedObject.apiVersion":      o.APIVersion,
		"involvedObject.resourceVersion": o.ResourceVersion,
		"involvedObject.fieldPath":       o.FieldPath,
		"reason":                         e.Reason,
		"reportingComponent":             e.ReportingController,
		"source":                         source,
		"type":                           e.Type,
	}
}

// Limits of an event of the newer form, in bytes.
const (
	maxEventWord    = 128
	maxEventMessage = 1024
)

// validateEventName permits whatever can be a part of a path: events are often
// named after objects whose names allow more than a subdomain does.
func validateEventName(name string, prefix bool) []string {
	if prefix {
		return names.IsPathSegmentPrefix(name)
	}
	return names.IsPathSegmentName(name)
}

// validateEvent asks little of events of the older form, which have no
// eventTime: what a program wants to tell should not be lost over its form.
func validateEvent(e *corev1.Event) field.ErrorList {
	errs := apivalidation.ValidateObjectMeta(&e.ObjectMeta, true, validateEventName, metadataPath)
	about := e.InvolvedObject.Namespace
	agree := about == e.Namespace || about == "" && e.Namespace == metav1.NamespaceDefault
	if !e.EventTime.IsZero() {
		agree = about != "" || e.Namespace == metav1.NamespaceDefault || e.Namespace == metav1.NamespaceSystem
	}
	if !agree {
		errs = append(errs, field.Invalid(field.NewPath("involvedObject", "namespace"), about, "does not match event.namespace"))
	}
	if e.EventTime.IsZero() {
		return errs
	}
	for _, f := range [...]struct{ name, value string }{
		{"reportingComponent", e.ReportingController}, {"reportingInstance", e.ReportingInstance},
		{"action", e.Action}, {"reason", e.Reason},
	} {
		at := field.NewPath(f.name)
		switch {
		case f.value == "":
			errs = append(errs, field.Required(at, ""))
		case f.name == "reportingComponent":
			errs = append(errs, qualifiedName(f.value, at)...)
		case len(f.value) > maxEventWord:
			errs = append(errs, field.Invalid(at, "", fmt.Sprintf("can have at most %v characters", maxEventWord)))
		}
	}
	if len(e.Message) > maxEventMessage {
		errs = append(errs, field.Invalid(field.NewPath("message"), "", fmt.Sprintf("can have at most %v characters", maxEventMessage)))
	}
	return errs
}
