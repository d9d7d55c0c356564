// Package wire builds publish/subscribe, calls and flow-controlled streams, as
// package bus describes them, on the little that any carrier offers: frames
// with a reply subject. It must not know which carrier that is; what it checks
// for the sake of a clear error, the carrier enforces.
package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weftrun/weft/bus"
)

// Frame is a message as carriers move it.
type Frame struct {
	Subject string
	Reply   string
	Header  bus.Header
	Data    []byte
	// NoResponders marks what a carrier answers when nobody listens.
	NoResponders bool
}

// Carrier moves frames, at most once, in order from one publisher to one feed.
type Carrier interface {
	// Publish copies what it keeps. Its errors wrap the sentinels of bus.
	Publish(f Frame) error
	// Subscribe returns frames that match pattern; of the feeds with the same
	// pattern and the same queue, if not empty, one receives each frame. The
	// interest holds for what this connection publishes afterwards, and for
	// what others do after a Flush.
	Subscribe(pattern, queue string, limits Limits) (Feed, error)
	// Flush returns when all that was published and subscribed was taken.
	Flush(ctx context.Context) error
}

// Feed is a bounded queue of received frames.
type Feed interface {
	// Next waits for a frame, and returns an error when ctx or the feed ended.
	Next(ctx context.Context) (Frame, error)
	// Close ends the interest; it may be called more than once.
	Close() error
}

// Limits bound a feed: above them the newest frames are dropped.
type Limits struct{ Messages, Bytes int }

var (
	// handlerLimits bound what waits for a handler.
	handlerLimits = Limits{Messages: 64 << 10, Bytes: 64 << 20}
	// inboxLimits bound what waits for the loop that sorts replies and stream
	// frames; that loop never blocks, and streams hold a window each at most.
	inboxLimits = Limits{Messages: 1 << 20, Bytes: 512 << 20}
)

const (
	headerError  = "Weft-Error"  // in a reply: Data is the reason
	headerStream = "Weft-Stream" // in a request: it opens a stream
	reserved     = "Weft-"
	queueName    = "weft"
	// streamMethod is the token that marks frames to the acceptor of a stream
	// below the opener's own api prefix. Methods never begin with "_".
	streamMethod = "_stream"
	apiPrefix    = "weft.v1.api."
	nodePrefix   = "weft.v1.node."
)

// Config configures a Conn. All fields are required, except MaxPayload.
type Config struct {
	Identity bus.Identity
	Carrier  Carrier
	// ID is one subject token, unique among all connections.
	ID     string
	Logger *slog.Logger
	// MaxPayload limits messages in bytes; bus.MaxPayload by default.
	MaxPayload int
}

// Conn implements bus.PubSub, bus.Calls and bus.Streams. It starts goroutines
// only for what is subscribed, called or opened; Close waits for them.
type Conn struct {
	config  Config
	perms   bus.Permissions
	inbox   string // prefix of the replies to this connection, with final dot
	done    chan struct{}
	ctx     context.Context // ends with the connection
	cancel  context.CancelCauseFunc
	workers sync.WaitGroup // inbox loops and the keep-alive

	mu      sync.Mutex
	closed  bool
	next    uint64
	subs    map[*subscription]struct{}
	inboxes map[string]Feed       // by pattern
	calls   map[string]chan Frame // by reply subject
	streams map[string]*stream    // by the subject they receive on
	keeping bool
}

// New returns a connection over a carrier.
func New(c Config) *Conn {
	if c.MaxPayload == 0 {
		c.MaxPayload = bus.MaxPayload
	}
	conn := &Conn{
		config:  c,
		perms:   bus.PermissionsOf(c.Identity),
		inbox:   c.Identity.Inbox() + "." + c.ID + ".",
		done:    make(chan struct{}),
		subs:    make(map[*subscription]struct{}),
		inboxes: make(map[string]Feed),
		calls:   make(map[string]chan Frame),
		streams: make(map[string]*stream),
	}
	conn.ctx, conn.cancel = context.WithCancelCause(context.Background()) //nolint:forbidigo // the connection outlives the call that made it
	return conn
}

var errClosed = fmt.Errorf("connection is closed: %w", bus.ErrUnavailable)

// Identity returns who the connection is.
func (c *Conn) Identity() bus.Identity { return c.config.Identity }

// Done is closed when Lost or Close was called.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Lost ends everything because the carrier is gone; it waits for nothing.
func (c *Conn) Lost() {
	c.mu.Lock()
	first := !c.closed
	c.closed = true
	var feeds []Feed
	for _, f := range c.inboxes {
		feeds = append(feeds, f)
	}
	var subs []*subscription
	for s := range c.subs {
		subs = append(subs, s)
	}
	var streams []*stream
	for _, s := range c.streams {
		streams = append(streams, s)
	}
	c.mu.Unlock()
	if !first {
		return
	}
	for _, s := range streams {
		s.fail(errClosed)
	}
	c.cancel(errClosed)
	for _, f := range feeds {
		_ = f.Close() // the connection ends anyway
	}
	for _, s := range subs {
		s.stop()
	}
	close(c.done)
}

// Close ends everything and waits for the handlers that run, unless it is
// called by one of them.
func (c *Conn) Close() {
	c.mu.Lock()
	subs := make([]*subscription, 0, len(c.subs))
	for s := range c.subs {
		subs = append(subs, s)
	}
	streams := make([]*stream, 0, len(c.streams))
	for _, s := range c.streams {
		streams = append(streams, s)
	}
	c.mu.Unlock()
	for _, s := range streams {
		s.fail(errClosed) // tells the peer that this is no regular end
	}
	c.Lost()
	for _, s := range subs {
		s.wait()
	}
	c.workers.Wait()
}

// Publish implements bus.PubSub.
func (c *Conn) Publish(ctx context.Context, m bus.Message) error {
	if err := c.checkSend(ctx, m); err != nil {
		return fmt.Errorf("publish on %s: %w", m.Subject, err)
	}
	if err := c.config.Carrier.Publish(Frame{Subject: m.Subject, Header: m.Header, Data: m.Data}); err != nil {
		return fmt.Errorf("publish on %s: %w", m.Subject, err)
	}
	return nil
}

// Flush implements bus.PubSub.
func (c *Conn) Flush(ctx context.Context) error {
	if err := c.check(ctx); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	if err := c.config.Carrier.Flush(ctx); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return nil
}

func (c *Conn) check(ctx context.Context) error {
	select {
	case <-c.done:
		return errClosed
	default:
	}
	return Unavailable(ctx.Err())
}

func (c *Conn) checkSend(ctx context.Context, m bus.Message) error {
	if err := c.check(ctx); err != nil {
		return err
	}
	if err := bus.CheckSubject(m.Subject, false); err != nil {
		return err
	}
	if !c.perms.MayPublish(m.Subject) {
		return fmt.Errorf("%s may not publish there: %w", c.config.Identity, bus.ErrRefused)
	}
	size := len(m.Data)
	for k, v := range m.Header {
		if err := checkHeader(k, v); err != nil {
			return err
		}
		size += len(k) + len(v) + len(": \r\n")
	}
	if limit := c.config.MaxPayload - bus.HeaderRoom; size > limit {
		return fmt.Errorf("%d bytes with headers are more than %d: %w", size, limit, bus.ErrRefused)
	}
	return nil
}

func checkHeader(key, value string) error {
	switch {
	case key == "" || strings.ContainsAny(key, ": \t\r\n\x00"):
		return fmt.Errorf("header %q: the key must not be empty nor hold colons or white space: %w", key, bus.ErrRefused)
	case strings.HasPrefix(key, reserved) || strings.HasPrefix(key, "Nats-") || key == "Status" || key == "Description":
		return fmt.Errorf("header %q: the key is reserved: %w", key, bus.ErrRefused)
	case strings.ContainsAny(value, "\r\n\x00") || strings.TrimSpace(value) != value:
		return fmt.Errorf("header %q: the value must not hold line breaks nor begin or end with white space: %w", key, bus.ErrRefused)
	}
	return nil
}

// Unavailable turns the error of a context into ErrUnavailable that still
// wraps it; nil stays nil.
func Unavailable(err error) error {
	if err == nil || errors.Is(err, bus.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", bus.ErrUnavailable, err)
}

// token returns the next name for a reply subject; c.mu must be held.
func (c *Conn) token() string {
	c.next++
	return strconv.FormatUint(c.next, 36)
}

// listen makes sure that frames on pattern reach calls and streams.
func (c *Conn) listen(pattern string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	if c.inboxes[pattern] != nil {
		return nil
	}
	feed, err := c.config.Carrier.Subscribe(pattern, "", inboxLimits)
	if err != nil {
		return err
	}
	c.inboxes[pattern] = feed
	c.workers.Go(func() { c.sort(feed) })
	return nil
}

// sort hands replies and stream frames to whom they belong, by the subject
// they came on: a frame that some server delivered here with another subject
// belongs to nobody.
func (c *Conn) sort(feed Feed) {
	for {
		f, err := feed.Next(c.ctx)
		if err != nil {
			return
		}
		c.mu.Lock()
		call, s := c.calls[f.Subject], c.streams[f.Subject]
		if call != nil {
			delete(c.calls, f.Subject)
		}
		c.mu.Unlock()
		switch {
		case call != nil:
			call <- f // it has room for the one frame that is ever sent
		case s != nil:
			s.receive(f)
		}
	}
}

// keepAlive watches over the streams until there are none.
func (c *Conn) keepAlive() {
	tick := time.NewTicker(pingEach)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-tick.C:
		}
		c.mu.Lock()
		streams := make([]*stream, 0, len(c.streams))
		for _, s := range c.streams {
			streams = append(streams, s)
		}
		if len(streams) == 0 {
			c.keeping = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		for _, s := range streams {
			s.keepAlive()
		}
	}
}
