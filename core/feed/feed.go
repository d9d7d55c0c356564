package feed

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/core"
)

// Config configures a Feed. The zero value of an optional field means its
// default.
type Config struct {
	// Bus is the core's own connection. Required.
	Bus bus.Bus
	// Client reads what is committed; nothing is written. Required.
	Client core.Client
	// Term returns the term of this core's leadership. Required.
	Term func() uint64
	// Source is what events name as theirs, a URI reference; "/weft".
	Source string
	// Logger is required.
	Logger *slog.Logger
}

// Feed publishes changes and bookmarks and answers observers.
type Feed struct {
	config  Config
	limits  *limits
	failing atomic.Bool // the last message could not be published
}

// New returns a feed that does nothing until Run.
func New(c Config) (*Feed, error) {
	if c.Bus == nil || c.Client == nil || c.Term == nil || c.Logger == nil {
		return nil, errors.New("feed: bus, client, term and logger are required")
	}
	if c.Source == "" {
		c.Source = "/weft"
	}
	return &Feed{config: c, limits: newLimits()}, nil
}

// Run publishes and answers until ctx ends.
func (f *Feed) Run(ctx context.Context) error {
	ctx = core.WithUser(ctx, core.System("feed"))
	// What is committed after whoever asks first got an answer has an event.
	from := f.config.Client.Snapshot().Revision()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return f.serve(ctx) })
	group.Go(func() error {
		f.follow(ctx, from)
		return nil
	})
	return group.Wait()
}

const (
	// catalogueEach is how often the catalogue is looked at; nothing is
	// missed in between.
	catalogueEach = 250 * time.Millisecond
	// goneFor is how long a kind is still followed after it left the
	// catalogue, for the last of its deletions.
	goneFor = 10 * time.Second
)

// followed is a resource whose changes are being published.
type followed struct {
	stop context.CancelFunc
	gone time.Time // when it left the catalogue; zero while it is in it
}

// follow has the changes of each kind after a revision published while it is
// served.
func (f *Feed) follow(ctx context.Context, from int64) {
	var followers sync.WaitGroup
	defer followers.Wait()
	running := map[core.GroupResource]*followed{}
	tick := time.NewTicker(catalogueEach)
	defer tick.Stop()
	// What was not in the catalogue at the last look has no change up to the
	// revision that was read before that look.
	generation, next := int64(-1), from
	for {
		since := next
		next = f.config.Client.Snapshot().Revision()
		if now := f.config.Client.Generation(); now != generation {
			generation = now
			f.adjust(running, func(kind *core.Kind) context.CancelFunc {
				w := newFollower(f, kind)
				ctx, stop := context.WithCancel(ctx)
				followers.Go(func() { w.run(ctx, since) })
				return stop
			})
		}
		for resource, r := range running {
			if !r.gone.IsZero() && time.Since(r.gone) > goneFor {
				r.stop()
				delete(running, resource)
			}
		}
		select {
		case <-ctx.Done():
			for _, r := range running {
				r.stop()
			}
			return
		case <-tick.C:
		}
	}
}

// adjust starts what is new in the catalogue and marks what is gone.
func (f *Feed) adjust(running map[core.GroupResource]*followed, start func(*core.Kind) context.CancelFunc) {
	served := map[core.GroupResource]bool{}
	for kind := range f.config.Client.Kinds() {
		resource := kind.GroupResource()
		if !published(kind) {
			continue
		}
		served[resource] = true
		if r := running[resource]; r != nil {
			r.gone = time.Time{}
			continue
		}
		running[resource] = &followed{stop: start(kind)}
	}
	for resource, r := range running {
		if !served[resource] && r.gone.IsZero() {
			r.gone = time.Now()
		}
	}
}

// published tells whether a kind's changes are events. Volatile kinds are
// heartbeats: each node's Lease, every few seconds, of which nobody wants all.
func published(kind *core.Kind) bool {
	return !kind.Internal && kind.Durability != core.Volatile
}

// send publishes one message. What cannot be sent is a gap that subscribers
// notice, so it is not tried again; the log says when that begins and ends.
func (f *Feed) send(ctx context.Context, m bus.Message) {
	err := f.config.Bus.Publish(ctx, m)
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, bus.ErrRefused): // this one alone: its name or content is too long
		f.config.Logger.Warn("event is refused by the bus", "subject", m.Subject, "err", err)
	case err != nil:
		if !f.failing.Swap(true) {
			f.config.Logger.Warn("events cannot be published", "err", err)
		}
	case f.failing.Load() && f.failing.Swap(false):
		f.config.Logger.Info("events are published again")
	}
}
