package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"github.com/weftrun/weft/bus"
)

const leaseStream = "LEASE"

// A lease is the one message of its subject in a stream in memory. The server
// removes it when its time is over; sequence numbers fence every change.
type lease struct {
	conn     *Conn
	name     string
	holder   string
	ttl      time.Duration
	nonce    string // of this acquisition
	sequence uint64
	deadline time.Time
}

// Acquire implements bus.Leases. The server counts whole seconds: it frees a
// lease up to a second later than ttl says, never earlier. Within ttl of a
// restart of all servers, it takes so long.
func (c *Conn) Acquire(ctx context.Context, name, holder string, ttl time.Duration) (bus.Lease, error) {
	l := &lease{conn: c, name: name, holder: holder, ttl: ttl, nonce: nuid.Next()}
	if err := l.acquire(ctx); err != nil {
		return nil, fmt.Errorf("acquire lease %s: %w", name, err)
	}
	return l, nil
}

func (l *lease) acquire(ctx context.Context) error {
	if err := l.conn.coreOnly(); err != nil {
		return err
	}
	if l.name == "" || l.holder == "" || l.ttl <= 0 {
		return fmt.Errorf("a name, a holder and a positive time are required: %w", bus.ErrRefused)
	}
	ctx, cancel := bounded(ctx, l.conn.config.Timeout)
	defer cancel()
	stream, err := l.conn.leases(ctx)
	if err == nil {
		err = l.take(ctx, stream)
	}
	if err == nil {
		err = l.outlast(ctx, stream)
	}
	return err
}

// take stores the lease where there is none, or one of the same holder.
func (l *lease) take(ctx context.Context, stream jetstream.Stream) error {
	err := l.put(ctx, 0)
	if !errors.Is(err, bus.ErrConflict) {
		return err
	}
	held, getErr := stream.GetLastMsgForSubject(ctx, bus.LeaseSubject(l.name))
	switch {
	case errors.Is(getErr, jetstream.ErrMsgNotFound):
		return l.put(ctx, 0) // it ran out in between
	case getErr != nil:
		return translate(getErr)
	}
	if _, holder, _ := strings.Cut(string(held.Data), " "); holder != l.holder {
		return fmt.Errorf("%s holds it: %w", holder, bus.ErrConflict)
	}
	return l.put(ctx, held.Sequence)
}

// outlast returns once nobody can still hold a lease that was lost with the
// memory of servers that were restarted: ttl after the stream was made anew. The
// lease is stored already, so that nobody else takes it meanwhile.
func (l *lease) outlast(ctx context.Context, stream jetstream.Stream) error {
	if l.conn.config.InProcess != nil {
		return nil // a server within this process: nobody else held anything
	}
	info, err := stream.Info(ctx)
	if err != nil {
		return translate(err)
	}
	left := l.ttl - max(0, info.TimeStamp.Sub(info.Created))
	if left <= 0 {
		return nil
	}
	restarted, err := l.conn.hasOlder(ctx, info.Created.Add(-l.ttl)) // no log of a cluster that is as new
	if err != nil || !restarted {
		return err
	}
	select {
	case <-time.After(left):
	case <-ctx.Done():
		return fmt.Errorf("the server was restarted, and perhaps another still holds the lease: %w", translate(ctx.Err()))
	}
	return l.take(ctx, stream) // it may have run out
}

// hasOlder tells whether the server has kept a stream from before that time.
func (c *Conn) hasOlder(ctx context.Context, than time.Time) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all := c.js.ListStreams(ctx)
	for info := range all.Info() {
		if info.Created.Before(than) {
			return true, nil
		}
	}
	return false, translate(all.Err())
}

// content is what the lease's message holds.
func (l *lease) content() string { return l.nonce + " " + l.holder }

// leases opens the stream of leases.
func (c *Conn) leases(ctx context.Context) (jetstream.Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lease != nil {
		return c.lease, nil
	}
	stream, err := c.replicate(ctx, leaseStream)
	if err == nil {
		c.lease = stream
		return stream, nil
	}
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, translate(err)
	}
	stream, err = c.js.CreateStream(ctx, jetstream.StreamConfig{
		Name:              leaseStream,
		Description:       "Weft: who holds which lease.",
		Subjects:          []string{bus.LeaseSubject("") + "*"},
		Storage:           jetstream.MemoryStorage,
		MaxMsgsPerSubject: 1,
		AllowMsgTTL:       true,
		Replicas:          c.config.Replicas,
		Duplicates:        100 * time.Millisecond,
	})
	if err != nil {
		return nil, translate(err)
	}
	c.lease = stream
	return stream, nil
}

// put stores the holder if the lease's newest sequence is last; 0 is none.
func (l *lease) put(ctx context.Context, last uint64) error {
	asked := time.Now()
	seconds := int64((l.ttl + time.Second - 1) / time.Second)
	m := &natsgo.Msg{Subject: bus.LeaseSubject(l.name), Data: []byte(l.content()), Header: natsgo.Header{
		jetstream.ExpectedLastSubjSeqHeader: []string{strconv.FormatUint(last, 10)},
		jetstream.MsgTTLHeader:              []string{strconv.FormatInt(seconds, 10)},
	}}
	reply, err := l.conn.nc.RequestMsgWithContext(ctx, m)
	if errors.Is(err, natsgo.ErrNoResponders) {
		// The stream is gone with the memory of a server that was restarted:
		// whoever acquires next makes it anew.
		l.conn.mu.Lock()
		l.conn.lease = nil
		l.conn.mu.Unlock()
	}
	if err != nil {
		return translate(err)
	}
	var ack struct {
		Error    *jetstream.APIError `json:"error"`
		Sequence uint64              `json:"seq"`
	}
	if err := json.Unmarshal(reply.Data, &ack); err != nil {
		return fmt.Errorf("%w: acknowledgement: %w", bus.ErrUnavailable, err)
	}
	if ack.Error != nil {
		return translate(ack.Error)
	}
	l.sequence, l.deadline = ack.Sequence, asked.Add(l.ttl)
	return nil
}

// Deadline implements bus.Lease.
func (l *lease) Deadline() time.Time { return l.deadline }

// Renew implements bus.Lease.
func (l *lease) Renew(ctx context.Context) error {
	ctx, cancel := bounded(ctx, l.ttl)
	defer cancel()
	err := l.put(ctx, l.sequence)
	if errors.Is(err, bus.ErrConflict) {
		err = l.renewUnheard(ctx, err)
	}
	if err != nil {
		return fmt.Errorf("renew lease %s: %w", l.name, err)
	}
	return nil
}

// renewUnheard renews after a conflict that an earlier renewal made, whose
// acknowledgement was lost; any other conflict stands.
func (l *lease) renewUnheard(ctx context.Context, conflict error) error {
	stream, err := l.conn.leases(ctx)
	if err != nil {
		return err
	}
	held, err := stream.GetLastMsgForSubject(ctx, bus.LeaseSubject(l.name))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return conflict
	case err != nil:
		return translate(err)
	case string(held.Data) != l.content():
		return conflict
	}
	return l.put(ctx, held.Sequence)
}

// Resign implements bus.Lease.
func (l *lease) Resign(ctx context.Context) error {
	ctx, cancel := bounded(ctx, l.conn.config.Timeout)
	defer cancel()
	l.deadline = time.Now()
	stream, err := l.conn.leases(ctx)
	if err == nil {
		err = stream.DeleteMsg(ctx, l.sequence)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful): // it is not there any more
		return fmt.Errorf("resign lease %s: %s lost it: %w", l.name, l.holder, bus.ErrConflict)
	}
	return fmt.Errorf("resign lease %s: %w", l.name, translate(err))
}
