package wire

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/weftrun/weft/bus"
)

// Open implements bus.Streams.
func (c *Conn) Open(ctx context.Context, m bus.Message) (bus.Stream, error) {
	s, err := c.open(ctx, m)
	if err != nil {
		if _, ok := errors.AsType[*bus.CallError](err); ok {
			return nil, err
		}
		return nil, fmt.Errorf("open stream %s: %w", m.Subject, err)
	}
	return s, nil
}

func (c *Conn) open(ctx context.Context, m bus.Message) (*stream, error) {
	if err := c.checkSend(ctx, m); err != nil {
		return nil, err
	}
	if err := c.listen(c.inbox + ">"); err != nil {
		return nil, err
	}
	c.mu.Lock()
	in := c.inbox + c.token()
	c.mu.Unlock()
	reply := ""
	if strings.HasPrefix(m.Subject, nodePrefix) {
		reply = in // renews the node's permission to answer
	}
	s, err := c.newStream(m.Subject, in, "", reply, func() {})
	if err != nil {
		return nil, err
	}
	header := bus.Header{headerStream: "1"}
	maps.Copy(header, m.Header)
	if err := c.config.Carrier.Publish(Frame{Subject: m.Subject, Reply: in, Header: header, Data: m.Data}); err != nil {
		s.fail(err)
		return nil, err
	}
	if err := s.awaitAccept(ctx); err != nil {
		s.fail(err)
		return nil, err
	}
	return s, nil
}

// awaitAccept waits for the acceptor's first frame.
func (s *stream) awaitAccept(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.fail(Unavailable(context.Cause(ctx))) })
	s.mu.Lock()
	for s.accepted == "" && s.broken == nil && !s.closed {
		s.changed.Wait()
	}
	accepted, broken, closed := s.accepted, s.broken, s.closed
	s.mu.Unlock()
	if !stop() && broken == nil {
		broken = Unavailable(context.Cause(ctx))
	}
	switch {
	case broken != nil:
		return broken
	case closed:
		return errClosed
	case !s.conn.acceptorBelongs(s.subject, accepted):
		// Else a node could make a core publish wherever it likes.
		return fmt.Errorf("the acceptor wants frames on %q, which is not its own: %w", accepted, bus.ErrRefused)
	}
	s.sending.Lock()
	s.out = accepted
	s.sending.Unlock()
	return nil
}

// acceptorBelongs tells whether a subject belongs to whoever may accept
// streams on the request's subject.
func (c *Conn) acceptorBelongs(request, accepted string) bool {
	if bus.CheckSubject(accepted, false) != nil {
		return false
	}
	own := c.config.Identity
	if own.Role != bus.RoleCore {
		return strings.HasPrefix(accepted, frames(own))
	}
	if rest, ok := strings.CutPrefix(request, nodePrefix); ok {
		node, _, _ := strings.Cut(rest, ".")
		return strings.HasPrefix(accepted, "_INBOX."+string(bus.RoleNode)+"."+node+".")
	}
	return strings.HasPrefix(accepted, "_INBOX."+string(bus.RoleCore)+".")
}

// frames is the prefix of the subjects on which an identity that is no core
// sends the frames of streams that it opened.
func frames(who bus.Identity) string {
	return apiPrefix + string(who.Role) + "." + bus.Escape(who.Name) + "." + streamMethod + "."
}

// Accept implements bus.Streams.
func (c *Conn) Accept(ctx context.Context, pattern string, handle bus.StreamHandler) (bus.Subscription, error) {
	s, err := c.subscribe(ctx, pattern, queueName)
	if err != nil {
		return nil, err
	}
	s.requests(pattern, func(ctx context.Context, f Frame) {
		if _, ok := f.Header[headerStream]; !ok {
			c.refuse(f, "a stream is accepted here, not a call")
			return
		}
		delete(f.Header, headerStream)
		if len(f.Header) == 0 {
			f.Header = nil
		}
		if err := c.accept(ctx, f, handle); err != nil {
			c.config.Logger.Warn("could not accept a stream", "subject", f.Subject, "err", err)
		}
	})
	return s, nil
}

func (c *Conn) accept(ctx context.Context, f Frame, handle bus.StreamHandler) error {
	prefix, pattern := c.inbox, c.inbox+">"
	if caller := bus.SubjectCaller(f.Subject); caller.Role != bus.RoleCore {
		prefix = frames(caller) + c.config.ID + "."
		pattern = apiPrefix + "*.*." + streamMethod + "." + c.config.ID + ".*"
	}
	if err := c.listen(pattern); err != nil {
		return err
	}
	c.mu.Lock()
	in := prefix + c.token()
	c.mu.Unlock()
	handlerCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := c.newStream(f.Subject, in, f.Reply, "", cancel)
	if err != nil {
		return err
	}
	// A handler that blocks in Read or Write ends with its subscription.
	defer context.AfterFunc(ctx, func() {
		s.fail(fmt.Errorf("stream %s: %w", f.Subject, Unavailable(context.Cause(ctx))))
	})()
	if err := s.send(opAccept, []byte(in)); err != nil {
		s.fail(err)
		return err
	}
	err = handle(handlerCtx, bus.Message{Subject: f.Subject, Header: f.Header, Data: f.Data}, s)
	if err == nil {
		return s.Close()
	}
	reason := err.Error()
	return s.closeWith(opFail, []byte(reason[:min(len(reason), maxReason)]))
}
