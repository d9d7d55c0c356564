// Package memory carries messages and keeps logs in maps, goroutines and
// channels, for tests and simulations: it works in a testing/synctest bubble.
// It must not open sockets or files, and it keeps nothing beyond its Hub.
package memory

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/internal/wire"
)

// Hub is one carrier, to which any number of connections are made. In a
// bubble, make it inside. It enforces the same permissions as a NATS server
// that was set up by bus/creds. All its methods may be called concurrently.
type Hub struct {
	mu     sync.Mutex
	routes routes
	turn   uint64 // picks the next of a queue
	conns  uint64
	cut    map[bus.Identity]bool

	onDeliver func(from, to bus.Identity, m bus.Message) Fate
	onAppend  func(ctx context.Context, from bus.Identity, log string, record []byte) AppendFate

	logs   map[string]*records
	leases map[string]holding
	blobs  map[string]blob
}

// New returns an empty hub. It starts nothing.
func New() *Hub {
	return &Hub{
		cut:    make(map[bus.Identity]bool),
		logs:   make(map[string]*records),
		leases: make(map[string]holding),
		blobs:  make(map[string]blob),
	}
}

// Connect returns a connection. The caller closes it. An identity that is none
// yields a connection that is refused everything.
func (h *Hub) Connect(who bus.Identity) bus.Bus {
	h.mu.Lock()
	h.conns++
	id := strconv.FormatUint(h.conns, 36)
	h.mu.Unlock()
	l := &link{hub: h, who: who, perms: bus.PermissionsOf(who), replies: make(map[string]time.Time)}
	if who.Validate() != nil {
		l.perms = bus.Permissions{}
	}
	c := wire.New(wire.Config{Identity: who, Carrier: l, ID: id, Logger: slog.New(slog.DiscardHandler)})
	return &connection{Conn: c, hub: h, who: who}
}

// Fate is what becomes of a message on its way to one receiver. The zero Fate
// delivers it.
type Fate struct {
	Drop   bool
	Delay  time.Duration // later messages may overtake it
	Copies int           // extra deliveries; only plain messages are copied
}

// OnDeliver sets what decides about each delivery, requests, replies and
// stream frames included; nil delivers everything. f must not call the hub.
func (h *Hub) OnDeliver(f func(from, to bus.Identity, m bus.Message) Fate) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.onDeliver = f
}

// AppendFate is what becomes of an append.
type AppendFate int

// The fates of an append. All but Store answer ErrUnavailable.
const (
	Store     AppendFate = iota
	Lose                 // it is not stored
	LoseReply            // it is stored, if its expectation holds
)

// OnAppend sets what decides about each append; nil stores everything. f may
// block, which holds the append; it should heed ctx.
func (h *Hub) OnAppend(f func(ctx context.Context, from bus.Identity, log string, record []byte) AppendFate) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.onAppend = f
}

// Cut separates all connections of an identity from the hub, or joins them
// again: what they ask is ErrUnavailable, and messages to them are lost.
func (h *Hub) Cut(who bus.Identity, cut bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if cut {
		h.cut[who] = true
	} else {
		delete(h.cut, who)
	}
}

// connection is one client of the hub.
type connection struct {
	*wire.Conn
	hub *Hub
	who bus.Identity
}

// link is what a connection sends and receives frames through.
type link struct {
	hub   *Hub
	who   bus.Identity
	perms bus.Permissions

	// replies, guarded by hub.mu, holds where this connection may answer, and
	// until when.
	replies map[string]time.Time
}

// Close implements bus.Bus.
func (c *connection) Close() error {
	c.Conn.Close()
	return nil
}

// Publish implements wire.Carrier.
func (l *link) Publish(f wire.Frame) error {
	h := l.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cut[l.who] {
		return errCut
	}
	if !l.mayPublish(f.Subject) {
		return fmt.Errorf("%s may not publish there: %w", l.who, bus.ErrRefused)
	}
	feeds := h.routes.find(f.Subject, h.turn)
	h.turn++
	if len(feeds) == 0 && f.Reply != "" {
		for _, to := range h.routes.find(f.Reply, h.turn) {
			if to.conn != l {
				continue
			}
			to.push(wire.Frame{Subject: f.Reply, NoResponders: true})
		}
	}
	for _, to := range feeds {
		h.deliver(l.who, to, f)
	}
	return nil
}

// mayPublish also forgets permissions to answer that have run out.
func (l *link) mayPublish(subject string) bool {
	if l.perms.MayPublish(subject) {
		return true
	}
	until, ok := l.replies[subject]
	if ok && time.Now().After(until) {
		delete(l.replies, subject)
		return false
	}
	return ok
}

// deliver copies a frame to one receiver; h.mu must be held.
func (h *Hub) deliver(from bus.Identity, to *feed, f wire.Frame) {
	fate := Fate{}
	if h.onDeliver != nil {
		fate = h.onDeliver(from, to.conn.who, bus.Message{Subject: f.Subject, Header: f.Header, Data: f.Data})
	}
	if fate.Drop {
		return
	}
	copies := 1
	if f.Reply == "" && !to.inbox {
		copies += fate.Copies
	}
	for range copies {
		g := wire.Frame{Subject: f.Subject, Reply: f.Reply, Data: append([]byte{}, f.Data...)}
		if len(f.Header) > 0 {
			g.Header = make(bus.Header, len(f.Header))
			maps.Copy(g.Header, f.Header)
		}
		if fate.Delay <= 0 {
			h.arrive(to, g)
			continue
		}
		time.AfterFunc(fate.Delay, func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.arrive(to, g)
		})
	}
}

// arrive puts a frame into a feed; h.mu must be held.
func (h *Hub) arrive(to *feed, f wire.Frame) {
	if h.cut[to.conn.who] {
		return
	}
	if to.push(f) && to.conn.perms.Respond && f.Reply != "" {
		to.conn.allowReply(f.Reply)
	}
}

// maxReplies is above which permissions to answer that ran out are forgotten.
const maxReplies = 4096

func (l *link) allowReply(reply string) {
	now := time.Now()
	if len(l.replies) > maxReplies {
		for r, until := range l.replies {
			if now.After(until) {
				delete(l.replies, r)
			}
		}
	}
	l.replies[reply] = now.Add(bus.RespondFor)
}

// Flush implements wire.Carrier: frames arrive as they are published.
func (l *link) Flush(ctx context.Context) error {
	if err := wire.Unavailable(ctx.Err()); err != nil {
		return err
	}
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	if l.hub.cut[l.who] {
		return errCut
	}
	return nil
}

var errCut = fmt.Errorf("cut off: %w", bus.ErrUnavailable)

// reach tells whether the hub answers now.
func (c *connection) reach(ctx context.Context) error {
	if err := wire.Unavailable(ctx.Err()); err != nil {
		return err
	}
	select {
	case <-c.Done():
		return fmt.Errorf("connection is closed: %w", bus.ErrUnavailable)
	default:
	}
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	if c.hub.cut[c.who] {
		return errCut
	}
	return nil
}

// reachCore is reach for what only a core may use.
func (c *connection) reachCore(ctx context.Context) error {
	if c.who.Role != bus.RoleCore || c.who.Validate() != nil {
		return fmt.Errorf("%s is no core: %w", c.who, bus.ErrRefused)
	}
	return c.reach(ctx)
}
