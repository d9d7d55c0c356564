package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/weftrun/weft/bus"
)

// streamLog is a bus.Log on a JetStream stream of its own.
type streamLog struct {
	conn    *Conn
	name    string
	subject string
	stream  jetstream.Stream
	limit   int
}

// streamName makes a stream's name of any other.
func streamName(name string) string {
	return strings.NewReplacer("/", "%2F", `\`, "%5C").Replace(bus.Escape(name))
}

// OpenLog implements bus.Logs.
func (c *Conn) OpenLog(ctx context.Context, name string) (bus.Log, error) {
	l, err := c.openLog(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open log %s: %w", name, err)
	}
	return l, nil
}

func (c *Conn) openLog(ctx context.Context, name string) (*streamLog, error) {
	if err := c.coreOnly(); err != nil {
		return nil, err
	}
	if name == "" || len(name) > 200 {
		return nil, fmt.Errorf("the name must have 1 to 200 bytes: %w", bus.ErrRefused)
	}
	ctx, cancel := bounded(ctx, c.config.Timeout)
	defer cancel()
	l := &streamLog{conn: c, name: name, subject: bus.RecordSubject(name),
		limit: int(min(c.nc.MaxPayload(), bus.MaxPayload)) - bus.HeaderRoom}
	stream, err := c.replicate(ctx, streamName(name))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = c.js.CreateStream(ctx, jetstream.StreamConfig{
			Name:        streamName(name),
			Description: "Weft: a log of records. Do not write to it.",
			Subjects:    []string{l.subject},
			Storage:     jetstream.FileStorage,
			Retention:   jetstream.LimitsPolicy,
			Discard:     jetstream.DiscardNew,
			MaxMsgSize:  bus.MaxPayload,
			Replicas:    c.config.Replicas,
			Duplicates:  100 * time.Millisecond, // the least: nothing relies on it
			AllowDirect: true,
			DenyDelete:  true,
		})
	}
	if err != nil {
		return nil, translate(err)
	}
	l.stream = stream
	return l, checkStream(stream.CachedInfo().Config, l.subject)
}

// replicate opens a stream, with as many copies as are configured, or more if it has
// them: copies are not given up because one core's settings do not tell of them.
func (c *Conn) replicate(ctx context.Context, name string) (jetstream.Stream, error) {
	stream, err := c.js.Stream(ctx, name)
	if err != nil {
		return nil, err
	}
	config, want := stream.CachedInfo().Config, c.config.Replicas
	if config.Replicas > want {
		c.config.Logger.Info("a stream keeps more copies than are configured", "stream", name, "copies", config.Replicas, "configured", want)
	}
	if config.Replicas >= want {
		return stream, nil
	}
	had := config.Replicas
	config.Replicas = want
	if stream, err = c.js.UpdateStream(ctx, config); err != nil {
		return nil, fmt.Errorf("have %d copies of stream %s, which has %d: %w", want, name, had, err)
	}
	c.config.Logger.Info("a stream gets more copies", "stream", name, "copies", want, "before", had)
	return stream, led(ctx, stream, want)
}

// led returns once a stream of so many copies has a leader: what is sent to it before
// gets no answer.
func led(ctx context.Context, stream jetstream.Stream, copies int) error {
	for {
		asking, cancel := context.WithTimeout(ctx, time.Second)
		info, err := stream.Info(asking)
		cancel()
		if err == nil && info.Cluster != nil && info.Cluster.Leader != "" && len(info.Cluster.Replicas) == copies-1 {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("stream %s has no leader yet: %w", stream.CachedInfo().Config.Name, ctx.Err())
		}
	}
}

// checkStream refuses a stream that would lose records.
func checkStream(c jetstream.StreamConfig, subject string) error {
	switch {
	case len(c.Subjects) != 1 || c.Subjects[0] != subject:
		return fmt.Errorf("stream %s holds the subjects %q, not %s: %w", c.Name, c.Subjects, subject, bus.ErrRefused)
	case c.Storage != jetstream.FileStorage || c.Discard != jetstream.DiscardNew || c.MaxAge != 0 || c.Retention != jetstream.LimitsPolicy ||
		c.MaxMsgsPerSubject > 0:
		return fmt.Errorf("stream %s must keep all in files (storage file, discard new, retention limits, no age): %w", c.Name, bus.ErrRefused)
	case !c.AllowDirect:
		return fmt.Errorf("stream %s must allow direct reads: %w", c.Name, bus.ErrRefused)
	}
	return nil
}

func (l *streamLog) wrap(what string, err error) error {
	return fmt.Errorf("%s log %s: %w", what, l.name, translate(err))
}

// appendTimeout bounds one append. A request that was lost with the server that
// it went to gets no answer at all, and whoever appends can read what became of
// it: so it is better to ask soon.
const appendTimeout = 2 * time.Second

// Append implements bus.Log. It is the hot path of every write: one request,
// one fsync.
func (l *streamLog) Append(ctx context.Context, last uint64, record []byte) (uint64, error) {
	if len(record) > l.limit {
		return 0, l.wrap("append to", fmt.Errorf("%d bytes are more than %d: %w", len(record), l.limit, bus.ErrRefused))
	}
	ctx, cancel, err := l.conn.taking(ctx)
	if err != nil {
		return 0, l.wrap("append to", err)
	}
	defer cancel()
	m := &natsgo.Msg{Subject: l.subject, Data: record, Header: natsgo.Header{
		jetstream.ExpectedLastSeqHeader: []string{strconv.FormatUint(last, 10)},
	}}
	reply, err := l.conn.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return 0, l.wrap("append to", err)
	}
	var ack struct {
		Error    *jetstream.APIError `json:"error"`
		Sequence uint64              `json:"seq"`
		Stream   string              `json:"stream"`
	}
	switch err := json.Unmarshal(reply.Data, &ack); {
	case err != nil:
		return 0, l.wrap("append to", fmt.Errorf("%w: acknowledgement: %w", bus.ErrUnavailable, err))
	case ack.Error != nil && full(ack.Error):
		return 0, l.wrap("append to", fmt.Errorf("%w: %w", bus.ErrRefused, ack.Error))
	case ack.Error != nil:
		return 0, l.wrap("append to", ack.Error)
	case ack.Sequence != last+1:
		return 0, l.wrap("append to", fmt.Errorf("%w: acknowledged as %d of %s, not %d", bus.ErrUnavailable, ack.Sequence, ack.Stream, last+1))
	}
	return ack.Sequence, nil
}

// taking bounds an append by appendTimeout, and by the server's ceasing to take
// any.
func (c *Conn) taking(ctx context.Context) (context.Context, context.CancelFunc, error) {
	timeout := min(appendTimeout, c.config.Timeout)
	if c.config.Taking == nil {
		ctx, cancel := bounded(ctx, timeout)
		return ctx, cancel, nil
	}
	taking, err := c.config.Taking()
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	stop := context.AfterFunc(taking, cancel)
	return ctx, func() { stop(); cancel() }, nil
}

// JetStream's codes of a store that has no room.
const (
	insufficientResources jetstream.ErrorCode = 10023
	storeFailed           jetstream.ErrorCode = 10077
)

// full tells that the server has checked its limits and certainly not stored
// the record; other failures of its store it does not answer at all.
func full(err *jetstream.APIError) bool {
	return err.ErrorCode == insufficientResources ||
		(err.ErrorCode == storeFailed && strings.HasPrefix(err.Description, "maximum "))
}

// Bounds implements bus.Log. It asks the stream's leader.
func (l *streamLog) Bounds(ctx context.Context) (first, last uint64, err error) {
	ctx, cancel := bounded(ctx, l.conn.config.Timeout)
	defer cancel()
	info, err := l.stream.Info(ctx)
	if err != nil {
		return 0, 0, l.wrap("read bounds of", err)
	}
	if info.State.Msgs == 0 {
		return info.State.LastSeq + 1, info.State.LastSeq, nil
	}
	return info.State.FirstSeq, info.State.LastSeq, nil
}

// Last implements bus.Log.
func (l *streamLog) Last(ctx context.Context) (bus.Record, error) {
	first, last, err := l.Bounds(ctx)
	if err != nil {
		return bus.Record{}, err
	}
	if first > last {
		return bus.Record{}, l.wrap("read last of", bus.ErrNotFound)
	}
	for r, err := range l.read(ctx, last, last) {
		return r, err
	}
	return bus.Record{}, l.wrap("read last of", bus.ErrUnavailable)
}

// Trim implements bus.Log.
func (l *streamLog) Trim(ctx context.Context, before uint64) error {
	first, last, err := l.Bounds(ctx)
	if err != nil {
		return err
	}
	// Above the newest the server would count on from there.
	if before = min(before, last+1); before <= first {
		return nil
	}
	ctx, cancel := bounded(ctx, l.conn.config.Timeout)
	defer cancel()
	if err := l.stream.Purge(ctx, jetstream.WithPurgeSequence(before)); err != nil {
		return l.wrap("trim", err)
	}
	return nil
}

// Read implements bus.Log.
func (l *streamLog) Read(ctx context.Context, from uint64) iter.Seq2[bus.Record, error] {
	first, last, err := l.Bounds(ctx)
	if err == nil && from < first {
		err = l.wrap("read", fmt.Errorf("sequence %d was trimmed, the first is %d: %w", from, first, bus.ErrNotFound))
	}
	if err != nil {
		return func(yield func(bus.Record, error) bool) { yield(bus.Record{}, err) }
	}
	return l.read(ctx, from, last)
}

const (
	batchRecords = 1024
	batchBytes   = 4 << 20 // a batch ends with the record that exceeds it
	batchTries   = 20      // a replica that answers may lag behind
	batchWait    = 10 * time.Second
)

// read yields the records from..last by direct reads in batches; no consumer
// is made for it.
func (l *streamLog) read(ctx context.Context, from, last uint64) iter.Seq2[bus.Record, error] {
	return func(yield func(bus.Record, error) bool) {
		for tries := 0; from <= last; {
			next, more, err := l.batch(ctx, from, last, yield)
			switch {
			case err != nil:
				yield(bus.Record{}, l.wrap("read", err))
				return
			case !more:
				return
			case next > from:
				from, tries = next, 0
				continue
			}
			if tries++; tries == batchTries {
				yield(bus.Record{}, l.wrap("read", fmt.Errorf("no record %d from the server: %w", from, bus.ErrUnavailable)))
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

// batch yields one batch and returns the sequence after it, and whether yield
// wants more.
func (l *streamLog) batch(ctx context.Context, from, last uint64, yield func(bus.Record, error) bool) (next uint64, more bool, err error) {
	nc := l.conn.nc
	inbox := nc.NewInbox()
	s, err := nc.SubscribeSync(inbox)
	if err != nil {
		return from, false, err
	}
	defer func() { _ = s.Unsubscribe() }() // fails only when the connection is gone
	if err := s.SetPendingLimits(-1, -1); err != nil {
		return from, false, err
	}
	request := fmt.Sprintf(`{"seq":%d,"batch":%d,"max_bytes":%d}`, from, min(batchRecords, last-from+1), batchBytes)
	if err := nc.PublishRequest("$JS.API.DIRECT.GET."+streamName(l.name), inbox, []byte(request)); err != nil {
		return from, false, err
	}
	for next = from; next <= last; {
		wait, cancel := context.WithTimeout(ctx, batchWait)
		m, err := s.NextMsgWithContext(wait)
		cancel()
		if err != nil {
			return next, false, err
		}
		switch m.Header.Get("Status") {
		case "":
		case "204", "404": // end of the batch; nothing there yet
			return next, true, nil
		default:
			return next, false, fmt.Errorf("direct read: status %s %s: %w", m.Header.Get("Status"), m.Header.Get("Description"), bus.ErrUnavailable)
		}
		sequence, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
		if err == nil && sequence > next {
			return next, false, fmt.Errorf("direct read: record %d is gone, record %d follows: %w", next, sequence, bus.ErrNotFound)
		}
		if err != nil || sequence != next {
			return next, false, fmt.Errorf("direct read: record %d came where %d should: %w", sequence, next, bus.ErrUnavailable)
		}
		if !yield(bus.Record{Sequence: next, Data: m.Data}, nil) {
			return next, false, nil
		}
		next++
	}
	return next, true, nil
}
