package executor

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weftrun/weft/wasm"
)

// protocol is the version of the wire. Fields and operations are only ever
// added to it. Both sides say theirs in their hello; a side that lacks what the
// other could do is not asked for it.
const (
	protocol   = 2
	slotsSince = 2 // opSlots
	quitSince  = 2 // opQuit
)

const (
	maxFrame   = 8 << 20  // bytes of one frame
	maxPending = 64 << 20 // bytes that wait for a peer that does not read
)

// op says what a message asks for.
type op string

const (
	opHello     op = "hello"
	opPing      op = "ping"
	opPrepare   op = "prepare"
	opOpen      op = "open"
	opSandboxes op = "sandboxes"
	opClose     op = "close"
	opStart     op = "start"
	opInstances op = "instances"
	opStop      op = "stop"
	opKill      op = "kill"
	opUsage     op = "usage"
	opUsages    op = "usages"
	opRelease   op = "release"
	opSlots     op = "slots"
	opQuit      op = "quit"
	opEnded     op = "ended" // an event
)

// message is a request, a reply or an event; each uses what it needs.
type message struct {
	ID       uint64 `json:"id,omitempty"`
	Op       op     `json:"op,omitempty"`
	Nonce    string `json:"nonce,omitempty"`
	Version  int    `json:"version,omitempty"`
	Sandbox  string `json:"sandbox,omitempty"`
	Hostname string `json:"hostname,omitempty"`
	Instance string `json:"instance,omitempty"`
	Digest   string `json:"digest,omitempty"`
	Path     string `json:"path,omitempty"`
	// Apart: answer that a module is not compiled rather than compile it.
	Apart   bool          `json:"apart,omitempty"`
	Program *wasm.Program `json:"program,omitempty"`
	Grace   time.Duration `json:"grace,omitempty"`

	Slots     int         `json:"slots,omitempty"`
	Hot       int         `json:"hot,omitempty"` // guests that want a slot
	MinMemory int64       `json:"minMemory,omitempty"`
	IDs       []string    `json:"ids,omitempty"`
	States    []state     `json:"states,omitempty"`
	Usage     *wasm.Usage `json:"usage,omitempty"`
	Usages    []byte      `json:"usages,omitempty"` // see appendUsages
	Error     *wireError  `json:"error,omitempty"`
}

// state is what the child knows of an instance.
type state struct {
	Sandbox   string     `json:"sandbox"`
	ID        string     `json:"id"`
	StartedAt time.Time  `json:"startedAt"`
	Exit      *wasm.Exit `json:"exit,omitempty"`
}

// wireError is an error with the sentinel that it wraps, which unwraps again on
// the other side.
type wireError struct {
	Kind string `json:"kind,omitempty"`
	Text string `json:"text"`
}

var sentinels = [...]struct {
	kind string
	err  error
}{
	{"invalid", wasm.ErrInvalidModule},
	{"limits", wasm.ErrLimits},
	{"gone", wasm.ErrGone},
	{"not-compiled", wasm.ErrNotCompiled},
}

func toWire(err error) *wireError {
	if err == nil {
		return nil
	}
	e := &wireError{Text: err.Error()}
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			e.Kind = s.kind
			break
		}
	}
	return e
}

func (e *wireError) Error() string { return e.Text }

func (e *wireError) Unwrap() error {
	for _, s := range sentinels {
		if s.kind == e.Kind {
			return s.err
		}
	}
	return nil
}

// conn frames messages. send may be called concurrently, the loops once each.
type conn struct {
	net  net.Conn
	born time.Time
	seen atomic.Int64 // when the last frame came, in nanoseconds since born: no wall clock, which may jump
	wake chan struct{}

	mu      sync.Mutex
	pending []byte
	closed  bool
}

func newConn(c net.Conn) *conn {
	cn := &conn{net: c, born: time.Now(), wake: make(chan struct{}, 1)} // 1: a wake-up is not lost
	return cn
}

// silence returns for how long nothing has come.
func (c *conn) silence() time.Duration {
	return time.Since(c.born) - time.Duration(c.seen.Load())
}

// send queues m. Its order is that of the calls.
func (c *conn) send(m *message) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode %s: %w", m.Op, err)
	}
	if len(b) > maxFrame {
		return fmt.Errorf("encode %s: a frame of %d bytes; at most %d are allowed", m.Op, len(b), maxFrame)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.pending)+len(b) > maxPending {
		c.closeLocked()
		return net.ErrClosed
	}
	c.pending = binary.BigEndian.AppendUint32(c.pending, uint32(len(b)))
	c.pending = append(c.pending, b...)
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

func (c *conn) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeLocked()
}

func (c *conn) closeLocked() {
	if c.closed {
		return
	}
	c.closed = true
	_ = c.net.Close() // the peer sees an end either way
	close(c.wake)
}

// writeLoop writes what is queued until the connection closes.
func (c *conn) writeLoop() {
	var spare []byte
	for range c.wake {
		c.mu.Lock()
		out := c.pending
		c.pending = spare[:0]
		c.mu.Unlock()
		if _, err := c.net.Write(out); err != nil {
			c.close()
			return
		}
		if spare = out; cap(spare) > 1<<20 {
			spare = nil
		}
	}
}

// readLoop calls handle for each message, in order, until the connection ends
// or handle returns an error.
func (c *conn) readLoop(handle func(*message) error) error {
	r := bufio.NewReaderSize(c.net, 32<<10)
	var buf []byte
	for {
		m, err := readMessage(r, &buf)
		if err != nil {
			return err
		}
		c.seen.Store(int64(time.Since(c.born)))
		if err := handle(m); err != nil {
			return err
		}
	}
}

// readMessage reads one frame. buf is memory to use again.
func readMessage(r io.Reader, buf *[]byte) (*message, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(head[:]))
	if n > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes; at most %d are allowed", n, maxFrame)
	}
	if cap(*buf) < n {
		*buf = make([]byte, n)
	}
	b := (*buf)[:n]
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	m := new(message)
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("decode frame: %w", err)
	}
	if n > 64<<10 {
		*buf = nil // a rare large frame must not stay
	}
	return m, nil
}
