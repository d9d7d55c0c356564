package feed

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/core"
)

// maxObject is the largest JSON of an object in an event or a page, in bytes.
const maxObject = 512 << 10

// Types of events, by what happened.
const (
	typeAdded    = "run.weft.object.added.v1"
	typeModified = "run.weft.object.modified.v1"
	typeDeleted  = "run.weft.object.deleted.v1"
	typeBookmark = "run.weft.bookmark.v1"
)

// encoder writes JSON into one buffer, which is used again and again: events
// are the hot path, one for each change in the cluster.
type encoder struct {
	source string
	buffer bytes.Buffer
	json   *json.Encoder
}

func newEncoder(source string) *encoder {
	e := &encoder{source: source}
	e.json = json.NewEncoder(&e.buffer)
	e.json.SetEscapeHTML(false)
	return e
}

func (e *encoder) reset() { e.buffer.Reset() }

// bytes is valid until the next reset.
func (e *encoder) bytes() []byte { return e.buffer.Bytes() }

// event appends one change. A zero time leaves it out.
func (e *encoder) event(c *core.Change, previous int64, term uint64, when time.Time) error {
	kind, verb := typeModified, "MODIFIED"
	switch {
	case c.Deleted:
		kind, verb = typeDeleted, "DELETED"
	case c.Old == nil:
		kind, verb = typeAdded, "ADDED"
	}
	start := e.buffer.Len()
	e.raw(`{"specversion":"1.0","id":"`)
	e.number(c.Revision)
	e.raw(`","source":`)
	e.text(e.source)
	e.raw(`,"type":"`)
	e.raw(kind)
	e.raw(`","subject":`)
	e.text(subject(c.Key))
	e.time(when)
	e.raw(`,"datacontenttype":"application/json","weftrevision":"`)
	e.number(c.Revision)
	e.raw(`","weftprevious":"`)
	e.number(previous)
	e.raw(`","weftterm":"`)
	e.raw(strconv.FormatUint(term, 10))
	e.raw(`"`)
	e.raw(`,"data":{"type":"`)
	e.raw(verb)
	e.raw(`","object":`)
	whole, err := e.object(c.Key, c.Object, maxObject)
	if err != nil {
		e.buffer.Truncate(start)
		return err
	}
	e.raw(`}`)
	if !whole {
		e.raw(`,"dataref":`)
		e.text(path(c.Key, c.Object))
	}
	e.raw(`}`)
	return nil
}

// bookmark appends one.
func (e *encoder) bookmark(resource core.GroupResource, namespace string, newest, through int64, term uint64, when time.Time) {
	about := subject(core.Key{Group: resource.Group, Resource: resource.Resource, Namespace: namespace})
	e.raw(`{"specversion":"1.0","id":`)
	e.text(about + "@" + strconv.FormatInt(when.UnixNano(), 10))
	e.raw(`,"source":`)
	e.text(e.source)
	e.raw(`,"type":"` + typeBookmark + `","subject":`)
	e.text(about)
	e.time(when)
	e.raw(`,"weftrevision":"`)
	e.number(newest)
	e.raw(`","weftthrough":"`)
	e.number(through)
	e.raw(`","weftterm":"`)
	e.raw(strconv.FormatUint(term, 10))
	e.raw(`"}`)
}

// object appends what an observer may see of an object, or a reference, and
// false, if that has more than limit bytes.
func (e *encoder) object(key core.Key, object core.Object, limit int) (whole bool, err error) {
	start := e.buffer.Len()
	if err := e.value(visible(key, object)); err != nil {
		return false, fmt.Errorf("encode %s: %w", key, err)
	}
	if e.buffer.Len()-start <= limit {
		return true, nil
	}
	e.buffer.Truncate(start)
	if err := e.value(referenceTo(key, object)); err != nil {
		return false, fmt.Errorf("encode a reference to %s: %w", key, err)
	}
	return false, nil
}

// value appends v without the line break that json.Encoder adds.
func (e *encoder) value(v any) error {
	start := e.buffer.Len()
	if err := e.json.Encode(v); err != nil {
		e.buffer.Truncate(start)
		return err
	}
	e.buffer.Truncate(e.buffer.Len() - 1)
	return nil
}

func (e *encoder) raw(s string) { e.buffer.WriteString(s) }

func (e *encoder) number(n int64) {
	e.buffer.Write(strconv.AppendInt(e.buffer.AvailableBuffer(), n, 10))
}

func (e *encoder) time(when time.Time) {
	if when.IsZero() {
		return
	}
	e.raw(`,"time":"`)
	e.buffer.Write(when.UTC().AppendFormat(e.buffer.AvailableBuffer(), time.RFC3339Nano))
	e.raw(`"`)
}

// text appends a string, which is nearly always one that needs no escapes.
func (e *encoder) text(s string) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			_ = e.value(s) // a string can be encoded
			return
		}
	}
	e.buffer.WriteByte('"')
	e.buffer.WriteString(s)
	e.buffer.WriteByte('"')
}

// subject names an object, or without a name a resource in a namespace, by
// the tokens of its NATS subject.
func subject(key core.Key) string {
	s := orElse(key.Group, bus.CoreGroup) + "/" + key.Resource + "/" + orElse(key.Namespace, bus.NoNamespace)
	if key.Name != "" {
		s += "/" + key.Name
	}
	return s
}

func orElse(s, empty string) string {
	if s == "" {
		return empty
	}
	return s
}

// visible returns what an observer may see of an object, for JSON. It changes
// nothing of the object.
func visible(key core.Key, object core.Object) any {
	if _, ok := object.(*corev1.Secret); ok || key.GroupResource() == core.Secrets {
		return metadataOf(object)
	}
	if u, ok := object.(*unstructured.Unstructured); ok {
		return withoutManagedFields(u)
	}
	if len(object.GetManagedFields()) == 0 {
		return object
	}
	// A shallow copy, whose metadata is its own.
	from := reflect.ValueOf(object).Elem()
	to := reflect.New(from.Type())
	to.Elem().Set(from)
	stripped, ok := reflect.TypeAssert[core.Object](to)
	if !ok {
		return object // cannot be: it has the type of an object
	}
	stripped.SetManagedFields(nil)
	return stripped
}

func withoutManagedFields(u *unstructured.Unstructured) map[string]any {
	metadata, ok := u.Object["metadata"].(map[string]any)
	if !ok || metadata["managedFields"] == nil {
		return u.Object
	}
	metadata = maps.Clone(metadata)
	delete(metadata, "managedFields")
	object := maps.Clone(u.Object)
	object["metadata"] = metadata
	return object
}

// metadataOf keeps only metadata that cannot hold content: tools copy whole
// objects into annotations.
func metadataOf(object core.Object) *metav1.PartialObjectMetadata {
	m := &metav1.PartialObjectMetadata{TypeMeta: typeOf(object)}
	m.Name, m.Namespace, m.UID = object.GetName(), object.GetNamespace(), object.GetUID()
	m.GenerateName, m.ResourceVersion, m.Generation = object.GetGenerateName(), object.GetResourceVersion(), object.GetGeneration()
	m.CreationTimestamp, m.DeletionTimestamp = object.GetCreationTimestamp(), object.GetDeletionTimestamp()
	m.Labels, m.OwnerReferences, m.Finalizers = object.GetLabels(), object.GetOwnerReferences(), object.GetFinalizers()
	return m
}

// reference stands for an object that is too large.
type reference struct {
	metav1.PartialObjectMetadata
	// DataRef is the object's path in the API.
	DataRef string `json:"dataref"`
}

func referenceTo(key core.Key, object core.Object) *reference {
	r := &reference{DataRef: path(key, object)}
	r.TypeMeta = typeOf(object)
	r.Name, r.Namespace, r.UID = object.GetName(), object.GetNamespace(), object.GetUID()
	r.ResourceVersion, r.Generation = object.GetResourceVersion(), object.GetGeneration()
	r.CreationTimestamp, r.DeletionTimestamp = object.GetCreationTimestamp(), object.GetDeletionTimestamp()
	return r
}

func typeOf(object core.Object) metav1.TypeMeta {
	apiVersion, kind := object.GetObjectKind().GroupVersionKind().ToAPIVersionAndKind()
	return metav1.TypeMeta{APIVersion: apiVersion, Kind: kind}
}

// path is where the API serves an object.
func path(key core.Key, object core.Object) string {
	version := object.GetObjectKind().GroupVersionKind().GroupVersion()
	if version == (schema.GroupVersion{}) {
		version.Version = "v1"
	}
	var b strings.Builder
	if version.Group == "" {
		b.WriteString("/api/")
	} else {
		b.WriteString("/apis/" + url.PathEscape(version.Group) + "/")
	}
	b.WriteString(url.PathEscape(version.Version))
	if key.Namespace != "" {
		b.WriteString("/namespaces/" + url.PathEscape(key.Namespace))
	}
	b.WriteString("/" + url.PathEscape(key.Resource) + "/" + url.PathEscape(key.Name))
	return b.String()
}
