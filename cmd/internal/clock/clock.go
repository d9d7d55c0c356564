// Package clock notices that the machine's clock jumps. It must not set it, and
// nothing may depend on it: it is for the people who wonder about certificates,
// times of objects and logs.
package clock

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

const (
	lookEvery = time.Second
	// least is what counts as a jump. A clock that is being corrected gains or
	// loses half a millisecond in a second.
	least = 500 * time.Millisecond
)

// Jump is by how much the clock moved beyond the time that passed, and what it
// said then.
type Jump struct {
	By time.Duration
	At time.Time
}

// reading is what the clock says, and how much time has passed.
type reading struct {
	says   time.Time
	passed time.Duration // since any moment
}

// jump is by how much the clock moved beyond the time that passed between two
// readings; 0 if it is not worth a word.
func jump(before, now reading) time.Duration {
	by := now.says.Sub(before.says) - (now.passed - before.passed)
	if by.Abs() < least {
		return 0
	}
	return by
}

// Watch looks at the clock. Make it with New. Its methods may be called
// concurrently.
type Watch struct {
	log    *slog.Logger
	jumped func(Jump)
	read   func() reading
	last   atomic.Pointer[Jump]
}

// New returns a Watch that logs jumps, and calls jumped, if it is not nil, for
// each.
func New(log *slog.Logger, jumped func(Jump)) *Watch {
	begin := time.Now()
	return &Watch{log: log, jumped: jumped, read: func() reading {
		now := time.Now()
		return reading{says: now.Round(0), passed: now.Sub(begin)} // Round drops what has passed
	}}
}

// Last returns the newest jump; none is false.
func (w *Watch) Last() (Jump, bool) {
	if j := w.last.Load(); j != nil {
		return *j, true
	}
	return Jump{}, false
}

// Run looks each second until ctx ends, and returns nil.
func (w *Watch) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	before := w.read()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := w.read()
		if by := jump(before, now); by != 0 {
			j := Jump{By: by, At: now.says}
			w.last.Store(&j)
			w.log.Warn("the clock jumped, or this machine slept; what is fenced does not depend on it", "by", by.Round(time.Millisecond), "to", now.says.UTC().Format(time.RFC3339))
			if w.jumped != nil {
				w.jumped(j)
			}
		}
		before = now
	}
}
