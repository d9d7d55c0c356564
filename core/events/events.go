// Package events records what happens to objects as Kubernetes' Event
// objects: the same event again raises a count, similar ones are combined and
// an object that causes too many is muted. It must not decide what is worth
// an event; its callers do.
package events

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
)

// Limits of the recorder, those of Kubernetes' where it has them.
const (
	maxMessage    = 1024
	maxReason     = 128
	burst         = 25               // events about one object from one source at once
	refill        = 5 * time.Minute  // until one more is allowed
	similarLimit  = 10               // distinct messages of one reason before they are combined
	similarWindow = 10 * time.Minute // in which they count as similar
	cacheSize     = 4096             // events, objects and reasons remembered
	writeTimeout  = 10 * time.Second
)

// Writer is the part of core.Client that a Recorder needs.
type Writer interface {
	Create(ctx context.Context, object core.Object, o core.WriteOptions) (core.Object, error)
	Mutate(ctx context.Context, key core.Key, change func(core.Object) error, o core.WriteOptions) (core.Object, error)
}

// Config configures a Recorder.
type Config struct {
	Client Writer       // required
	Logger *slog.Logger // required
	// Buffer is how many events may wait to be written; more are dropped.
	// Optional, 4096.
	Buffer int
}

// Recorder records events. Event may be called concurrently, before and while
// Run runs.
type Recorder struct {
	client Writer
	log    *slog.Logger
	queue  chan happening // bounded by Config.Buffer: events may be lost, work may not wait for them

	// The rest belongs to Run.
	seen    *cache[identity, record]
	budgets *cache[origin, budget]
	similar *cache[similarity, messages]
}

// happening is one call of Event.
type happening struct {
	source string
	about  corev1.ObjectReference
	kind   string
	reason string
	text   string
	at     time.Time
	// combined says that one event stands for all of this reason.
	combined bool
}

func (h happening) identity() identity {
	id := identity{source: h.source, kind: h.kind, reason: h.reason, text: h.text, about: h.about}
	if h.combined {
		id.text = combinedPrefix
	}
	return id
}

const combinedPrefix = "(combined from similar events): "

// identity is what makes two events the same.
type identity struct {
	source, kind, reason, text string
	about                      corev1.ObjectReference
}

type origin struct {
	source string
	about  corev1.ObjectReference
}

type similarity struct {
	source, kind, reason string
	about                corev1.ObjectReference
}

type record struct {
	key   core.Key
	count int32
}

type budget struct {
	tokens float64
	last   time.Time
}

type messages struct {
	texts map[string]struct{}
	last  time.Time
}

// New returns a Recorder that records once Run runs.
func New(c Config) (*Recorder, error) {
	if c.Client == nil || c.Logger == nil {
		return nil, errors.New("events: client and logger are required")
	}
	return &Recorder{
		client: c.Client, log: c.Logger,
		queue:   make(chan happening, cmp.Or(c.Buffer, 4096)),
		seen:    newCache[identity, record](cacheSize),
		budgets: newCache[origin, budget](cacheSize),
		similar: newCache[similarity, messages](cacheSize),
	}, nil
}

// Event records that something happened to an object. It never blocks; when
// too many events wait, or the object has caused too many, it is dropped.
// Source is the component, such as "replicaset-controller", and kind is
// "Normal" or "Warning".
func (r *Recorder) Event(source string, about corev1.ObjectReference, kind, reason, message string) {
	h := happening{source: source, about: about, kind: kind, reason: truncate(reason, maxReason), text: truncate(message, maxMessage), at: time.Now()}
	select {
	case r.queue <- h:
	default:
		r.log.Debug("event dropped: too many wait", "object", about.Name, "reason", reason)
	}
}

// Run writes events until ctx ends.
func (r *Recorder) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case h := <-r.queue:
			if err := r.write(ctx, h); err != nil && ctx.Err() == nil {
				r.log.Debug("record event", "object", h.about.Name, "reason", h.reason, "err", err)
			}
		}
	}
}

func (r *Recorder) write(ctx context.Context, h happening) error {
	h = r.combine(h)
	if !r.allow(h) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	id := h.identity()
	if known, ok := r.seen.get(id); ok {
		err := r.repeat(ctx, known, h)
		if err == nil {
			r.seen.put(id, record{key: known.key, count: known.count + 1})
			return nil
		}
		if !apierrors.IsNotFound(err) {
			return err
		}
	}
	created, err := r.client.Create(ctx, newEvent(h), core.WriteOptions{})
	if err != nil {
		return fmt.Errorf("create event: %w", err)
	}
	r.seen.put(id, record{key: core.KeyFor(core.Events, created), count: 1})
	return nil
}

func (r *Recorder) repeat(ctx context.Context, known record, h happening) error {
	_, err := r.client.Mutate(ctx, known.key, func(o core.Object) error {
		event, ok := o.(*corev1.Event)
		if !ok {
			return fmt.Errorf("%s is a %T", known.key, o)
		}
		event.Count++
		event.Message = h.text
		event.LastTimestamp = metav1.NewTime(h.at)
		return nil
	}, core.WriteOptions{})
	return err
}

// combine replaces the text of an event that is one of many similar ones, so
// that they become one event with a count.
func (r *Recorder) combine(h happening) happening {
	key := similarity{source: h.source, kind: h.kind, reason: h.reason, about: h.about}
	m, ok := r.similar.get(key)
	if !ok || h.at.Sub(m.last) > similarWindow {
		m = messages{texts: map[string]struct{}{}}
	}
	m.last = h.at
	if len(m.texts) < similarLimit {
		m.texts[h.text] = struct{}{}
	}
	r.similar.put(key, m)
	if _, own := m.texts[h.text]; !own {
		h.combined = true
		h.text = truncate(combinedPrefix+h.text, maxMessage)
	}
	return h
}

func (r *Recorder) allow(h happening) bool {
	key := origin{source: h.source, about: h.about}
	b, ok := r.budgets.get(key)
	if !ok {
		b = budget{tokens: burst, last: h.at}
	}
	b.tokens = min(burst, b.tokens+h.at.Sub(b.last).Seconds()/refill.Seconds())
	b.last = h.at
	allowed := b.tokens >= 1
	if allowed {
		b.tokens--
	}
	r.budgets.put(key, b)
	return allowed
}

func newEvent(h happening) *corev1.Event {
	namespace := cmp.Or(h.about.Namespace, metav1.NamespaceDefault)
	at := metav1.NewTime(h.at)
	return &corev1.Event{
		TypeMeta:       metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta:     metav1.ObjectMeta{Namespace: namespace, Name: eventName(h)},
		InvolvedObject: h.about,
		Reason:         h.reason, Message: h.text, Type: h.kind,
		Source:         corev1.EventSource{Component: h.source},
		FirstTimestamp: at, LastTimestamp: at, Count: 1,
		ReportingController: h.source,
	}
}

// eventName is the object's name and a suffix that no other event of it has.
func eventName(h happening) string {
	sum := fnv.New64a()
	for _, s := range []string{h.source, string(h.about.UID), h.kind, h.reason, h.text} {
		_, _ = sum.Write([]byte(s)) // a hash's Write returns no error
		_, _ = sum.Write([]byte{0})
	}
	suffix := fmt.Sprintf("%016x", sum.Sum64()^uint64(h.at.UnixNano()))
	return truncate(h.about.Name, 253-1-len(suffix)) + "." + suffix
}

// truncate cuts s to at most n bytes, at the border of a character.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}

// Reference is how an event names the object it is about.
func Reference(o core.Object) corev1.ObjectReference {
	gvk := o.GetObjectKind().GroupVersionKind()
	return corev1.ObjectReference{
		APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind,
		Namespace: o.GetNamespace(), Name: o.GetName(), UID: o.GetUID(), ResourceVersion: "",
	}
}
