package store

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/core"
)

// batch is what the committer works on.
type batch struct {
	commits []*commit
	durable bool
	logged  bool // it is in the log, whether it had to be or not
	size    int
	high    int64 // the newest revision given to anything

	// backlog holds lazy changes that are visible but not yet in the log.
	backlog     []item
	backlogSize int
	backlogDue  time.Time

	refused int       // records, since the log took the last one
	said    time.Time // when that was told last
}

// sayEvery is how often it is told that the log takes no records.
const sayEvery = time.Minute

// Run commits, writes snapshots and flushes lazy changes until ctx ends; then
// it finishes what was accepted, and returns nil, or an error if that took
// longer than Config.DrainTimeout. It returns early with an error that wraps
// ErrLost or ErrNotLeading when this store must not write any more. Afterwards the store has ended: it can be
// read, but neither written nor watched. Run may be called once.
func (s *Store) Run(ctx context.Context) error {
	// The log's operations outlive ctx, so that their outcome gets known.
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	finished := make(chan struct{})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(finished)
		return s.commitLoop(ctx, work)
	})
	g.Go(func() error {
		select {
		case <-finished:
			return nil
		case <-ctx.Done():
		}
		t := time.NewTimer(s.config.DrainTimeout)
		defer t.Stop()
		select {
		case <-finished:
		case <-t.C:
			cancel(fmt.Errorf("drain took longer than %v", s.config.DrainTimeout))
		}
		return nil
	})
	g.Go(func() error { return s.compactLoop(ctx, finished) })
	return errors.Join(g.Wait(), s.mark.close())
}

func (s *Store) commitLoop(ctx, work context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		more, err := s.step(work, false)
		if err != nil {
			return err
		}
		if more {
			// Those whose commits have just returned go first: what they
			// commit next goes with this record, not the one after.
			runtime.Gosched()
			continue
		}
		if len(s.batch.backlog) > 0 {
			timer.Reset(time.Until(s.batch.backlogDue))
		} else {
			timer.Stop()
		}
		select {
		case <-s.nudge:
		case <-timer.C:
		case <-ctx.Done():
			return s.drain(work)
		}
	}
}

// drain finishes what was accepted and ends the store.
func (s *Store) drain(work context.Context) error {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	for {
		more, err := s.step(work, true)
		if err != nil {
			return err
		}
		if !more {
			s.end(errStopped, nil)
			return nil
		}
	}
}

// step takes what waits, logs it if it must be, and shows it. It returns false
// when there was nothing to do.
func (s *Store) step(ctx context.Context, flush bool) (bool, error) {
	b := &s.batch
	s.take()
	b.logged = b.durable || s.flushDue(flush)
	if !b.logged && len(b.commits) == 0 {
		return false, nil
	}
	if b.logged {
		err := s.write(ctx)
		if errors.Is(err, bus.ErrRefused) {
			s.refuse(err)
			return false, nil
		}
		if err != nil {
			s.end(err, b.commits)
			return false, err
		}
	}
	if !s.config.Leading() {
		s.end(ErrNotLeading, b.commits)
		return false, ErrNotLeading
	}
	s.show()
	return true, nil
}

// take fills the batch with commits in order, to the size of one record. While
// the backlog alone fills one, it takes none.
func (s *Store) take() {
	b := &s.batch
	b.commits, b.durable, b.size = b.commits[:0], false, 0
	s.mu.Lock()
	defer s.mu.Unlock()
	b.high = s.revision
	if b.backlogSize >= backlogSize {
		return
	}
	for s.pending.len() > 0 {
		c := s.pending.all()[0]
		if len(b.commits) > 0 && b.size+c.size > packSize {
			return
		}
		b.commits = append(b.commits, s.next())
		b.size += c.size
		b.durable = b.durable || c.durable
	}
}

// next takes the oldest commit that waits; s.mu is held.
func (s *Store) next() *commit {
	c := s.pending.pop()
	s.waiting -= c.weight
	return c
}

// flushDue says whether a record is to be written although no commit waits for
// it.
func (s *Store) flushDue(now bool) bool {
	b := &s.batch
	if n := len(b.backlog); n > 0 && (now || b.backlogSize >= backlogSize || !time.Now().Before(b.backlogDue)) {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.published.Load().revision > s.logged+s.config.jump/2
}

// write appends one record with the backlog and the batch.
func (s *Store) write(ctx context.Context) error {
	b := &s.batch
	h := header{kind: kindChanges, term: s.term, first: b.high, high: b.high}
	body := make([]byte, 0, b.size+b.backlogSize+64*len(b.backlog))
	add := func(it item) {
		if h.count == 0 {
			h.first = it.revision
		}
		h.count++
		body = appendItem(body, h.first, it)
	}
	for _, it := range b.backlog {
		add(it)
	}
	for _, c := range b.commits {
		for i := range c.changes {
			if ch := &c.changes[i]; ch.durability != core.Volatile {
				add(ch.item())
			}
		}
	}
	record := s.codec.seal(h, body)
	begin := time.Now()
	if err := s.log.append(ctx, record); err != nil {
		return err
	}
	s.config.Appended(time.Since(begin))
	if b.refused > 0 {
		s.config.Logger.Info("log takes records again", "refused", b.refused)
		b.refused, b.said = 0, time.Time{}
	}
	s.setMark(recordSum(record))
	b.backlog, b.backlogSize = nil, 0
	s.stats.appends.Add(1)
	s.count(int64(len(record)))
	s.mu.Lock()
	s.logged = max(s.logged, h.high)
	s.mu.Unlock()
	return nil
}

// setMark notes the newest record, before anyone hears that it is stored. The
// state is safe without the mark, so an error of it stops nothing.
func (s *Store) setMark(sum uint32) {
	m := Mark{Sequence: s.log.last, Sum: sum}
	if g := s.stats.generation.Load(); g != nil {
		m.Snapshot = g.manifest()
	}
	if err := s.mark.set(m); err != nil && !s.mark.said {
		s.mark.said = true
		s.config.Logger.Warn("damage to the log could go unnoticed", "err", err)
	}
}

func (ch *change) item() item {
	it := item{kind: itemDeleted, revision: ch.revision, key: ch.key}
	if ch.object != nil {
		it.kind, it.data = itemObject, ch.data
	}
	return it
}

// count adds a record to what the next snapshot will replace.
func (s *Store) count(size int64) {
	records, bytes := s.stats.logRecords.Add(1), s.stats.logBytes.Add(size)
	limit := s.config.SnapshotBytes
	if g := s.stats.generation.Load(); g != nil {
		limit = max(limit, g.Bytes) // a large state must not be written over and over
	}
	if records >= s.config.SnapshotRecords || bytes >= limit {
		select {
		case s.compact <- struct{}{}:
		default: // it is due already
		}
	}
}

// refuse fails everything that waits, because the log takes no record now, and
// forgets the tentative state: nobody has been shown any of it.
func (s *Store) refuse(err error) {
	b := &s.batch
	if b.refused++; time.Since(b.said) >= sayEvery {
		b.said = time.Now()
		s.config.Logger.Error("log refuses records, writes fail", "err", err, "refused", b.refused)
	}
	b.backlogDue = time.Now().Add(s.config.LazyFlush)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range b.commits {
		c.finish(refusedByLog(err))
	}
	for s.pending.len() > 0 {
		s.next().finish(refusedByLog(err))
	}
	clear(s.overlay)
	s.newest, s.refused = nil, s.revision
	s.epoch.Add(1)
	for _, w := range s.waiters {
		w.reached <- unavailable(errRefused) // there is room: nothing was sent
	}
	clear(s.waiters)
	s.waiters = s.waiters[:0]
}

// show makes the batch visible and lets its callers return.
func (s *Store) show() {
	b := &s.batch
	if len(b.commits) == 0 {
		return
	}
	s.applying.Lock()
	touched := make(map[*ring]struct{}, 4)
	var last int64
	for _, c := range b.commits {
		for i := range c.changes {
			ch := &c.changes[i]
			last = ch.revision
			touched[s.apply(ch)] = struct{}{}
			if !b.logged && ch.durability == core.Lazy {
				s.postpone(ch.item())
			}
		}
	}
	s.publish(s.state.freeze(last, s.log.last))
	s.applying.Unlock()
	for r := range touched {
		r.wake()
	}
	for _, c := range b.commits {
		c.finish(nil)
	}
	s.stats.commits.Add(int64(len(b.commits)))
	clear(b.commits)
}

func (s *Store) postpone(it item) {
	b := &s.batch
	if len(b.backlog) == 0 {
		b.backlogDue = time.Now().Add(s.config.LazyFlush)
	}
	b.backlog = append(b.backlog, it)
	b.backlogSize += len(it.data) + 64
}

// apply performs one change on the live state and puts it into its ring.
func (s *Store) apply(ch *change) *ring {
	e := &event{Change: core.Change{Key: ch.key, Object: ch.object, Revision: ch.revision}, size: ch.size}
	if ch.old != nil {
		e.Key, e.Old = ch.old.key, ch.old.object
	}
	if ch.entry != nil {
		e.Key = ch.entry.key
		s.state.set(ch.entry, ch.old)
	} else {
		e.Deleted = true
		e.Object = core.Copy(ch.old.object)
		e.Object.SetResourceVersion(core.FormatRevision(ch.revision))
		e.size = ch.old.size
		s.state.remove(ch.old)
	}
	r := s.ring(ch.key.GroupResource())
	r.push(e)
	return r
}

// publish shows v to readers, drops the tentative state that it contains, and
// lets those go who waited for its revision.
func (s *Store) publish(v *view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.published.Store(v)
	for _, c := range s.batch.commits {
		for i := range c.changes {
			ch := &c.changes[i]
			if s.overlay[ch.key].revision == ch.revision {
				delete(s.overlay, ch.key)
			}
		}
	}
	if s.pending.len() == 0 {
		s.newest = nil
	}
	waiting := s.waiters[:0]
	for _, w := range s.waiters {
		if w.revision <= v.revision {
			w.reached <- nil // there is room: nothing was sent
		} else {
			waiting = append(waiting, w)
		}
	}
	clear(s.waiters[len(waiting):])
	s.waiters = waiting
}
