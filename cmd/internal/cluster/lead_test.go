package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/memory"
	"github.com/weftrun/weft/core/store"
)

func testCandidate(t *testing.T, hub *memory.Hub, name string) *candidate {
	t.Helper()
	conn := hub.Connect(bus.Identity{Role: bus.RoleCore, Name: name})
	t.Cleanup(func() { _ = conn.Close() })
	return &candidate{leases: conn, holder: name, log: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

// TestLeadInTurn has candidates lead one after the other, never two at once.
func TestLeadInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := memory.New()
		var leaders, terms atomic.Int32
		ended := make(chan error, 3)
		for i := range 3 {
			c := testCandidate(t, hub, fmt.Sprint("core-", i))
			go func() {
				ended <- c.lead(t.Context(), func(ctx context.Context, l *leadership) error {
					if leaders.Add(1) != 1 || !l.Leading() {
						t.Error("two lead at once")
					}
					terms.Add(1)
					time.Sleep(time.Minute) // many renewals
					if !l.Leading() {
						t.Error("the lease was not renewed")
					}
					leaders.Add(-1)
					return nil
				})
			}()
		}
		begin := time.Now()
		for range 3 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(begin); terms.Load() != 3 || took > 3*time.Minute+time.Second {
			t.Errorf("%d led in %s: a lease that was given up is free at once", terms.Load(), took)
		}
	})
}

// frozen is a lease that cannot be renewed from some time on.
type frozen struct {
	bus.Leases
	from time.Time
	err  error
}

func (f *frozen) Acquire(ctx context.Context, name, holder string, ttl time.Duration) (bus.Lease, error) {
	l, err := f.Leases.Acquire(ctx, name, holder, ttl)
	return &frozenLease{l, f}, err
}

type frozenLease struct {
	bus.Lease
	*frozen
}

func (l *frozenLease) Renew(ctx context.Context) error {
	if time.Now().Before(l.from) {
		return l.Lease.Renew(ctx)
	}
	if l.err != nil {
		return l.err
	}
	<-ctx.Done()
	return bus.ErrUnavailable
}

// TestLeadLost has a leader lose its lease in different ways: it must stop
// before another one leads, and say so.
func TestLeadLost(t *testing.T) {
	for name, tt := range map[string]struct {
		renewal error // nil: no answer comes
		within  time.Duration
	}{
		"no answer":   {nil, leaseTime},
		"unavailable": {bus.ErrUnavailable, leaseTime + leaseRetry},
		"taken":       {bus.ErrConflict, leaseRenew},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := testCandidate(t, memory.New(), "core")
				from := time.Now().Add(time.Minute)
				c.leases = &frozen{c.leases, from, tt.renewal}
				err := c.lead(t.Context(), func(ctx context.Context, l *leadership) error {
					<-ctx.Done()
					if took := time.Since(from); took > tt.within {
						t.Errorf("told after %s, want %s", took, tt.within)
					}
					if tt.renewal == nil && l.Leading() {
						t.Error("it still believes to lead")
					}
					return ctx.Err()
				})
				coded, ok := errors.AsType[*errDeposed](err)
				if !ok || coded.ExitCode() != 3 {
					t.Errorf("it ended with %v", err)
				}
			})
		})
	}
}

func TestLeadEnds(t *testing.T) {
	boom := errors.New("boom")
	for name, tt := range map[string]struct {
		work    error
		deposed bool
	}{
		"in order":        {nil, false},
		"by a fault":      {boom, false},
		"fenced":          {fmt.Errorf("append: %w", store.ErrLost), true},
		"no longer leads": {fmt.Errorf("append: %w", store.ErrNotLeading), true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := testCandidate(t, memory.New(), "core")
				err := c.lead(t.Context(), func(context.Context, *leadership) error { return tt.work })
				if !errors.Is(err, tt.work) {
					t.Errorf("it ended with %v, want %v", err, tt.work)
				}
				if _, ok := errors.AsType[*errDeposed](err); ok != tt.deposed {
					t.Errorf("it ended with %v, deposed is %v", err, tt.deposed)
				}
			})
		})
	}
}

// TestStandByWithoutKeys has a core refuse to stand by if it could not take
// over.
func TestStandByWithoutKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := memory.New()
		first, second := testCandidate(t, hub, "first"), testCandidate(t, hub, "second")
		second.keyless = errors.New("no keys")
		err := first.lead(t.Context(), func(context.Context, *leadership) error {
			return second.lead(t.Context(), func(context.Context, *leadership) error {
				t.Error("both lead")
				return nil
			})
		})
		if !errors.Is(err, second.keyless) {
			t.Errorf("it said %v", err)
		}
	})
}

func TestLeadStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := memory.New()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Hour, cancel)
		first, second := testCandidate(t, hub, "first"), testCandidate(t, hub, "second")
		err := first.lead(t.Context(), func(context.Context, *leadership) error {
			return second.lead(ctx, nil)
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("waiting ended with %v", err)
		}
	})
}
