package nats

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/internal/wire"
)

// carrier is a wire.Carrier on core NATS.
type carrier struct {
	nc      *natsgo.Conn
	timeout time.Duration
}

func (c *carrier) Publish(f wire.Frame) error {
	if f.Header == nil {
		if f.Reply == "" {
			return translate(c.nc.Publish(f.Subject, f.Data))
		}
		return translate(c.nc.PublishRequest(f.Subject, f.Reply, f.Data))
	}
	m := &natsgo.Msg{Subject: f.Subject, Reply: f.Reply, Data: f.Data, Header: make(natsgo.Header, len(f.Header))}
	for k, v := range f.Header {
		m.Header[k] = []string{v}
	}
	return translate(c.nc.PublishMsg(m))
}

func (c *carrier) Flush(ctx context.Context) error {
	ctx, cancel := bounded(ctx, c.timeout)
	defer cancel()
	return translate(c.nc.FlushWithContext(ctx))
}

func (c *carrier) Subscribe(pattern, queue string, limits wire.Limits) (wire.Feed, error) {
	// A synchronous subscription of nats.go would end when nobody serves a
	// request, and holds a queue of full size from the start.
	f := &feed{messages: make(chan *natsgo.Msg, 64), closed: make(chan struct{})} // few, to wake the reader less often
	f.close = sync.OnceFunc(func() { close(f.closed) })
	s, err := c.nc.QueueSubscribe(pattern, queue, f.put)
	if err != nil {
		return nil, translate(err)
	}
	f.s = s
	if err := s.SetPendingLimits(limits.Messages, limits.Bytes); err != nil {
		_ = f.Close() // the first error counts
		return nil, translate(err)
	}
	return f, nil
}

type feed struct {
	s        *natsgo.Subscription
	messages chan *natsgo.Msg
	closed   chan struct{}
	close    func()
}

func (f *feed) put(m *natsgo.Msg) {
	select {
	case f.messages <- m:
	case <-f.closed:
	}
}

func (f *feed) Next(ctx context.Context) (wire.Frame, error) {
	select {
	case m := <-f.messages:
		return frame(m), nil
	case <-f.closed:
		return wire.Frame{}, io.ErrClosedPipe
	case <-ctx.Done():
		return wire.Frame{}, context.Cause(ctx)
	}
}

func frame(m *natsgo.Msg) wire.Frame {
	f := wire.Frame{Subject: m.Subject, Reply: m.Reply, Data: m.Data}
	if len(m.Header) == 0 {
		return f
	}
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		f.NoResponders = true
		return f
	}
	f.Header = make(bus.Header, len(m.Header))
	for k, v := range m.Header {
		if len(v) > 0 {
			f.Header[k] = v[0]
		}
	}
	return f
}

func (f *feed) Close() error {
	f.close()
	return f.s.Unsubscribe()
}

// JetStream's codes of a refused expectation.
const (
	wrongLastSequence         jetstream.ErrorCode = 10071
	wrongLastSequenceConstant jetstream.ErrorCode = 10164
)

// translate turns an error of NATS into one that wraps a sentinel.
func translate(err error) error {
	var api *jetstream.APIError
	switch {
	case err == nil:
		return nil
	case isSentinel(err):
		return err
	case errors.As(err, &api):
		return fmt.Errorf("%w: %w", apiSentinel(api), err)
	case errors.Is(err, natsgo.ErrMaxPayload), errors.Is(err, natsgo.ErrBadSubject), errors.Is(err, natsgo.ErrInvalidMsg),
		errors.Is(err, natsgo.ErrPermissionViolation), errors.Is(err, natsgo.ErrAuthorization),
		errors.Is(err, natsgo.ErrHeadersNotSupported), errors.Is(err, jetstream.ErrInvalidStreamName):
		return fmt.Errorf("%w: %w", bus.ErrRefused, err)
	case errors.Is(err, jetstream.ErrObjectNotFound), errors.Is(err, jetstream.ErrMsgNotFound),
		errors.Is(err, jetstream.ErrStreamNotFound), errors.Is(err, jetstream.ErrBucketNotFound):
		return fmt.Errorf("%w: %w", bus.ErrNotFound, err)
	default: // time-outs, broken connections, no leader
		return fmt.Errorf("%w: %w", bus.ErrUnavailable, err)
	}
}

func isSentinel(err error) bool {
	return errors.Is(err, bus.ErrConflict) || errors.Is(err, bus.ErrNotFound) ||
		errors.Is(err, bus.ErrUnavailable) || errors.Is(err, bus.ErrRefused)
}

func apiSentinel(err *jetstream.APIError) error {
	switch err.ErrorCode {
	case wrongLastSequence, wrongLastSequenceConstant:
		return bus.ErrConflict
	case jetstream.JSErrCodeStreamNotFound, jetstream.JSErrCodeMessageNotFound:
		return bus.ErrNotFound
	}
	switch {
	case err.Code == 404:
		return bus.ErrNotFound
	case err.Code >= 500 || err.Code == 408 || err.Code == 0:
		return bus.ErrUnavailable
	default:
		return bus.ErrRefused
	}
}
