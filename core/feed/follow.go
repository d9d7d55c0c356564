package feed

import (
	"context"
	"slices"
	"time"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/core"
)

const (
	bookmarkEach = time.Second      // for what changed lately
	quietEach    = 10 * time.Second // for the rest
	changedFor   = time.Minute      // how long "lately" is
	forgetAfter  = 10 * time.Minute // an empty namespace that does not change
	retryAfter   = time.Second      // after a watch ended

	// changedMax and quietMax bound the bookmarks of one resource in a second.
	changedMax = 1000
	quietMax   = 100
)

// space is what is known of a resource in one namespace.
type space struct {
	namespace string
	newest    int64 // revision of the last change; not above what was published
	changed   time.Time
	marked    time.Time // when its last bookmark was published
}

// follower publishes the changes and bookmarks of one resource. It belongs to
// the goroutine that runs it, so that bookmarks never overtake changes.
type follower struct {
	feed     *Feed
	resource core.GroupResource
	scoped   bool // to the cluster, not to namespaces
	encoder  *encoder

	// base stands for newest where nothing is known.
	base   int64
	spaces map[string]*space
	order  []*space // the same; bookmarks take turns in it
	// changed and quiet are whose turn it is among the one and the other.
	changed, quiet turn
}

func newFollower(f *Feed, kind *core.Kind) *follower {
	return &follower{feed: f, resource: kind.GroupResource(), scoped: !kind.Namespaced, encoder: newEncoder(f.config.Source)}
}

// run publishes what comes after a revision until ctx ends.
func (w *follower) run(ctx context.Context, from int64) {
	for ctx.Err() == nil {
		err := w.watch(ctx, from)
		if ctx.Err() != nil {
			return
		}
		w.feed.config.Logger.Warn("watch for events ended, beginning anew", "kind", w.resource.String(), "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(retryAfter):
		}
		from = w.feed.config.Client.Snapshot().Revision()
	}
}

func (w *follower) watch(ctx context.Context, from int64) error {
	watch, err := w.feed.config.Client.Watch(w.resource, "", from)
	if err != nil {
		return err
	}
	defer watch.Close()
	w.reset(from)
	for {
		next := time.Now().Add(bookmarkEach)
		if err := w.until(ctx, watch, next); err != nil {
			return err
		}
		w.bookmarks(ctx, watch.Revision())
	}
}

// until publishes changes until a time.
func (w *follower) until(ctx context.Context, watch core.Watch, end time.Time) error {
	within, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	for within.Err() == nil {
		changes, err := watch.Next(within)
		for i := range changes {
			w.publish(ctx, &changes[i])
		}
		if err != nil && within.Err() == nil {
			return err
		}
	}
	return ctx.Err()
}

// reset begins at a revision, as if every namespace had changed in it.
func (w *follower) reset(from int64) {
	w.base, w.order = from, nil
	w.spaces = map[string]*space{}
	if w.scoped {
		w.space("")
	}
	last := ""
	for key := range w.feed.config.Client.Snapshot().List(w.resource, "") {
		if key.Namespace != last {
			last = key.Namespace
			w.space(last)
		}
	}
}

func (w *follower) space(namespace string) *space {
	s := w.spaces[namespace]
	if s == nil {
		s = &space{namespace: namespace, newest: w.base, changed: time.Now().Add(-changedFor)}
		w.spaces[namespace] = s
		w.order = append(w.order, s)
	}
	return s
}

func (w *follower) publish(ctx context.Context, c *core.Change) {
	s := w.space(c.Key.Namespace)
	previous := s.newest
	s.newest, s.changed = c.Revision, time.Now()
	w.encoder.reset()
	if err := w.encoder.event(c, previous, w.feed.config.Term(), s.changed); err != nil {
		// Subscribers notice the gap and are told why when they resume.
		w.feed.config.Logger.Error("encode event", "object", c.Key.String(), "err", err)
		return
	}
	w.feed.send(ctx, bus.Message{
		Subject: bus.EventSubject(c.Key.Group, c.Key.Resource, c.Key.Namespace, c.Key.Name), Data: w.encoder.bytes(),
	})
}

// turn is a place in follower.order.
type turn int

// bookmarks publishes those that are due. Everything up to the revision
// through has been published.
func (w *follower) bookmarks(ctx context.Context, through int64) {
	now := time.Now()
	changed := func(s *space) bool { return now.Sub(s.changed) < changedFor }
	w.round(&w.changed, changedMax, func(s *space) bool {
		if !changed(s) || now.Sub(s.marked) < bookmarkEach/2 { // a half, because ticks are not exact
			return false
		}
		w.bookmark(ctx, s, through, now)
		return true
	})
	w.round(&w.quiet, quietMax, func(s *space) bool {
		if changed(s) || now.Sub(s.marked) < quietEach-bookmarkEach/2 {
			return false
		}
		if now.Sub(s.changed) > forgetAfter && w.empty(s.namespace) {
			w.forget(s)
		} else {
			w.bookmark(ctx, s, through, now)
		}
		return true
	})
}

// round goes once through all namespaces, from the turn on, until visit has
// done something for as many as the budget allows.
func (w *follower) round(t *turn, budget int, visit func(*space) bool) {
	for range len(w.order) {
		if budget == 0 || len(w.order) == 0 {
			return
		}
		*t %= turn(len(w.order))
		s := w.order[*t]
		if visit(s) {
			budget--
		}
		if int(*t) < len(w.order) && w.order[*t] == s { // else it was forgotten, and another took its place
			*t++
		}
	}
}

func (w *follower) bookmark(ctx context.Context, s *space, through int64, now time.Time) {
	s.marked = now
	w.encoder.reset()
	w.encoder.bookmark(w.resource, s.namespace, s.newest, max(s.newest, through), w.feed.config.Term(), now)
	w.feed.send(ctx, bus.Message{
		Subject: bus.BookmarkSubject(w.resource.Group, w.resource.Resource, s.namespace), Data: w.encoder.bytes(),
	})
}

func (w *follower) empty(namespace string) bool {
	if w.scoped {
		return false
	}
	for range w.feed.config.Client.Snapshot().List(w.resource, namespace) {
		return false
	}
	return true
}

// forget drops a namespace. What is said of it when it comes back must not be
// less than what was said before.
func (w *follower) forget(s *space) {
	w.base = max(w.base, s.newest)
	delete(w.spaces, s.namespace)
	last := len(w.order) - 1
	i := slices.Index(w.order, s)
	w.order[i] = w.order[last]
	w.order[last] = nil
	w.order = w.order[:last]
}
