package wire

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/weftrun/weft/bus"
)

const (
	window    = 256 << 10 // bytes that a writer may be ahead of the reader
	chunk     = 64 << 10  // bytes of data in a frame, at most
	pingEach  = 8 * time.Second
	silentFor = 24 * time.Second // a peer that was not heard for so long is gone
)

// The frames of a stream: one byte of these, the frame's number as a varint,
// and the content. Numbers start from 1 in each direction, so that a lost
// frame is noticed by the next one, a ping at the latest.
const (
	opAccept byte = 'A' // acceptor's first: the subject on which it receives
	opData   byte = 'D' // bytes
	opWindow byte = 'W' // varint: all bytes read so far
	opFinish byte = 'F' // no more data will come
	opClose  byte = 'C' // no more data will come or be read
	opFail   byte = 'E' // the same, because of an error with this text
	opPing   byte = 'P'
)

// stream is one end. Locks nest in this order: sending, mu.
type stream struct {
	conn    *Conn
	subject string // of the request, for errors
	in      string // where this end receives
	reply   string // sent along, so that the peer may go on to answer; or empty
	ended   func() // called once when the peer closed or failed

	sending sync.Mutex // keeps numbers and frames in one order
	out     string     // where the peer receives; empty until known
	number  uint64     // of the last frame sent
	frame   []byte     // is reused

	mu       sync.Mutex
	changed  sync.Cond
	expected uint64 // number of the next frame to come
	heard    time.Time
	accepted string   // content of opAccept
	received [][]byte // not read yet
	buffered int      // bytes in received
	read     uint64   // bytes read so far
	granted  uint64   // what the peer was last told of read
	written  uint64   // bytes written so far
	taken    uint64   // bytes that the peer has read
	eof      bool     // the peer writes no more
	gone     bool     // the peer reads no more
	reason   error    // what Read returns after received, instead of io.EOF
	broken   error    // what everything returns at once
	finished bool     // CloseWrite was called
	closed   bool     // Close was called
}

// newStream registers a stream that receives on in.
func (c *Conn) newStream(subject, in, out, reply string, ended func()) (*stream, error) {
	s := &stream{conn: c, subject: subject, in: in, out: out, reply: reply, ended: sync.OnceFunc(ended), expected: 1, heard: time.Now()}
	s.changed.L = &s.mu
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	c.streams[in] = s
	if !c.keeping {
		c.keeping = true
		c.workers.Go(c.keepAlive)
	}
	return s, nil
}

func (s *stream) unregister() {
	s.conn.mu.Lock()
	delete(s.conn.streams, s.in)
	s.conn.mu.Unlock()
}

// send numbers and publishes a frame.
func (s *stream) send(op byte, content []byte) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	if s.out == "" {
		return nil // an opener that gives up before the acceptor answered
	}
	s.number++
	s.frame = append(s.frame[:0], op)
	s.frame = binary.AppendUvarint(s.frame, s.number)
	s.frame = append(s.frame, content...)
	return s.conn.config.Carrier.Publish(Frame{Subject: s.out, Reply: s.reply, Data: s.frame})
}

// receive takes one frame from the peer; it never blocks.
func (s *stream) receive(f Frame) {
	if f.NoResponders || f.Header != nil {
		s.refused(f)
		return
	}
	if len(f.Data) < 2 {
		s.fail(fmt.Errorf("stream %s: a frame of %d bytes is none: %w", s.subject, len(f.Data), bus.ErrUnavailable))
		return
	}
	number, n := binary.Uvarint(f.Data[1:])
	if n <= 0 {
		s.fail(fmt.Errorf("stream %s: a frame without number: %w", s.subject, bus.ErrUnavailable))
		return
	}
	s.mu.Lock()
	if number < s.expected {
		s.mu.Unlock()
		return // a carrier's duplicate
	}
	if number > s.expected {
		s.mu.Unlock()
		s.fail(fmt.Errorf("stream %s: frames were lost: %w", s.subject, bus.ErrUnavailable))
		return
	}
	s.expected++
	s.heard = time.Now()
	err := s.take(f.Data[0], f.Data[1+n:])
	s.changed.Broadcast()
	gone := s.gone
	s.mu.Unlock()
	if err != nil {
		s.fail(fmt.Errorf("stream %s: %w", s.subject, err))
	}
	if gone {
		s.ended()
	}
}

// refused takes what came instead of a frame.
func (s *stream) refused(f Frame) {
	s.mu.Lock()
	opened := s.accepted != ""
	s.mu.Unlock()
	err := answerError(s.subject, f)
	switch {
	case opened && f.NoResponders:
		s.fail(fmt.Errorf("stream %s: the peer is gone: %w", s.subject, bus.ErrUnavailable))
	case !opened && err != nil:
		s.fail(err)
	}
}

// take applies a frame; s.mu must be held.
func (s *stream) take(op byte, content []byte) error {
	switch op {
	case opAccept:
		s.accepted = string(content)
	case opData:
		if s.buffered += len(content); s.buffered > window || s.eof {
			return fmt.Errorf("the peer ignores the window: %w", bus.ErrUnavailable)
		}
		if len(content) > 0 && !s.closed {
			s.received = append(s.received, content)
		}
	case opWindow:
		taken, n := binary.Uvarint(content)
		if n <= 0 || taken < s.taken || taken > s.written {
			return fmt.Errorf("the peer read what was not written: %w", bus.ErrUnavailable)
		}
		s.taken = taken
	case opFinish:
		s.eof = true
	case opClose:
		s.eof, s.gone = true, true
	case opFail:
		s.eof, s.gone, s.reason = true, true, &bus.CallError{Subject: s.subject, Reason: string(content)}
	case opPing:
	default:
		return fmt.Errorf("frame of unknown kind %q: %w", op, bus.ErrUnavailable)
	}
	return nil
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	for {
		if err := s.readError(); err != nil {
			s.mu.Unlock()
			return 0, err
		}
		if len(s.received) > 0 {
			break
		}
		if s.eof {
			err := s.reason
			if err == nil {
				err = io.EOF
			}
			s.mu.Unlock()
			return 0, err
		}
		if len(p) == 0 {
			s.mu.Unlock()
			return 0, nil
		}
		s.changed.Wait()
	}
	n := s.fill(p)
	grant := uint64(0)
	if s.read-s.granted >= window/4 && !s.eof {
		s.granted = s.read
		grant = s.read
	}
	s.mu.Unlock()
	if grant == 0 {
		return n, nil
	}
	if err := s.send(opWindow, binary.AppendUvarint(nil, grant)); err != nil {
		s.fail(fmt.Errorf("stream %s: %w", s.subject, err))
	}
	return n, nil
}

func (s *stream) readError() error {
	if s.closed {
		return fmt.Errorf("stream %s: read: %w", s.subject, io.ErrClosedPipe)
	}
	return s.broken
}

// fill moves received bytes to p; s.mu must be held.
func (s *stream) fill(p []byte) int {
	n := 0
	for n < len(p) && len(s.received) > 0 {
		k := copy(p[n:], s.received[0])
		n += k
		if k == len(s.received[0]) {
			s.received[0] = nil
			s.received = s.received[1:]
		} else {
			s.received[0] = s.received[0][k:]
		}
	}
	s.buffered -= n
	s.read += uint64(n)
	return n
}

// Write implements io.Writer.
func (s *stream) Write(p []byte) (int, error) {
	done := 0
	for {
		n, err := s.reserve(len(p) - done)
		if err != nil {
			return done, err
		}
		if n > 0 {
			if err := s.send(opData, p[done:done+n]); err != nil {
				err = fmt.Errorf("stream %s: %w", s.subject, err)
				s.fail(err)
				return done, err
			}
		}
		if done += n; done == len(p) {
			return done, nil
		}
	}
}

// reserve waits until some of want bytes fit into the peer's window.
func (s *stream) reserve(want int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.broken != nil:
			return 0, s.broken
		case s.closed || s.finished || s.gone:
			return 0, fmt.Errorf("stream %s: write: %w", s.subject, io.ErrClosedPipe)
		}
		free := int(s.taken + window - s.written)
		if n := min(want, chunk, free); n > 0 || want == 0 {
			s.written += uint64(n)
			return n, nil
		}
		s.changed.Wait()
	}
}

// CloseWrite implements bus.Stream.
func (s *stream) CloseWrite() error {
	s.mu.Lock()
	if s.broken != nil || s.closed || s.finished || s.gone {
		err := s.broken
		s.mu.Unlock()
		return err
	}
	s.finished = true
	s.mu.Unlock()
	return s.send(opFinish, nil)
}

// Close implements io.Closer.
func (s *stream) Close() error { return s.closeWith(opClose, nil) }

// closeWith ends the stream and tells the peer.
func (s *stream) closeWith(op byte, reason []byte) error {
	s.mu.Lock()
	first, broken := !s.closed, s.broken
	s.closed = true
	s.received = nil
	s.changed.Broadcast()
	s.mu.Unlock()
	if !first {
		return nil
	}
	s.unregister()
	s.ended()
	if broken != nil {
		return nil // there is nobody to tell
	}
	return s.send(op, reason)
}

// fail ends the stream because the peer, the carrier or whoever served it is
// gone, and tells the peer if it can be told.
func (s *stream) fail(err error) {
	s.mu.Lock()
	first, gone := s.broken == nil && !s.closed, s.gone
	if first {
		s.broken = err
	}
	s.changed.Broadcast()
	s.mu.Unlock()
	s.unregister()
	s.ended()
	if first && !gone {
		reason := err.Error()
		_ = s.send(opFail, []byte(reason[:min(len(reason), maxReason)])) // a peer that hears nothing notices the silence
	}
}

func (s *stream) keepAlive() {
	s.mu.Lock()
	silent, gone := time.Since(s.heard), s.gone
	s.mu.Unlock()
	switch {
	case gone: // it has said goodbye; what it wrote may still be read
	case silent >= silentFor:
		s.fail(fmt.Errorf("stream %s: the peer was not heard for %s: %w", s.subject, silentFor, bus.ErrUnavailable))
	default:
		if err := s.send(opPing, nil); err != nil {
			s.fail(fmt.Errorf("stream %s: %w", s.subject, err))
		}
	}
}
