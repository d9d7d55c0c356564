package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/core"
)

// openAttempts bounds how often Open follows the records of a leader that goes
// on writing, before its own term record is stored.
const openAttempts = 100

// Open recovers the state from the newest complete snapshot and the log, and
// begins a new term: it appends a record, and whoever led before can append no
// more. It refuses a snapshot or log that is damaged, incomplete, encrypted
// with another key or written by a newer version, and names the record. The
// Store starts nothing; call Run.
func Open(ctx context.Context, config Config) (*Store, error) {
	s, err := newStandby(config)
	if err != nil {
		return nil, err
	}
	return s.Lead(ctx, nil)
}

// readMark reads what the log is known to hold. A mark that is damaged says
// nothing.
func (r *recovery) readMark() error {
	if r.config.MarkFile == "" || r.config.AcceptLoss {
		return nil
	}
	mark, err := ReadMark(r.config.MarkFile)
	if errors.Is(err, ErrDamaged) {
		r.config.Logger.Warn("the mark of the log is of no use", "err", err)
		return nil
	}
	r.config.mark = mark
	return err
}

func newStore(config Config) *Store {
	s := &Store{
		config:  config,
		codec:   newCodec(config.Key),
		done:    make(chan struct{}),
		nudge:   make(chan struct{}, 1), // one token
		compact: make(chan struct{}, 1), // one token
		state:   newState(),
		log:     appender{log: config.Log, name: "WAL", logger: config.Logger},
		overlay: map[core.Key]tentative{},
		rings:   map[core.GroupResource]*ring{},
	}
	return s
}

// recovery builds a store's state. It is used by one goroutine.
type recovery struct {
	config  Config
	codec   *codec // apart from the store's: its decompressor's memory is not kept
	store   *Store
	base    int64 // the snapshot's revision: what is older is in it
	last    int64 // the newest revision of a change
	high    int64 // the newest revision that the log knows of
	floor   int64 // what is older may not be watched from
	records int64
	bytes   int64
	broken  bool // the log holds what must not be read again
	loaded  bool // the state is whole, up to the last record that was applied
	fresh   bool // the last record that was applied begins a new history
}

// reset forgets everything, before an attempt.
func (r *recovery) reset() {
	*r = recovery{config: r.config, codec: r.codec, store: newStore(r.config)}
}

// load recovers the state without changing anything on disk.
func (r *recovery) load(ctx context.Context) error {
	r.reset()
	first, last, err := r.config.Log.Bounds(ctx)
	if err != nil {
		return fmt.Errorf("read bounds of log WAL: %w", err)
	}
	if err := r.checkMark(last); err != nil {
		return err
	}
	g, err := r.loadNewest(ctx, first, last)
	if err != nil {
		return err
	}
	if g == nil && first != 1 {
		return fmt.Errorf("log WAL: %w: records 1 to %d are missing, and there is no snapshot that contains them", ErrLogCut, first-1)
	}
	r.store.stats.generation.Store(g)
	if err := r.accept(r.replay(ctx, last), last); err != nil {
		return err
	}
	r.loaded = true
	return nil
}

// accept ends the replay before what cannot be read, if the configuration says
// so: what is behind it is not looked at.
func (r *recovery) accept(err error, last uint64) error {
	if err == nil || !r.config.AcceptLoss || !Damaged(err) {
		return err
	}
	log := &r.store.log
	r.config.Logger.Warn("records of the log are given up", "from", log.last+1, "to", last, "err", err)
	log.last, r.broken = last, true
	return nil
}

// replay applies the log's records after those that it knows, up to last.
func (r *recovery) replay(ctx context.Context, last uint64) error {
	log := &r.store.log
	if log.last >= last {
		return nil
	}
	p := pipeline{codec: r.codec, name: log.name, next: log.last + 1, last: last, decoders: r.config.Decoders}
	err := p.run(ctx, r.config.Log.Read(ctx, log.last+1), func(d *decoded) error {
		if err := r.checkMarked(d.sequence, d.sum); err != nil {
			return err
		}
		if err := r.apply(d); err != nil {
			return err
		}
		r.records++
		r.bytes += int64(d.size)
		log.last = d.sequence
		return nil
	})
	if err != nil {
		return err
	}
	if log.last < last {
		return fmt.Errorf("log WAL: %w: record %d is missing", ErrLogCut, log.last+1)
	}
	return nil
}

func (r *recovery) apply(d *decoded) error {
	s := r.store
	switch d.kind {
	case kindTerm:
		if d.term <= s.term || d.high < r.high {
			return fmt.Errorf("%w: term %d of revision %d follows term %d of revision %d", ErrDamaged, d.term, d.high, s.term, r.high)
		}
		if d.first == newHistory && r.loaded {
			return errNewHistory
		}
		s.term, r.high, r.fresh = d.term, d.high, d.first == newHistory
		r.resetRings(d.high, d.first == newHistory)
		return nil
	case kindChanges:
		if d.term != s.term {
			return fmt.Errorf("%w: a record of term %d follows one of term %d", ErrDamaged, d.term, s.term)
		}
	default:
		return fmt.Errorf("%w: a %v in the log", ErrDamaged, d.kind)
	}
	r.high, r.fresh = max(r.high, d.high), false
	for i := range d.items {
		it := &d.items[i]
		if it.revision <= r.base {
			continue
		}
		if it.revision <= r.last {
			return fmt.Errorf("%w: revision %d of %s follows revision %d", ErrDamaged, it.revision, it.key, r.last)
		}
		r.last = it.revision
		if err := r.change(it); err != nil {
			return err
		}
	}
	return nil
}

func (r *recovery) change(it *decodedItem) error {
	s := r.store
	ch := change{key: it.key, object: it.object, revision: it.revision, size: it.size, old: s.state.get(it.key)}
	switch {
	case it.kind == itemObject:
		ch.entry = newEntry(it.key, it.object, it.revision, it.size, ch.old)
	case it.kind == itemDeleted && ch.old == nil && r.config.Durability(it.key.GroupResource()) != core.Durable:
		return nil // it was made lazily, and lost
	case it.kind != itemDeleted || ch.old == nil:
		return fmt.Errorf("%w: revision %d deletes %s, which does not exist", ErrDamaged, it.revision, it.key)
	}
	s.apply(&ch)
	return nil
}

// newHistory, as a term record's first revision, says that the log may lack
// what clients have seen of it. A snapshot may follow that replaces the state.
const newHistory = 0

// errNewHistory ends a replay on a state that may be another history's.
var errNewHistory = errors.New("a new history begins")

// resetRings drops the events of what is not durable: some of them may have
// been seen and then lost, so that nobody may resume from before the new term.
// When a new history begins, this is true of all.
func (r *recovery) resetRings(start int64, all bool) {
	s := r.store
	s.start = start
	if all {
		r.floor = start
	}
	for resource, ring := range s.rings {
		if all || r.config.Durability(resource) != core.Durable {
			ring.reset(start)
		}
	}
}

// begin appends the term record. behind is called when somebody else has
// written meanwhile.
func (r *recovery) begin(ctx context.Context, behind func(context.Context) error) error {
	for range openAttempts {
		s := r.store
		// One more than what may have been seen: nobody may resume a watch of
		// what was lost from the very revision at which this term begins.
		start := max(r.high, r.last, r.base) + r.config.jump + 1
		h := header{kind: kindTerm, term: s.term + 1, first: start, high: start}
		if r.config.AcceptLoss {
			h.term, start = newTime(time.Now(), h.term, start)
			h.first, h.high = newHistory, start
		}
		record := r.store.codec.seal(h, nil)
		err := s.log.append(ctx, record)
		again := errors.Is(err, ErrLost)
		if err == nil && r.fresh { // its snapshot may have come just before
			again, err = r.replaced(ctx)
			r.loaded = err == nil && !again
		}
		if !again && err == nil {
			r.bytes += int64(len(record))
			r.records++
			s.term, s.termSum = h.term, recordSum(record)
			r.finish(start)
			return nil
		}
		if !again {
			return err
		}
		if err := behind(ctx); err != nil {
			return err
		}
	}
	return fmt.Errorf("begin a term: %w, and keeps doing so", ErrLost)
}

// newTime returns the term and revision at which a new history begins, no lower
// than the given ones. Other histories may have begun at the same place, such as
// when a backup is restored twice, and nothing here may remember them. But nodes
// follow no lower or equal term, and a watch from a revision ahead would miss
// what is written until then. So both follow the clock: no history has a term a
// millisecond or a thousand changes in one. Where the clock is behind, chance
// keeps them apart.
func newTime(now time.Time, term, start int64) (int64, int64) {
	at := now.UnixMilli()
	if at > term {
		term = at
	} else {
		term += rand.Int64N(1 << 20) //nolint:gosec // no secret
	}
	if at <<= 10; at > start+historyJump {
		start = at
	} else {
		start += historyJump + rand.Int64N(historyJump) //nolint:gosec // no secret
	}
	return term, start
}

// finish makes the store ready at its first revision.
func (r *recovery) finish(start int64) {
	s := r.store
	r.resetRings(start, r.config.AcceptLoss)
	s.floor = max(r.base, r.floor)
	s.revision, s.logged = start, start
	s.stats.logRecords.Store(r.records)
	s.stats.logBytes.Store(r.bytes)
	for _, ring := range s.rings {
		clear(ring.touched)
	}
	s.published.Store(s.state.freeze(start, s.log.last))
	s.batch.high = start
	if r.bytes >= r.config.SnapshotBytes || r.records >= r.config.SnapshotRecords {
		s.compact <- struct{}{}
	}
}

// loadNewest loads the newest snapshot that is whole and whose log is there.
// It returns nil if there is none and the log reaches back to the beginning.
func (r *recovery) loadNewest(ctx context.Context, first, last uint64) (*generation, error) {
	newest, err := r.config.Snapshots.Last(ctx)
	if errors.Is(err, bus.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read last record of log snapshots: %w", err)
	}
	r.checkSnapshotMark(newest)
	var problems []error
	// The usual case needs no scan: the last record is the newest manifest.
	g, err := r.try(ctx, newest, first, last)
	if err == nil {
		return g, nil
	}
	if fatal(ctx, err) {
		return nil, err
	}
	if !errors.Is(err, errNoManifest) {
		problems = append(problems, err)
	}
	manifests, damage, err := r.manifests(ctx)
	if err != nil {
		return nil, err
	}
	problems = append(problems, damage...)
	for _, manifest := range slices.Backward(manifests) {
		if manifest.Sequence == newest.Sequence {
			continue
		}
		g, err := r.try(ctx, manifest, first, last)
		if err == nil {
			r.warn(problems)
			return g, nil
		}
		if fatal(ctx, err) {
			return nil, err
		}
		problems = append(problems, err)
	}
	if len(problems) > 0 && first != 1 {
		return nil, errors.Join(problems...)
	}
	r.warn(problems)
	r.reset()
	return nil, nil
}

func (r *recovery) warn(problems []error) {
	if len(problems) > 0 {
		r.config.Logger.Warn("newest snapshot not usable, recovered from what is older", "err", errors.Join(problems...))
	}
}

// ErrLogCut says that the log lacks records that a snapshot or the mark says were there.
// With an older snapshot, writes that were acknowledged would silently be gone.
var ErrLogCut = errors.New("incomplete")

// Damaged tells whether Open failed because the log is not as it was written;
// Config.AcceptLoss then opens what is left of it.
func Damaged(err error) bool {
	return errors.Is(err, ErrDamaged) || errors.Is(err, ErrLogCut) || errors.Is(err, bus.ErrNotFound)
}

// fatal says that an older snapshot would be no better.
func fatal(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, ErrLogCut) || errors.Is(err, ErrTooNew) ||
		errors.Is(err, ErrWrongKey) || errors.Is(err, bus.ErrUnavailable)
}

// manifests returns the records of all manifests in order, and which records
// are damaged.
func (r *recovery) manifests(ctx context.Context) (manifests []bus.Record, damage []error, err error) {
	first, _, err := r.config.Snapshots.Bounds(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("read bounds of log snapshots: %w", err)
	}
	for record, err := range r.config.Snapshots.Read(ctx, first) {
		if err != nil {
			return nil, nil, fmt.Errorf("read log snapshots: %w", err)
		}
		h, err := readHeader(record.Data)
		switch {
		case errors.Is(err, ErrTooNew):
			return nil, nil, fmt.Errorf("log snapshots: record %d: %w", record.Sequence, err)
		case err != nil:
			damage = append(damage, fmt.Errorf("log snapshots: record %d: %w", record.Sequence, err))
		case h.kind == kindManifest:
			manifests = append(manifests, record)
		}
	}
	return manifests, damage, nil
}

// try loads the snapshot with that manifest.
func (r *recovery) try(ctx context.Context, manifest bus.Record, first, last uint64) (*generation, error) {
	g, err := r.codec.openManifest(manifest)
	if err != nil {
		return nil, fmt.Errorf("log snapshots: record %d: %w", manifest.Sequence, err)
	}
	cut := last < g.Sequence || first > g.Sequence+1
	switch {
	case cut && r.config.AcceptLoss: // the snapshot is what there is
	case last < g.Sequence:
		return nil, fmt.Errorf("log WAL: %w: records %d to %d are missing, the snapshot of revision %d contains them",
			ErrLogCut, last+1, g.Sequence, g.Revision)
	case first > g.Sequence+1:
		return nil, fmt.Errorf("log WAL: %w: records %d to %d are missing after the snapshot of revision %d",
			ErrLogCut, g.Sequence+1, first-1, g.Revision)
	}
	r.reset()
	r.base, r.last, r.high = g.Revision, g.Revision, g.High
	r.store.term, r.store.log.last = g.Term, g.Sequence
	r.store.floor, r.store.start = g.Revision, g.Revision
	p := pipeline{codec: r.codec, name: "snapshots", next: g.First, last: manifest.Sequence - 1, decoders: r.config.Decoders, generation: g}
	objects := 0
	if len(g.Sums) > 0 {
		err = p.run(ctx, r.config.Snapshots.Read(ctx, g.First), func(d *decoded) error {
			return r.restore(d, &objects)
		})
	}
	if err != nil {
		return nil, err
	}
	if p.next <= p.last || objects != g.Objects {
		return nil, fmt.Errorf("log snapshots: %w: %d objects up to record %d, the manifest in record %d says %d",
			ErrDamaged, objects, p.next-1, manifest.Sequence, g.Objects)
	}
	if cut {
		r.config.Logger.Warn("all records of the log are given up for the newest snapshot", "first", first, "last", last, "revision", g.Revision)
		r.store.log.last, r.broken = last, true
	}
	return g, nil
}

// restore puts a chunk's objects into the state.
func (r *recovery) restore(d *decoded, objects *int) error {
	s := r.store
	for i := range d.items {
		it := &d.items[i]
		switch it.kind {
		case itemNewest:
			s.ring(it.key.GroupResource()).setNewest(it.key.Namespace, it.revision)
		case itemObject:
			if !s.state.load(newEntry(it.key, it.object, it.revision, it.size, nil)) {
				return fmt.Errorf("%w: %s is in it twice", ErrDamaged, it.key)
			}
			*objects++
		default:
			return fmt.Errorf("%w: a deletion in a snapshot", ErrDamaged)
		}
	}
	return nil
}
