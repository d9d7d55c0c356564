package cluster

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"

	"github.com/weftrun/weft/bus"
)

// announcement is what the core that leads says of itself, on
// bus.LeaderSubject: when it begins, each time that it renews its lease, and
// when it gives that up.
type announcement struct {
	Server   string `json:"server"` // where it serves the API
	Holder   string `json:"holder"` // as the lease names it
	Term     int64  `json:"term"`
	Resigned bool   `json:"resigned,omitempty"`
}

// maxAnnouncement bounds one, in bytes.
const maxAnnouncement = 4 << 10

func (a announcement) publish(ctx context.Context, b bus.PubSub) error {
	data, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return b.Publish(ctx, bus.Message{Subject: bus.LeaderSubject, Data: data})
}

// whereabouts knows which core leads, from what the cores say of themselves.
type whereabouts struct {
	log *slog.Logger
	// resigned gets a value when a leader gives up its lease: whoever stands by
	// need not wait for it to run out.
	resigned chan struct{} // 1: one value is enough

	mu      sync.Mutex
	current announcement  // Server is empty while nobody is known to lead
	changed chan struct{} // closed when current does
	leads   context.Context
	end     context.CancelFunc
}

func newWhereabouts(log *slog.Logger) *whereabouts {
	return &whereabouts{log: log, resigned: make(chan struct{}, 1), changed: make(chan struct{})}
}

// listen hears what cores say until the subscription is closed.
func (w *whereabouts) listen(ctx context.Context, b bus.PubSub) (bus.Subscription, error) {
	ctx = context.WithoutCancel(ctx)
	return b.Subscribe(ctx, bus.LeaderSubject, func(m bus.Message) {
		var a announcement
		if len(m.Data) > maxAnnouncement || json.Unmarshal(m.Data, &a) != nil {
			w.log.Warn("what a core says of itself makes no sense", "bytes", len(m.Data))
			return
		}
		w.hear(ctx, a)
	})
}

// hear takes an announcement, unless a newer term is known, or that the leader
// of this one has resigned.
func (w *whereabouts) hear(ctx context.Context, a announcement) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.Term < w.current.Term || a.Term == w.current.Term && w.current.Resigned {
		return
	}
	if a.Resigned {
		select {
		case w.resigned <- struct{}{}:
		default:
		}
		a.Server = ""
	}
	if a.Server == w.current.Server && a.Term == w.current.Term {
		return
	}
	if w.end != nil {
		w.end()
		w.leads, w.end = nil, nil
	}
	w.current = a
	if a.Server != "" {
		w.leads, w.end = context.WithCancel(ctx)
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

// leader returns where the core that leads serves, and a context that ends when
// it leads no longer. It waits until one is known or ctx ends.
func (w *whereabouts) leader(ctx context.Context) (server string, leads context.Context, err error) {
	for {
		w.mu.Lock()
		server, leads, changed := w.current.Server, w.leads, w.changed
		w.mu.Unlock()
		if server != "" {
			return server, leads, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", nil, context.Cause(ctx)
		}
	}
}
