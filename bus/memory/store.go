package memory

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/internal/wire"
)

// records is the content of one log: kept[0] has the sequence first.
type records struct {
	first uint64
	kept  [][]byte
}

func (r *records) last() uint64 { return r.first + uint64(len(r.kept)) - 1 }

type memoryLog struct {
	conn *connection
	name string
}

// OpenLog implements bus.Logs.
func (c *connection) OpenLog(ctx context.Context, name string) (bus.Log, error) {
	err := c.reachCore(ctx)
	if err == nil && name == "" {
		err = fmt.Errorf("a name is required: %w", bus.ErrRefused)
	}
	if err != nil {
		return nil, fmt.Errorf("open log %s: %w", name, err)
	}
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	if c.hub.logs[name] == nil {
		c.hub.logs[name] = &records{first: 1}
	}
	return &memoryLog{conn: c, name: name}, nil
}

func (l *memoryLog) wrap(what string, err error) error {
	return fmt.Errorf("%s log %s: %w", what, l.name, err)
}

// Append implements bus.Log.
func (l *memoryLog) Append(ctx context.Context, last uint64, record []byte) (uint64, error) {
	if err := l.conn.reach(ctx); err != nil {
		return 0, l.wrap("append to", err)
	}
	if limit := bus.MaxPayload - bus.HeaderRoom; len(record) > limit {
		return 0, l.wrap("append to", fmt.Errorf("%d bytes are more than %d: %w", len(record), limit, bus.ErrRefused))
	}
	h := l.conn.hub
	h.mu.Lock()
	decide := h.onAppend
	h.mu.Unlock()
	fate := Store
	if decide != nil {
		fate = decide(ctx, l.conn.who, l.name, record)
	}
	if fate == Lose {
		return 0, l.wrap("append to", bus.ErrUnavailable)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.logs[l.name]
	if r.last() != last {
		if fate != Store {
			return 0, l.wrap("append to", bus.ErrUnavailable)
		}
		return 0, l.wrap("append to", fmt.Errorf("expected last sequence %d, it is %d: %w", last, r.last(), bus.ErrConflict))
	}
	r.kept = append(r.kept, bytes.Clone(record))
	if fate != Store {
		return 0, l.wrap("append to", bus.ErrUnavailable)
	}
	if err := wire.Unavailable(ctx.Err()); err != nil {
		return 0, l.wrap("append to", err) // held for so long that nobody waits
	}
	return r.last(), nil
}

// Bounds implements bus.Log.
func (l *memoryLog) Bounds(ctx context.Context) (first, last uint64, err error) {
	if err := l.conn.reach(ctx); err != nil {
		return 0, 0, l.wrap("read bounds of", err)
	}
	l.conn.hub.mu.Lock()
	defer l.conn.hub.mu.Unlock()
	r := l.conn.hub.logs[l.name]
	return r.first, r.last(), nil
}

// Last implements bus.Log.
func (l *memoryLog) Last(ctx context.Context) (bus.Record, error) {
	if err := l.conn.reach(ctx); err != nil {
		return bus.Record{}, l.wrap("read last of", err)
	}
	l.conn.hub.mu.Lock()
	defer l.conn.hub.mu.Unlock()
	r := l.conn.hub.logs[l.name]
	if len(r.kept) == 0 {
		return bus.Record{}, l.wrap("read last of", bus.ErrNotFound)
	}
	return bus.Record{Sequence: r.last(), Data: bytes.Clone(r.kept[len(r.kept)-1])}, nil
}

// Read implements bus.Log.
func (l *memoryLog) Read(ctx context.Context, from uint64) iter.Seq2[bus.Record, error] {
	fail := func(err error) iter.Seq2[bus.Record, error] {
		return func(yield func(bus.Record, error) bool) { yield(bus.Record{}, l.wrap("read", err)) }
	}
	if err := l.conn.reach(ctx); err != nil {
		return fail(err)
	}
	h := l.conn.hub
	h.mu.Lock()
	r := h.logs[l.name]
	first, last := r.first, r.last()
	var kept [][]byte
	if from >= first && from <= last {
		kept = slices.Clone(r.kept[from-first:])
	}
	h.mu.Unlock()
	if from < first {
		return fail(fmt.Errorf("sequence %d was trimmed, the first is %d: %w", from, first, bus.ErrNotFound))
	}
	return func(yield func(bus.Record, error) bool) {
		for i, data := range kept {
			if err := l.conn.reach(ctx); err != nil {
				yield(bus.Record{}, l.wrap("read", err))
				return
			}
			if !yield(bus.Record{Sequence: from + uint64(i), Data: bytes.Clone(data)}, nil) {
				return
			}
		}
	}
}

// Trim implements bus.Log.
func (l *memoryLog) Trim(ctx context.Context, before uint64) error {
	if err := l.conn.reach(ctx); err != nil {
		return l.wrap("trim", err)
	}
	l.conn.hub.mu.Lock()
	defer l.conn.hub.mu.Unlock()
	r := l.conn.hub.logs[l.name]
	before = min(before, r.last()+1)
	if before > r.first {
		r.kept = slices.Clone(r.kept[before-r.first:])
		r.first = before
	}
	return nil
}

// holding is who holds a lease; number grows with each taking and renewal.
type holding struct {
	holder   string
	deadline time.Time
	number   uint64
}

type lease struct {
	conn     *connection
	name     string
	holder   string
	ttl      time.Duration
	number   uint64
	deadline time.Time
}

// Acquire implements bus.Leases.
func (c *connection) Acquire(ctx context.Context, name, holder string, ttl time.Duration) (bus.Lease, error) {
	err := c.reachCore(ctx)
	if err == nil && (name == "" || holder == "" || ttl <= 0) {
		err = fmt.Errorf("a name, a holder and a positive time are required: %w", bus.ErrRefused)
	}
	if err != nil {
		return nil, fmt.Errorf("acquire lease %s: %w", name, err)
	}
	h := c.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	held := h.leases[name]
	if now.Before(held.deadline) && held.holder != holder {
		return nil, fmt.Errorf("acquire lease %s: %s holds it: %w", name, held.holder, bus.ErrConflict)
	}
	l := &lease{conn: c, name: name, holder: holder, ttl: ttl, number: held.number + 1, deadline: now.Add(ttl)}
	h.leases[name] = holding{holder: holder, deadline: l.deadline, number: l.number}
	return l, nil
}

// Deadline implements bus.Lease.
func (l *lease) Deadline() time.Time { return l.deadline }

// Renew implements bus.Lease.
func (l *lease) Renew(ctx context.Context) error {
	return l.change(ctx, "renew", func(now time.Time) { l.deadline = now.Add(l.ttl) })
}

// Resign implements bus.Lease.
func (l *lease) Resign(ctx context.Context) error {
	return l.change(ctx, "resign", func(now time.Time) { l.deadline = now })
}

func (l *lease) change(ctx context.Context, what string, set func(now time.Time)) error {
	if err := l.conn.reach(ctx); err != nil {
		return fmt.Errorf("%s lease %s: %w", what, l.name, err)
	}
	h := l.conn.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	held := h.leases[l.name]
	if held.number != l.number || !now.Before(held.deadline) {
		return fmt.Errorf("%s lease %s: %s lost it: %w", what, l.name, l.holder, bus.ErrConflict)
	}
	set(now)
	l.number++
	h.leases[l.name] = holding{holder: l.holder, deadline: l.deadline, number: l.number}
	return nil
}

type blob struct {
	info bus.BlobInfo
	data []byte
}

// PutBlob implements bus.Blobs.
func (c *connection) PutBlob(ctx context.Context, name string, limit int64, r io.Reader) (bus.BlobInfo, error) {
	err := c.reachCore(ctx)
	if err == nil && name == "" {
		err = fmt.Errorf("a name is required: %w", bus.ErrRefused)
	}
	if err != nil {
		return bus.BlobInfo{}, fmt.Errorf("put blob %s: %w", name, err)
	}
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return bus.BlobInfo{}, fmt.Errorf("put blob %s: read content: %w", name, err)
	}
	if int64(len(data)) > limit {
		return bus.BlobInfo{}, fmt.Errorf("put blob %s: more than %d bytes: %w", name, limit, bus.ErrRefused)
	}
	if err := c.reach(ctx); err != nil {
		return bus.BlobInfo{}, fmt.Errorf("put blob %s: %w", name, err)
	}
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	b := blob{info: bus.BlobInfo{Name: name, Size: int64(len(data)), Modified: time.Now()}, data: data}
	c.hub.blobs[name] = b
	return b.info, nil
}

// GetBlob implements bus.Blobs.
func (c *connection) GetBlob(ctx context.Context, name string) (bus.BlobInfo, io.ReadCloser, error) {
	if err := c.reachCore(ctx); err != nil {
		return bus.BlobInfo{}, nil, fmt.Errorf("get blob %s: %w", name, err)
	}
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	b, ok := c.hub.blobs[name]
	if !ok {
		return bus.BlobInfo{}, nil, fmt.Errorf("get blob %s: %w", name, bus.ErrNotFound)
	}
	return b.info, io.NopCloser(bytes.NewReader(b.data)), nil
}

// DeleteBlob implements bus.Blobs.
func (c *connection) DeleteBlob(ctx context.Context, name string) error {
	if err := c.reachCore(ctx); err != nil {
		return fmt.Errorf("delete blob %s: %w", name, err)
	}
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	if _, ok := c.hub.blobs[name]; !ok {
		return fmt.Errorf("delete blob %s: %w", name, bus.ErrNotFound)
	}
	delete(c.hub.blobs, name)
	return nil
}

// ListBlobs implements bus.Blobs.
func (c *connection) ListBlobs(ctx context.Context) ([]bus.BlobInfo, error) {
	if err := c.reachCore(ctx); err != nil {
		return nil, fmt.Errorf("list blobs: %w", err)
	}
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	infos := make([]bus.BlobInfo, 0, len(c.hub.blobs))
	for _, b := range c.hub.blobs {
		infos = append(infos, b.info)
	}
	slices.SortFunc(infos, func(a, b bus.BlobInfo) int { return strings.Compare(a.Name, b.Name) })
	return infos, nil
}
