package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/weftrun/weft/bus"
)

// How long an append waits before it tries again: at first, and at most.
const (
	firstRetry = 20 * time.Millisecond
	lastRetry  = time.Second
)

// maxConflicts is how often an append may be refused although the log's last
// record is the expected one.
const maxConflicts = 10

// appender appends to a log that nobody else may append to. It has one owner.
type appender struct {
	log    bus.Log
	name   string
	last   uint64 // the newest record that it knows of
	logger *slog.Logger

	// refusal is why the log takes nothing, while a record's outcome is waited for that
	// may have been stored before. It may be read by others.
	refusal atomic.Pointer[error]
}

// append stores record as the next one and returns nil, or an error that wraps
// ErrLost if somebody else has appended, or bus.ErrRefused if the record is
// certain not to have been stored. It goes on trying while the log does not
// answer, until ctx ends; then the outcome is unknown. A refusal is certain only
// of the first attempt: what an earlier one sent may still arrive.
func (a *appender) append(ctx context.Context, record []byte) error {
	wait := firstRetry
	uncertain := false
	defer a.refusal.Store(nil)
	for conflicts := 0; ; {
		sequence, err := a.log.Append(ctx, a.last, record)
		if err == nil && sequence != a.last+1 {
			return fmt.Errorf("append to log %s: %w: got sequence %d, expected %d", a.name, ErrLost, sequence, a.last+1)
		}
		if err == nil {
			a.last = sequence
			return nil
		}
		refused := errors.Is(err, bus.ErrRefused)
		if (refused && !uncertain) || (!refused && !errors.Is(err, bus.ErrUnavailable) && !errors.Is(err, bus.ErrConflict)) {
			return err // it names the log
		}
		uncertain = true
		if errors.Is(err, bus.ErrConflict) {
			conflicts++
		}
		if conflicts == maxConflicts {
			return fmt.Errorf("append to log %s: the server refuses record %d as not the next one, and says that %d is the last: its files are damaged: %w",
				a.name, a.last+1, a.last, ErrDamaged)
		}
		a.logger.Warn("log append has no certain outcome, reading its last record", "log", a.name, "err", err)
		if stored, err := a.settle(ctx, record); err != nil || stored {
			return err
		}
		if err := a.pause(ctx, wait, err); err != nil {
			return fmt.Errorf("append to log %s: %w", a.name, err)
		}
		wait = min(2*wait, lastRetry)
	}
}

// pause waits before the next attempt, and tells others meanwhile if the last one was refused.
func (a *appender) pause(ctx context.Context, wait time.Duration, last error) error {
	if a.refusal.Store(nil); errors.Is(last, bus.ErrRefused) {
		a.refusal.Store(&last)
	}
	return pause(ctx, wait)
}

// settle learns what became of record: stored, or certainly not yet.
func (a *appender) settle(ctx context.Context, record []byte) (stored bool, err error) {
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		last, err := a.read(ctx)
		switch {
		case errors.Is(err, bus.ErrUnavailable):
		case err != nil:
			return false, fmt.Errorf("read last record of log %s: %w", a.name, err)
		case last.Sequence == a.last:
			return false, nil
		case last.Sequence == a.last+1 && bytes.Equal(last.Data, record):
			a.last++
			return true, nil
		default:
			return false, fmt.Errorf("log %s: %w: its last record is %d, expected %d", a.name, ErrLost, last.Sequence, a.last)
		}
		if err := pause(ctx, wait); err != nil {
			return false, fmt.Errorf("read last record of log %s: %w", a.name, err)
		}
	}
}

// read returns the last record; of a trimmed or empty log only its sequence.
func (a *appender) read(ctx context.Context) (bus.Record, error) {
	last, err := a.log.Last(ctx)
	if !errors.Is(err, bus.ErrNotFound) {
		return last, err
	}
	_, sequence, err := a.log.Bounds(ctx)
	return bus.Record{Sequence: sequence}, err
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
