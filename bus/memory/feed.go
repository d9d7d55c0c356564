package memory

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/internal/wire"
)

// feed is one subscription's queue.
type feed struct {
	conn    *link
	pattern string
	queue   string
	inbox   bool // it receives replies and stream frames
	limits  wire.Limits
	ready   chan struct{} // holds one element when frames may wait
	closed  chan struct{}
	close   func()

	mu     sync.Mutex
	frames []wire.Frame
	bytes  int
}

// Subscribe implements wire.Carrier.
func (l *link) Subscribe(pattern, queue string, limits wire.Limits) (wire.Feed, error) {
	h := l.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cut[l.who] {
		return nil, errCut
	}
	inbox := strings.HasPrefix(pattern, "_INBOX.")
	if !l.perms.MaySubscribe(pattern) {
		return nil, fmt.Errorf("%s may not subscribe to %s: %w", l.who, pattern, bus.ErrRefused)
	}
	f := &feed{conn: l, pattern: pattern, queue: queue, inbox: inbox, limits: limits,
		ready: make(chan struct{}, 1), closed: make(chan struct{})}
	f.close = sync.OnceFunc(func() { close(f.closed) })
	h.routes.add(pattern, f)
	return f, nil
}

// push queues a frame, and tells whether there was room.
func (f *feed) push(g wire.Frame) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.frames) >= f.limits.Messages || f.bytes+len(g.Data) > f.limits.Bytes {
		return false
	}
	f.frames = append(f.frames, g)
	f.bytes += len(g.Data)
	select {
	case f.ready <- struct{}{}:
	default:
	}
	return true
}

// Next implements wire.Feed.
func (f *feed) Next(ctx context.Context) (wire.Frame, error) {
	for {
		if ctx.Err() != nil {
			return wire.Frame{}, context.Cause(ctx)
		}
		if g, ok := f.pop(); ok {
			return g, nil
		}
		select {
		case <-f.ready:
		case <-f.closed:
			return wire.Frame{}, io.ErrClosedPipe
		case <-ctx.Done():
			return wire.Frame{}, context.Cause(ctx)
		}
	}
}

func (f *feed) pop() (wire.Frame, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.frames) == 0 {
		return wire.Frame{}, false
	}
	g := f.frames[0]
	f.frames[0] = wire.Frame{}
	f.frames = f.frames[1:]
	f.bytes -= len(g.Data)
	return g, true
}

// Close implements wire.Feed.
func (f *feed) Close() error {
	h := f.conn.hub
	h.mu.Lock()
	h.routes.remove(f.pattern, f)
	h.mu.Unlock()
	f.close()
	return nil
}

// routes is a tree of patterns, one level a token, so that publishing costs
// what matches and not what is subscribed.
type routes struct {
	next  map[string]*routes
	feeds []*feed
}

func (r *routes) add(pattern string, f *feed) {
	for t := range strings.SplitSeq(pattern, ".") {
		if r.next == nil {
			r.next = make(map[string]*routes)
		}
		n := r.next[t]
		if n == nil {
			n = &routes{}
			r.next[t] = n
		}
		r = n
	}
	r.feeds = append(r.feeds, f)
}

func (r *routes) remove(pattern string, f *feed) {
	t, rest, more := strings.Cut(pattern, ".")
	n := r.next[t]
	if n == nil {
		return
	}
	if more {
		n.remove(rest, f)
	} else if i := slices.Index(n.feeds, f); i >= 0 {
		n.feeds = slices.Delete(n.feeds, i, i+1)
	}
	if len(n.feeds) == 0 && len(n.next) == 0 {
		delete(r.next, t)
	}
}

// find returns the feeds that a message on subject goes to: all without a
// queue, and of each pattern's queue the one whose turn it is.
func (r *routes) find(subject string, turn uint64) []*feed {
	var found []*feed
	r.walk(subject, func(feeds []*feed) { found = pick(found, feeds, turn) })
	return found
}

func (r *routes) walk(subject string, visit func([]*feed)) {
	if n := r.next[">"]; n != nil {
		visit(n.feeds)
	}
	t, rest, more := strings.Cut(subject, ".")
	for _, key := range [...]string{t, "*"} {
		n := r.next[key]
		switch {
		case n == nil:
		case more:
			n.walk(rest, visit)
		default:
			visit(n.feeds)
		}
	}
}

func pick(found, feeds []*feed, turn uint64) []*feed {
	var queued []*feed
	for _, f := range feeds {
		if f.queue == "" {
			found = append(found, f)
		} else {
			queued = append(queued, f)
		}
	}
	for len(queued) > 0 {
		var same, others []*feed
		for _, f := range queued {
			if f.queue == queued[0].queue {
				same = append(same, f)
			} else {
				others = append(others, f)
			}
		}
		found = append(found, same[turn%uint64(len(same))])
		queued = others
	}
	return found
}
