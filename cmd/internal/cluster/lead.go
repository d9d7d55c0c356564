package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/core/auth"
	"github.com/weftrun/weft/core/store"
)

// The leader's lease. A core that is killed is followed after leaseTime, and
// up to a second more, in which the server counts.
const (
	leaseName  = "leader"
	leaseTime  = 2 * time.Second
	leaseRenew = 500 * time.Millisecond
	leaseRetry = 200 * time.Millisecond
)

// errDeposed ends a core that may not lead any more. Its process has an exit
// code of its own, for whatever starts it again.
type errDeposed struct{ cause error }

func (e *errDeposed) Error() string {
	return fmt.Sprintf("this core leads no longer: %v; another one may have taken over: start this one again, and it stands by", e.cause)
}

func (e *errDeposed) Unwrap() error { return e.cause }

// ExitCode is that of the process.
func (e *errDeposed) ExitCode() int { return 3 }

// deposed tells the errors that mean the loss of leadership from others.
func deposed(err error) error {
	if errors.Is(err, store.ErrNotLeading) || errors.Is(err, store.ErrLost) {
		return &errDeposed{err}
	}
	return err
}

// leadership is the lease of the core that leads.
type leadership struct {
	lease    bus.Lease
	log      *slog.Logger
	deadline atomic.Pointer[time.Time]

	stop   context.CancelFunc // of keep
	kept   chan struct{}      // closed when keep has returned
	lost   error              // valid once kept is closed: why the lease was lost
	resign sync.Once
}

// Leading says whether the lease still runs. Both clocks must say so: the
// monotonic one may stand while a machine sleeps, the other may be set back.
func (l *leadership) Leading() bool {
	now, deadline := time.Now(), l.deadline.Load()
	return now.Before(*deadline) && now.Round(0).Before(deadline.Round(0))
}

// candidate is a core that may lead when it is its turn.
type candidate struct {
	leases bus.Leases
	holder string
	log    *slog.Logger
	// keyless is why this core cannot stand by another one; nil if it can.
	keyless error
	// resigned gets a value when a leader has given up the lease.
	resigned <-chan struct{}
}

// newCandidate checks what a core needs to take over, so that it is said when
// it starts, not when the other core has died. The folder is locked.
func newCandidate(p Paths, leases bus.Leases, log *slog.Logger) (*candidate, error) {
	c := &candidate{leases: leases, log: log}
	var err error
	if c.holder, err = leaseHolder(p.Core()); err != nil {
		return nil, err
	}
	for _, path := range []string{p.Key(), p.PKI()} {
		if _, err := os.Stat(path); err != nil {
			c.keyless = fmt.Errorf("another core leads, and this one cannot take over from it: %w: copy %s and %s from the other's data folder to this one's, with their modes",
				err, p.rel(p.Key()), p.rel(p.PKI()))
			return c, nil // this may be the first core: all is made when it leads
		}
	}
	if _, err := store.LoadOrCreateKey(p.Key()); err != nil {
		return nil, err
	}
	_, err = auth.OpenAuthority(p.PKI())
	return c, err
}

// lead waits until this process may lead, and works as long as it does. work
// is to call giveUp as soon as it writes no more; else the lease is given up
// when it has ended.
func (c *candidate) lead(ctx context.Context, work func(context.Context, *leadership) error) error {
	lease, err := c.awaitLease(ctx)
	if err != nil {
		return err
	}
	lost, err := hold(ctx, lease, c.log, work)
	if lost != nil {
		if err != nil && !errors.Is(err, context.Canceled) {
			c.log.Info("parts of the core ended with the lease", "err", err)
		}
		return &errDeposed{lost}
	}
	return deposed(err)
}

// hold keeps the lease while work works, and gives it up then. lost says why
// it was lost, if it was.
func hold(ctx context.Context, lease bus.Lease, log *slog.Logger, work func(context.Context, *leadership) error) (lost, err error) {
	l := &leadership{lease: lease, log: log, kept: make(chan struct{})}
	l.note()
	// The lease is kept while work drains, since work still writes then.
	keeping, stopKeeping := context.WithCancel(context.WithoutCancel(ctx))
	working, stopWorking := context.WithCancelCause(ctx)
	l.stop = stopKeeping
	go func() {
		defer close(l.kept)
		l.lost = l.keep(keeping)
		stopWorking(l.lost)
	}()
	err = work(working, l)
	stopWorking(nil)
	l.giveUp(ctx)
	return l.lost, err
}

// giveUp resigns the lease, once, and only if it was not lost.
func (l *leadership) giveUp(ctx context.Context) {
	l.resign.Do(func() {
		l.stop()
		<-l.kept
		if l.lost != nil {
			return
		}
		resigning, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if err := l.lease.Resign(resigning); err != nil {
			l.log.Info("the lease was not given up, it runs out", "err", err)
		}
	})
}

// awaitLease takes the lease, waiting while another core holds it.
func (c *candidate) awaitLease(ctx context.Context) (bus.Lease, error) {
	said := ""
	for {
		asking, cancel := context.WithTimeout(ctx, leaseTime)
		lease, err := c.leases.Acquire(asking, leaseName, c.holder, leaseTime)
		cancel()
		switch {
		case err == nil:
			c.log.Info("this core leads", "holder", c.holder)
			return lease, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, bus.ErrRefused):
			return nil, fmt.Errorf("take the leader's lease: %w", err)
		case err.Error() == said: // said once
		case errors.Is(err, bus.ErrConflict) && c.keyless != nil:
			return nil, c.keyless
		case errors.Is(err, bus.ErrConflict):
			c.log.Info("another core leads, this one stands by", "err", err)
		default:
			c.log.Warn("the leader's lease cannot be taken, trying again", "err", err)
		}
		said = err.Error()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-c.resigned:
		case <-time.After(leaseRetry):
		}
	}
}

func (l *leadership) note() {
	deadline := l.lease.Deadline()
	l.deadline.Store(&deadline)
}

// keep renews the lease until ctx ends, or returns why it is lost.
func (l *leadership) keep(ctx context.Context) error {
	for wait := leaseRenew; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		asking, cancel := context.WithDeadline(ctx, *l.deadline.Load())
		err := l.lease.Renew(asking)
		cancel()
		switch {
		case err == nil:
			l.note()
			wait = leaseRenew
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, bus.ErrConflict), !l.Leading():
			return fmt.Errorf("the lease was not renewed in time: %w", err)
		default:
			wait = leaseRetry
		}
	}
}

// leaseHolder names this process among all cores of a cluster: the machine's
// name, and what tells the locked folder from all others. A core that starts
// again on the folder of one that was killed takes over its lease at once: the
// folder's lock says that the other is gone.
func leaseHolder(folder string) (string, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "core"
	}
	info, err := os.Stat(filepath.Join(folder, "lock"))
	if err != nil {
		return "", fmt.Errorf("name this core: %w", err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	id, ok := info.Sys().(*syscall.Stat_t)
	if err != nil || !ok {
		return fmt.Sprintf("%s/%d/%d", host, os.Getpid(), time.Now().UnixNano()), nil
	}
	return fmt.Sprintf("%s/%s/%d.%d", host, strings.TrimSpace(string(boot)), id.Dev, id.Ino), nil
}
