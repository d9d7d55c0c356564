package wire

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/weftrun/weft/bus"
)

// subscription runs the handlers of one pattern.
type subscription struct {
	conn   *Conn
	feed   Feed
	ctx    context.Context // of the handlers
	cancel context.CancelFunc
	slots  chan struct{} // holds one element for each handler that runs
	work   sync.WaitGroup

	mu       sync.Mutex
	handlers map[string]struct{} // goroutines that run a handler
}

// Subscribe implements bus.PubSub.
func (c *Conn) Subscribe(ctx context.Context, pattern string, handle func(bus.Message)) (bus.Subscription, error) {
	s, err := c.subscribe(ctx, pattern, "")
	if err != nil {
		return nil, err
	}
	s.run(func() {
		defer s.enter()()
		for {
			f, err := s.feed.Next(s.ctx)
			if err != nil {
				return
			}
			if bus.Covers(pattern, f.Subject) && s.ctx.Err() == nil {
				handle(bus.Message{Subject: f.Subject, Header: f.Header, Data: f.Data})
			}
		}
	})
	return s, nil
}

func (c *Conn) subscribe(ctx context.Context, pattern, queue string) (*subscription, error) {
	err := c.check(ctx)
	if err == nil {
		err = bus.CheckSubject(pattern, true)
	}
	if err == nil && !c.perms.MaySubscribe(pattern) {
		err = fmt.Errorf("%s may not subscribe there: %w", c.config.Identity, bus.ErrRefused)
	}
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", pattern, err)
	}
	feed, err := c.config.Carrier.Subscribe(pattern, queue, handlerLimits)
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", pattern, err)
	}
	if err := c.config.Carrier.Flush(ctx); err != nil {
		_ = feed.Close() // the first error counts
		return nil, fmt.Errorf("subscribe to %s: %w", pattern, err)
	}
	s := &subscription{conn: c, feed: feed, slots: make(chan struct{}, bus.MaxHandlers), handlers: make(map[string]struct{})}
	s.ctx, s.cancel = context.WithCancel(c.ctx)
	c.mu.Lock()
	closed := c.closed
	if !closed {
		c.subs[s] = struct{}{}
	}
	c.mu.Unlock()
	if closed {
		s.stop()
		return nil, fmt.Errorf("subscribe to %s: %w", pattern, errClosed)
	}
	return s, nil
}

func (s *subscription) run(loop func()) { s.work.Go(loop) }

// requests runs handle for each legitimate request, at most bus.MaxHandlers at
// once.
func (s *subscription) requests(pattern string, handle func(ctx context.Context, f Frame)) {
	s.run(func() {
		for {
			f, err := s.feed.Next(s.ctx)
			if err != nil {
				return
			}
			if !s.legitimate(pattern, f) {
				continue
			}
			select {
			case s.slots <- struct{}{}:
			case <-s.ctx.Done():
				return
			}
			s.work.Go(func() {
				defer func() { <-s.slots }()
				defer s.enter()()
				handle(bus.WithCaller(s.ctx, bus.SubjectCaller(f.Subject)), f)
			})
		}
	})
}

// legitimate refuses what may make this connection publish, with its own
// rights, on a subject that the caller could not.
func (s *subscription) legitimate(pattern string, f Frame) bool {
	if !bus.Covers(pattern, f.Subject) || isStreamFrame(f.Subject) {
		return false
	}
	if !bus.ReplyBelongs(f.Subject, f.Reply) || bus.CheckSubject(f.Reply, false) != nil {
		s.conn.config.Logger.Warn("refused a request: the reply subject is not the caller's",
			"subject", f.Subject, "reply", f.Reply)
		return false
	}
	return true
}

func isStreamFrame(subject string) bool {
	rest, ok := strings.CutPrefix(subject, apiPrefix)
	if !ok {
		return false
	}
	t := strings.SplitN(rest, ".", 4)
	return len(t) == 4 && t[2] == streamMethod
}

// Close implements bus.Subscription.
func (s *subscription) Close() error {
	s.stop()
	// Else a request sent after Close could still come here, to be lost.
	ctx, cancel := context.WithTimeout(s.conn.ctx, unsubscribeWithin)
	defer cancel()
	_ = s.conn.config.Carrier.Flush(ctx) // a broken connection has no interests
	s.wait()
	return nil
}

// unsubscribeWithin bounds how long Close waits for the carrier.
const unsubscribeWithin = time.Second

func (s *subscription) stop() {
	s.cancel()
	_ = s.feed.Close() // its only error is that it is closed
	s.conn.mu.Lock()
	delete(s.conn.subs, s)
	s.conn.mu.Unlock()
}

// wait returns when no handler runs, or at once when a handler calls it.
func (s *subscription) wait() {
	s.mu.Lock()
	_, own := s.handlers[goroutine()]
	s.mu.Unlock()
	if !own {
		s.work.Wait()
	}
}

// enter notes that this goroutine runs a handler, until the function that it
// returns is called.
func (s *subscription) enter() func() {
	id := goroutine()
	s.mu.Lock()
	s.handlers[id] = struct{}{}
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		delete(s.handlers, id)
		s.mu.Unlock()
	}
}

// goroutine names the running goroutine. A handler that closes its own
// subscription must not wait for itself, and nothing but this tells that it is
// the caller.
func goroutine() string {
	var buf [40]byte // "goroutine 123 ["
	line := buf[:runtime.Stack(buf[:], false)]
	line, _, _ = bytes.Cut(line, []byte(" ["))
	return string(line)
}
