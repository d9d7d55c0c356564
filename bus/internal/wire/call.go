package wire

import (
	"context"
	"errors"
	"fmt"

	"github.com/weftrun/weft/bus"
)

// Call implements bus.Calls.
func (c *Conn) Call(ctx context.Context, m bus.Message) (bus.Message, error) {
	f, err := c.call(ctx, m)
	if err != nil {
		if _, ok := errors.AsType[*bus.CallError](err); ok {
			return bus.Message{}, err
		}
		return bus.Message{}, fmt.Errorf("call %s: %w", m.Subject, err)
	}
	return bus.Message{Subject: f.Subject, Header: f.Header, Data: f.Data}, nil
}

func (c *Conn) call(ctx context.Context, m bus.Message) (Frame, error) {
	if err := c.checkSend(ctx, m); err != nil {
		return Frame{}, err
	}
	if err := c.listen(c.inbox + ">"); err != nil {
		return Frame{}, err
	}
	answer := make(chan Frame, 1) // the one reply, so that the sorter never waits
	c.mu.Lock()
	reply := c.inbox + c.token()
	c.calls[reply] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.calls, reply)
		c.mu.Unlock()
	}()
	if err := c.config.Carrier.Publish(Frame{Subject: m.Subject, Reply: reply, Header: m.Header, Data: m.Data}); err != nil {
		return Frame{}, err
	}
	select {
	case f := <-answer:
		return f, answerError(m.Subject, f)
	case <-c.done:
		return Frame{}, errClosed
	case <-ctx.Done():
		return Frame{}, Unavailable(context.Cause(ctx))
	}
}

// answerError is the error that a reply stands for, if any.
func answerError(subject string, f Frame) error {
	if f.NoResponders {
		return fmt.Errorf("nobody serves it: %w", bus.ErrNotFound)
	}
	if _, ok := f.Header[headerError]; ok {
		return &bus.CallError{Subject: subject, Reason: string(f.Data)}
	}
	return nil
}

// Serve implements bus.Calls. Of several that serve the same pattern one
// answers each call.
func (c *Conn) Serve(ctx context.Context, pattern string, handle bus.CallHandler) (bus.Subscription, error) {
	s, err := c.subscribe(ctx, pattern, queueName)
	if err != nil {
		return nil, err
	}
	s.requests(pattern, func(ctx context.Context, f Frame) {
		if _, ok := f.Header[headerStream]; ok {
			c.refuse(f, "a call is served here, not a stream")
			return
		}
		m, err := handle(ctx, bus.Message{Subject: f.Subject, Header: f.Header, Data: f.Data})
		if err == nil {
			err = c.answer(f, m)
		}
		if err != nil {
			c.refuse(f, err.Error())
		}
	})
	return s, nil
}

// answer sends a handler's reply. What is too large or malformed becomes an
// error, so that the caller hears of it.
func (c *Conn) answer(f Frame, m bus.Message) error {
	size := len(m.Data)
	for k, v := range m.Header {
		if err := checkHeader(k, v); err != nil {
			return fmt.Errorf("reply: %w", err)
		}
		size += len(k) + len(v) + len(": \r\n")
	}
	if limit := c.config.MaxPayload - bus.HeaderRoom; size > limit {
		return fmt.Errorf("reply: %d bytes with headers are more than %d: %w", size, limit, bus.ErrRefused)
	}
	return c.config.Carrier.Publish(Frame{Subject: f.Reply, Header: m.Header, Data: m.Data})
}

// maxReason bounds the text of an error that is sent to a caller, in bytes.
const maxReason = 16 << 10

func (c *Conn) refuse(f Frame, reason string) {
	if len(reason) > maxReason {
		reason = reason[:maxReason]
	}
	err := c.config.Carrier.Publish(Frame{Subject: f.Reply, Header: bus.Header{headerError: "1"}, Data: []byte(reason)})
	if err != nil {
		c.config.Logger.Warn("could not answer a request", "subject", f.Subject, "err", err)
	}
}
