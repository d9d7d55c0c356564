package store

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/weftrun/weft/core"
)

// Store implements core.Store. Open makes one; its Run must run for commits to
// return. All methods may be called concurrently.
type Store struct {
	config    Config
	codec     *codec
	term      int64
	published atomic.Pointer[view]
	done      chan struct{} // closed when the store has ended
	nudge     chan struct{} // one token: the committer has something to do
	compact   chan struct{} // one token: a snapshot is due

	// The committer's own: nobody else touches them while Run runs.
	state *state
	log   appender
	batch batch
	mark  marker

	termSum uint32 // the checksum of this term's first record

	// applying is held while a batch becomes visible, so that a snapshot's
	// view and the rings' newest revisions belong together. It is taken before
	// the mutexes below.
	applying sync.Mutex

	// writing lets one snapshot be written at a time.
	writing sync.Mutex

	epoch atomic.Uint64 // how often the tentative state was given up

	// mu guards the tentative state.
	mu       sync.Mutex
	err      error // why the store has ended
	closing  bool  // no further commits
	revision int64 // the newest given to anything
	logged   int64 // the header's high of the newest record that is stored
	overlay  map[core.Key]tentative
	pending  queue[*commit]
	newest   *commit // the last that was queued; nil: it is committed or refused
	waiting  int     // the weight of pending
	waiters  []waiter
	refused  int64 // no revision after the newest committed one up to this will be

	ringsMu sync.RWMutex
	rings   map[core.GroupResource]*ring
	floor   int64 // of rings yet to be made: of durable resources,
	start   int64 // and of others: the first revision of this term

	stats counters
}

// tentative is the newest state of an object that is on its way to the log.
type tentative struct {
	entry    *entry // nil when it is deleted
	revision int64
}

type waiter struct {
	revision int64
	reached  chan error // holds the one result
}

var _ core.Store = (*Store)(nil)

// Stats says how a store does.
type Stats struct {
	Revision   int64  // newest committed
	Objects    int    // committed objects
	Sequence   uint64 // newest record in the log
	LogRecords int64  // records since the last snapshot
	LogBytes   int64  // their bytes
	Pending    int    // commits that wait for the log
	// SnapshotRevision and SnapshotTime are those of the newest complete
	// snapshot; zero when there is none.
	SnapshotRevision int64
	SnapshotTime     time.Time
	// Appends counts the records written by this process, Commits what they
	// carried.
	Appends, Commits int64
}

type counters struct {
	logRecords, logBytes, appends, commits atomic.Int64
	generation                             atomic.Pointer[generation]
}

// Term returns the number of this leadership: higher than that of any store
// that opened the log before.
func (s *Store) Term() int64 { return s.term }

// Stats returns figures about the store.
func (s *Store) Stats() Stats {
	v := s.published.Load()
	st := Stats{
		Revision: v.revision, Objects: v.objects, Sequence: v.sequence,
		LogRecords: s.stats.logRecords.Load(), LogBytes: s.stats.logBytes.Load(),
		Appends: s.stats.appends.Load(), Commits: s.stats.commits.Load(),
	}
	s.mu.Lock()
	st.Pending = s.pending.len()
	s.mu.Unlock()
	if g := s.stats.generation.Load(); g != nil {
		st.SnapshotRevision, st.SnapshotTime = g.Revision, g.Written
	}
	return st
}

// Snapshot implements core.Store. It is one atomic load.
func (s *Store) Snapshot() core.Snapshot { return s.published.Load() }

// Latest implements core.Store.
func (s *Store) Latest(key core.Key) (core.Object, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.latest(key).entry; e != nil {
		return e.object, true
	}
	return nil, false
}

// latest returns the newest state of an object; s.mu is held.
func (s *Store) latest(key core.Key) tentative {
	if t, ok := s.overlay[key]; ok {
		return t
	}
	if e := s.published.Load().get(key); e != nil {
		return tentative{entry: e, revision: e.revision}
	}
	return tentative{}
}

// WaitFor implements core.Store.
func (s *Store) WaitFor(ctx context.Context, revision int64) (core.Snapshot, error) {
	reached, err := s.await(revision)
	if err != nil {
		return nil, err
	}
	if reached != nil {
		select {
		case err := <-reached:
			if err != nil {
				return nil, err
			}
		case <-s.done:
			return nil, s.ended()
		case <-ctx.Done():
			s.forget(reached)
			return nil, apierrors.NewTimeoutError(
				fmt.Sprintf("revision %d is not reached, the newest is %d", revision, s.published.Load().revision), 1)
		}
	}
	v := s.published.Load()
	// After the snapshot was taken: a leadership that has ended meanwhile has
	// perhaps missed a successor's writes.
	if !s.config.Leading() {
		return nil, unavailable(ErrNotLeading)
	}
	return v, nil
}

// await returns a channel that tells when revision is committed, or will not
// be; nil if it is.
func (s *Store) await(revision int64) (<-chan error, error) {
	if s.published.Load().revision >= revision {
		return nil, s.ended()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, unavailable(s.err)
	}
	if s.published.Load().revision >= revision {
		return nil, nil
	}
	if revision <= s.refused {
		return nil, unavailable(errRefused)
	}
	reached := make(chan error, 1)
	s.waiters = append(s.waiters, waiter{revision, reached})
	return reached, nil
}

func (s *Store) forget(reached <-chan error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, w := range s.waiters {
		if w.reached == reached {
			s.waiters = append(s.waiters[:i], s.waiters[i+1:]...)
			return
		}
	}
}

// Epoch implements core.Store.
func (s *Store) Epoch() uint64 { return s.epoch.Load() }

// Settled implements core.Store.
func (s *Store) Settled(ctx context.Context, epoch uint64) error {
	s.mu.Lock()
	err, now, newest := s.err, s.epoch.Load(), s.newest
	s.mu.Unlock()
	switch {
	case err != nil:
		return unavailable(err)
	case now != epoch:
		return unavailable(errRefused)
	}
	if newest != nil {
		select {
		case <-newest.done:
			if newest.err != nil {
				return unavailable(newest.err)
			}
		case <-ctx.Done():
			return apierrors.NewTimeoutError("what this rests on is not committed yet: "+context.Cause(ctx).Error(), 1)
		}
	}
	if !s.config.Leading() { // as for WaitFor
		return unavailable(ErrNotLeading)
	}
	return nil
}

// ended returns an API error if the store has ended.
func (s *Store) ended() error {
	select {
	case <-s.done:
	default:
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return unavailable(s.err)
}

// end stops everything for the reason err: whatever waits gets an error. The
// outcome of unknown's commits is not known; the rest never left.
func (s *Store) end(err error, unknown []*commit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	s.err = err
	for _, c := range unknown {
		c.finish(unknownOutcome(err))
	}
	for s.pending.len() > 0 {
		s.next().finish(unavailable(err))
	}
	close(s.done)
}

// ring returns the ring of a resource.
func (s *Store) ring(resource core.GroupResource) *ring {
	s.ringsMu.RLock()
	r := s.rings[resource]
	s.ringsMu.RUnlock()
	if r != nil {
		return r
	}
	s.ringsMu.Lock()
	defer s.ringsMu.Unlock()
	if r = s.rings[resource]; r == nil {
		floor := s.floor
		if s.config.Durability(resource) != core.Durable {
			floor = s.start
		}
		r = newRing(s.config.RingEvents, s.config.RingBytes, floor)
		s.rings[resource] = r
	}
	return r
}
