package apiserver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftrun/weft/core"
)

const (
	bookmarkEvery = time.Minute // as Kubernetes
	leastWatch    = 30 * time.Minute
	flushFrom     = 64 << 10 // bytes of frames gathered before they are written
)

// watchOptions are the parameters of a watch.
type watchOptions struct {
	selector
	from      int64 // changes after this revision
	at        int64 // at least this revision for the initial state
	initial   bool  // send the present objects first
	announce  bool  // then say so by a bookmark
	bookmarks bool
	timeout   time.Duration
}

// watch sends changes until the client goes, time is up, or the client fell
// behind what is kept.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, q *request) error {
	a, err := negotiate(r, q.kind.Custom, asTable, asPartial, asPartSet)
	if err != nil {
		return err
	}
	if err := checkInclude(q); err != nil {
		return err
	}
	o, err := parseWatch(q)
	if err != nil {
		return err
	}
	snapshot, err := s.atLeast(r.Context(), o.at)
	if err != nil {
		return err
	}
	if o.initial || o.from == 0 {
		o.from = snapshot.Revision()
	}
	changes, err := s.Client.Watch(q.groupResource(), q.namespace, o.from)
	if err != nil && !apierrors.IsResourceExpired(err) {
		return err
	}
	out := newFrames(s, w, q, a)
	if err != nil { // Kubernetes tells so in the stream
		out.fail(err)
		return out.flush()
	}
	defer changes.Close()
	ctx, cancel := context.WithTimeout(r.Context(), o.timeout)
	defer cancel()
	if err := out.present(snapshot, o); err != nil {
		return err
	}
	return out.follow(ctx, changes, o)
}

func parseWatch(q *request) (*watchOptions, error) {
	o := &watchOptions{bookmarks: flag(q.query, "allowWatchBookmarks")}
	var err error
	if o.selector, err = parseSelector(q.query, q.kind, q.version.Name); err != nil {
		return nil, err
	}
	revision, err := parseRevision(q.query.Get("resourceVersion"))
	if err != nil {
		return nil, err
	}
	o.at, o.from = revision, revision
	o.initial = revision == 0
	if q.query.Has("sendInitialEvents") {
		o.initial = flag(q.query, "sendInitialEvents")
		o.announce = o.initial && o.bookmarks
	}
	if err := checkInitial(q); err != nil {
		return nil, err
	}
	o.timeout = leastWatch + rand.N(leastWatch) // spread, so that not all return at once
	if text := q.query.Get("timeoutSeconds"); text != "" {
		seconds, err := strconv.ParseInt(text, 10, 32)
		if err != nil || seconds < 0 {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("invalid timeoutSeconds %q: it must be a number of 0 or more", text))
		}
		if seconds > 0 {
			o.timeout = time.Duration(seconds) * time.Second
		}
	}
	return o, nil
}

// checkInitial keeps Kubernetes' rules for watch-lists.
func checkInitial(q *request) error {
	match := metav1.ResourceVersionMatch(q.query.Get("resourceVersionMatch"))
	path := field.NewPath("sendInitialEvents")
	switch {
	case !q.query.Has("sendInitialEvents"):
		if match != "" {
			return invalidList(field.Forbidden(matchPath, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"))
		}
	case match == "":
		return invalidList(field.Forbidden(matchPath, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"))
	case match != metav1.ResourceVersionMatchNotOlderThan:
		return invalidList(field.NotSupported(matchPath, match, []metav1.ResourceVersionMatch{metav1.ResourceVersionMatchNotOlderThan}))
	case q.query.Get("continue") != "":
		return invalidList(field.Forbidden(path, "sendInitialEvents is forbidden when continue is provided"))
	}
	return nil
}

// present sends the objects of a snapshot as additions.
func (f *frames) present(snapshot core.Snapshot, o *watchOptions) error {
	f.begin()
	if o.initial {
		l := &listing{selector: o.selector, snapshot: snapshot}
		for _, object := range l.walk(f.q) {
			if !o.matches(object) {
				continue
			}
			if err := f.add("ADDED", object, true); err != nil {
				return err
			}
		}
		if o.announce {
			if err := f.bookmark(snapshot.Revision(), true); err != nil {
				return err
			}
		}
	}
	return f.flush()
}

// follow sends changes as they come, and bookmarks between them.
func (f *frames) follow(ctx context.Context, changes core.Watch, o *watchOptions) error {
	for {
		until, cancel := context.WithTimeout(ctx, bookmarkEvery)
		err := f.relay(until, changes, o)
		idle := until.Err() != nil
		cancel()
		if apierrors.IsResourceExpired(err) {
			f.fail(err)
			return f.flush()
		}
		if !idle || errors.Is(ctx.Err(), context.Canceled) {
			return errAnswered // the client or the store is gone
		}
		if o.bookmarks {
			if err := f.bookmark(changes.Revision(), false); err != nil {
				return err
			}
			if err := f.flush(); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return nil // its time is up
		}
	}
}

// relay sends changes until ctx ends or an error.
func (f *frames) relay(ctx context.Context, changes core.Watch, o *watchOptions) error {
	for {
		batch, err := changes.Next(ctx)
		if err != nil {
			return err
		}
		for i := range batch {
			if err := f.change(&batch[i], o); err != nil {
				return err
			}
		}
		if err := f.flush(); err != nil {
			return err
		}
		if len(batch) == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// change sends one change as a selector sees it: an object that begins to
// match is added, one that no longer matches is deleted.
func (f *frames) change(c *core.Change, o *watchOptions) error {
	if o.all() {
		return f.add(verbOfChange(c), c.Object, true)
	}
	before := c.Old != nil && o.matches(c.Old)
	now := !c.Deleted && o.matches(c.Object)
	switch {
	case c.Deleted && (before || c.Old == nil && o.matches(c.Object)):
		return f.add("DELETED", c.Object, true)
	case before && !now && !c.Deleted:
		gone := core.Copy(c.Old)
		gone.SetResourceVersion(core.FormatRevision(c.Revision))
		return f.add("DELETED", gone, false)
	case now && before:
		return f.add("MODIFIED", c.Object, true)
	case now:
		return f.add("ADDED", c.Object, true)
	}
	return nil
}

func verbOfChange(c *core.Change) string {
	switch {
	case c.Deleted:
		return "DELETED"
	case c.Old == nil:
		return "ADDED"
	}
	return "MODIFIED"
}

// bookmark tells how far the client has seen.
func (f *frames) bookmark(revision int64, initialEnd bool) error {
	var object core.Object = &unstructured.Unstructured{Object: map[string]any{}}
	gvk := f.q.kind.GroupVersionKind(f.q.version.Name)
	if !f.q.kind.Custom {
		typed, err := newObject(gvk)
		if err != nil {
			return err
		}
		object = typed
	}
	object.GetObjectKind().SetGroupVersionKind(gvk)
	object.SetResourceVersion(core.FormatRevision(revision))
	if initialEnd {
		object.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	}
	return f.add("BOOKMARK", object, false)
}
