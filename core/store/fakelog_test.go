package store_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/weftrun/weft/bus"
)

// fakeLog is a bus.Log in memory whose faults are scripted.
type fakeLog struct {
	mu      sync.Mutex
	first   uint64
	records [][]byte // the oldest has sequence first
	// fault, if set, is asked before each append: store says whether the
	// record is stored, a non-nil error is what the caller gets.
	fault func(record []byte) (store bool, err error)
	// readFault, if set, is what Last returns.
	readFault func() error
	latency   time.Duration
	appends   int
}

func newFakeLog() *fakeLog { return &fakeLog{first: 1} }

// clone is what a crash leaves: the same records, without faults.
func (l *fakeLog) clone() *fakeLog {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &fakeLog{first: l.first, records: slices.Clone(l.records)}
}

func (l *fakeLog) last() uint64 { return l.first + uint64(len(l.records)) - 1 }

func (l *fakeLog) Append(ctx context.Context, last uint64, record []byte) (uint64, error) {
	if len(record) > bus.MaxPayload {
		return 0, fmt.Errorf("append: %d bytes: %w", len(record), bus.ErrRefused)
	}
	if l.latency > 0 {
		select {
		case <-time.After(l.latency):
		case <-ctx.Done():
			return 0, fmt.Errorf("append: %w: %w", bus.ErrUnavailable, ctx.Err())
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.appends++
	if last != l.last() {
		return 0, fmt.Errorf("append: last is %d, not %d: %w", l.last(), last, bus.ErrConflict)
	}
	if l.fault != nil {
		stored, err := l.fault(record)
		if stored {
			l.records = append(l.records, slices.Clone(record))
		}
		if err != nil {
			return 0, err
		}
		return l.last(), nil
	}
	l.records = append(l.records, slices.Clone(record))
	return l.last(), nil
}

func (l *fakeLog) Bounds(context.Context) (first, last uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first, l.last(), nil
}

func (l *fakeLog) Last(context.Context) (bus.Record, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.readFault != nil {
		if err := l.readFault(); err != nil {
			return bus.Record{}, err
		}
	}
	if len(l.records) == 0 {
		return bus.Record{}, fmt.Errorf("last: %w", bus.ErrNotFound)
	}
	return bus.Record{Sequence: l.last(), Data: slices.Clone(l.records[len(l.records)-1])}, nil
}

func (l *fakeLog) Read(_ context.Context, from uint64) iter.Seq2[bus.Record, error] {
	l.mu.Lock()
	first, records := l.first, slices.Clone(l.records)
	l.mu.Unlock()
	return func(yield func(bus.Record, error) bool) {
		if from < first {
			yield(bus.Record{}, fmt.Errorf("read %d: %w", from, bus.ErrNotFound))
			return
		}
		for i, data := range records {
			sequence := first + uint64(i)
			if sequence < from || data == nil {
				continue // nil: a hole that a test made
			}
			if !yield(bus.Record{Sequence: sequence, Data: slices.Clone(data)}, nil) {
				return
			}
		}
	}
}

func (l *fakeLog) Trim(_ context.Context, before uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.first < before && len(l.records) > 0 {
		l.records = l.records[1:]
		l.first++
	}
	return nil
}

// faults of an append.
var (
	errLostAnswer  = fmt.Errorf("fake: %w", bus.ErrUnavailable)
	errDiskFull    = fmt.Errorf("fake: disk full: %w", bus.ErrRefused)
	errOther       = errors.New("fake: something else")
	lostAnswer     = func([]byte) (bool, error) { return true, errLostAnswer }
	lostRequest    = func([]byte) (bool, error) { return false, errLostAnswer }
	refusedRequest = func([]byte) (bool, error) { return false, errDiskFull }
)
