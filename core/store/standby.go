package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weftrun/weft/bus"
)

// Standby holds the state of a log that another store writes, and follows it,
// so that taking over takes a moment instead of a recovery. It writes nothing
// before Lead. It belongs to one goroutine.
type Standby struct {
	recovery *recovery
}

// Follow recovers the state as Open does, and leaves the log as it is: whoever
// leads goes on. The error is Open's, for a log that cannot be taken over.
func Follow(ctx context.Context, config Config) (*Standby, error) {
	s, err := newStandby(config)
	if err != nil {
		return nil, err
	}
	if err := s.CatchUp(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

func newStandby(config Config) (*Standby, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	config = config.withDefaults()
	r := &recovery{config: config, codec: newCodec(config.Key)}
	if err := r.readMark(); err != nil {
		return nil, err
	}
	return &Standby{recovery: r}, nil
}

// CatchUp applies what was logged since. If a snapshot has taken the place of
// that meanwhile, or a new history has begun, it recovers anew. An error that wraps
// bus.ErrUnavailable passes: what was applied stays, and the next call goes on
// from there.
func (s *Standby) CatchUp(ctx context.Context) error {
	if err := s.recovery.follow(ctx); err != nil {
		return fmt.Errorf("follow store: %w", err)
	}
	return nil
}

func (r *recovery) follow(ctx context.Context) error {
	if !r.loaded {
		return r.load(ctx)
	}
	first, last, err := r.config.Log.Bounds(ctx)
	if err != nil {
		return fmt.Errorf("read bounds of log WAL: %w", err)
	}
	known := r.store.log.last
	if last < known {
		return fmt.Errorf("log WAL: %w: it ends with record %d, and record %d was read before", ErrLogCut, last, known)
	}
	if first > known+1 {
		return r.load(ctx)
	}
	if r.fresh {
		// Whoever goes on behind it has written its snapshot, or is another one.
		replaced := last > known
		if !replaced {
			replaced, err = r.replaced(ctx)
		}
		if err != nil || !replaced {
			return err
		}
		return r.load(ctx)
	}
	err = r.replay(ctx, last)
	if errors.Is(err, bus.ErrNotFound) || errors.Is(err, errNewHistory) { // trimmed since its bounds were read
		return r.load(ctx)
	}
	return err
}

// replaced says whether the history that the log's last record begins has its
// snapshot. Before that, the state is still the one of before.
func (r *recovery) replaced(ctx context.Context) (bool, error) {
	newest, err := r.config.Snapshots.Last(ctx)
	if errors.Is(err, bus.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read last record of log snapshots: %w", err)
	}
	h, err := readHeader(newest.Data)
	return err == nil && h.kind == kindManifest && h.term >= r.store.term, nil // load says what is wrong with it
}

// Sequence is the newest record of the log that was applied.
func (s *Standby) Sequence() uint64 { return s.recovery.store.log.last }

// Lead catches up and begins a new term, as Open does. leading takes the place
// of Config.Leading if it is not nil. The Standby has become the Store: it must
// not be used afterwards, unless there was an error.
func (s *Standby) Lead(ctx context.Context, leading func() bool) (*Store, error) {
	start := time.Now()
	if leading != nil {
		s.recovery.config.Leading = leading
	}
	if err := s.recovery.follow(ctx); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	r := s.recovery
	r.store.config.Leading = r.config.Leading
	if err := r.begin(ctx, r.follow); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if r.broken {
		if err := r.store.rebase(ctx); err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
	}
	if err := r.store.openMark(); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	r.config.Logger.Info("store opened", "term", r.store.term, "revision", r.store.revision, "objects", r.store.state.objects,
		"records", r.records, "took", time.Since(start))
	return r.store, nil
}
