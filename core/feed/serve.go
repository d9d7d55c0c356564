package feed

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/core"
)

// Methods of observers.
const (
	methodKinds  = "kinds"
	methodList   = "list"
	methodGet    = "get"
	methodResume = "resume"
)

// serve answers observers until ctx ends.
func (f *Feed) serve(ctx context.Context) (err error) {
	var open []bus.Subscription
	defer func() {
		for _, s := range open {
			err = errors.Join(err, s.Close())
		}
	}()
	for method, answer := range map[string]func(context.Context, []byte) ([]byte, error){
		methodKinds: f.kinds, methodList: f.list, methodGet: f.get, methodResume: f.resume,
	} {
		s, err := f.config.Bus.Serve(ctx, bus.APIPattern(bus.RoleObserver, method), f.handler(answer))
		if err != nil {
			return fmt.Errorf("serve observers: %w", err)
		}
		open = append(open, s)
	}
	<-ctx.Done()
	return nil
}

func (f *Feed) handler(answer func(context.Context, []byte) ([]byte, error)) bus.CallHandler {
	return func(ctx context.Context, m bus.Message) (bus.Message, error) {
		ctx, cancel := context.WithTimeout(ctx, answerWithin)
		defer cancel()
		leave, err := f.limits.enter(ctx, bus.Caller(ctx))
		if err != nil {
			return bus.Message{}, problemOf(err)
		}
		defer leave()
		data, err := answer(ctx, m.Data)
		if err != nil {
			p := problemOf(err)
			if p.Code == http.StatusInternalServerError {
				f.config.Logger.Error("answer an observer", "subject", m.Subject, "err", err)
			}
			return bus.Message{}, p
		}
		return bus.Message{Data: data}, nil
	}
}

// kinds answers with what can be asked for, and what has events.
func (f *Feed) kinds(_ context.Context, data []byte) ([]byte, error) {
	if _, err := decode[struct{}](data); err != nil {
		return nil, err
	}
	type item struct {
		Group      string `json:"group"`
		Version    string `json:"version"`
		Resource   string `json:"resource"`
		Kind       string `json:"kind"`
		Namespaced bool   `json:"namespaced"`
		Events     bool   `json:"events"`
	}
	items := []item{}
	for k := range f.config.Client.Kinds() {
		if !k.Internal {
			items = append(items, item{orElse(k.Group, bus.CoreGroup), k.Storage, k.Resource, k.Kind, k.Namespaced, published(k)})
		}
	}
	e := newEncoder(f.config.Source)
	err := e.value(map[string]any{"items": items})
	return e.bytes(), err
}

// list answers with a page of objects.
func (f *Feed) list(ctx context.Context, data []byte) ([]byte, error) {
	r, err := decode[listRequest](data)
	if err != nil {
		return nil, err
	}
	kind, err := r.kind(f.config.Client)
	if err != nil {
		return nil, err
	}
	limit, err := entries(r.Limit)
	if err != nil {
		return nil, err
	}
	snapshot, err := f.config.Client.WaitFor(ctx, 0) // unless this core may have been overtaken
	if err != nil {
		return nil, err
	}
	begin := place{Revision: snapshot.Revision()}
	if r.Continue != "" {
		if begin, err = parsePlace(r.Continue); err != nil {
			return nil, err
		}
	}
	return f.page(ctx, snapshot, kind.GroupResource(), r.Namespace, begin, limit)
}

func (f *Feed) page(ctx context.Context, snapshot core.Snapshot, resource core.GroupResource, namespace string, begin place, limit int) ([]byte, error) {
	e := newEncoder(f.config.Source)
	e.raw(`{"revision":"`)
	e.number(begin.Revision)
	e.raw(`","items":[`)
	first := e.buffer.Len()
	after := core.Key{Group: resource.Group, Resource: resource.Resource, Namespace: begin.Namespace, Name: begin.Name}
	rest, count := "", 0
	for key, object := range snapshot.List(resource, namespace) {
		if begin.Name != "" && !after.Less(key) {
			continue
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		start := e.buffer.Len()
		if count > 0 {
			e.raw(`,`)
		}
		if _, err := e.object(key, object, maxObject); err != nil {
			return nil, err
		}
		if full := count == limit || e.buffer.Len()-first > maxPage; full && count > 0 {
			e.buffer.Truncate(start)
			rest = begin.String()
			break
		}
		count++
		begin.Namespace, begin.Name = key.Namespace, key.Name
	}
	e.raw(`]`)
	if rest != "" {
		e.raw(`,"continue":`)
		e.text(rest)
	}
	e.raw(`}`)
	return e.bytes(), nil
}

// get answers with one object, whole.
func (f *Feed) get(ctx context.Context, data []byte) ([]byte, error) {
	r, err := decode[getRequest](data)
	if err != nil {
		return nil, err
	}
	kind, err := r.kind(f.config.Client)
	if err != nil {
		return nil, err
	}
	if r.Name == "" {
		return nil, badRequest("name: is required")
	}
	if kind.Namespaced && r.Namespace == "" {
		return nil, badRequest("namespace: is required, %s are in one", kind.GroupResource())
	}
	key := core.Key{Group: r.Group, Resource: r.Resource, Namespace: r.Namespace, Name: r.Name}
	snapshot, err := f.config.Client.WaitFor(ctx, 0) // as for list
	if err != nil {
		return nil, err
	}
	object, ok := snapshot.Get(key)
	if !ok {
		return nil, apierrors.NewNotFound(key.GroupResource(), key.Name)
	}
	e := newEncoder(f.config.Source)
	e.raw(`{"revision":"`)
	e.number(snapshot.Revision())
	e.raw(`","object":`)
	whole, err := e.object(key, object, maxSingle)
	if err != nil {
		return nil, err
	}
	if !whole {
		return nil, &problem{http.StatusRequestEntityTooLarge, string(metav1.StatusReasonRequestEntityTooLarge),
			fmt.Sprintf("%s has more than %d bytes of JSON: read %s of the API", key, maxSingle, path(key, object))}
	}
	e.raw(`}`)
	return e.bytes(), nil
}

// resume answers with the changes after a revision, as they were published.
func (f *Feed) resume(ctx context.Context, data []byte) ([]byte, error) {
	r, err := decode[resumeRequest](data)
	if err != nil {
		return nil, err
	}
	kind, err := r.kind(f.config.Client)
	if err != nil {
		return nil, err
	}
	from, err := revisionOf(r.From)
	if err != nil {
		return nil, err
	}
	limit, err := entries(r.Limit)
	if err != nil {
		return nil, err
	}
	newest, err := f.config.Client.WaitFor(ctx, 0) // as for list
	if err != nil {
		return nil, err
	}
	until := newest.Revision()
	if from > until {
		return nil, apierrors.NewResourceExpired(fmt.Sprintf("revision %d is above the newest, %d: it is of another history, list again", from, until))
	}
	watch, err := f.config.Client.Watch(kind.GroupResource(), r.Namespace, from)
	if err != nil {
		return nil, err
	}
	defer watch.Close()
	return f.replay(ctx, watch, from, until, limit)
}

// replay reads at least up to a revision that is committed, if the limits
// allow, and never waits for what is not.
func (f *Feed) replay(ctx context.Context, watch core.Watch, position, until int64, limit int) ([]byte, error) {
	e := newEncoder(f.config.Source)
	e.raw(`{"events":[`)
	start, count, more := e.buffer.Len(), 0, false
read:
	for watch.Revision() < until {
		changes, err := watch.Next(ctx)
		if err != nil {
			return nil, err
		}
		for i := range changes {
			before := e.buffer.Len()
			if count > 0 {
				e.raw(`,`)
			}
			if err := e.event(&changes[i], changes[i].Previous, f.config.Term(), time.Time{}); err != nil {
				return nil, err
			}
			if full := count == limit || e.buffer.Len()-start > maxPage; full && count > 0 {
				e.buffer.Truncate(before)
				more = true
				break read
			}
			count++
			position = changes[i].Revision
		}
	}
	if !more {
		position = max(position, watch.Revision())
	}
	e.raw(`],"revision":"`)
	e.number(position)
	e.raw(`","more":`)
	if more {
		e.raw(`true}`)
	} else {
		e.raw(`false}`)
	}
	return e.bytes(), nil
}
