package store

import (
	"sort"
	"sync"

	"github.com/weftrun/weft/core"
)

// eventOverhead is what an event costs in a ring besides its object, in bytes.
const eventOverhead = 256

type event struct {
	core.Change
	size int
}

// ring keeps the recent changes of one resource, in the order of their
// revisions, and wakes those who wait for more. Changes stand in it a moment
// before they are committed for all to see: readers pass the newest revision
// that is, and see none beyond.
type ring struct {
	maxEvents, maxBytes int

	mu     sync.Mutex
	recent stream
	bytes  int
	// spaces hold the events of each namespace once more, so that a reader of
	// one neither pays for the others nor falls behind because of them. A
	// namespace without events and readers has none.
	spaces map[string]*stream
	// newest revision of each namespace, for core.Change.Previous.
	newest map[string]int64
	// touched since the last wake.
	touched map[*stream]struct{}
}

// stream is a row of events with its readers.
type stream struct {
	floor   int64 // revisions up to here have been dropped, or were never had
	events  queue[*event]
	readers map[*watch]struct{}
}

func newRing(maxEvents, maxBytes int, floor int64) *ring {
	return &ring{
		maxEvents: maxEvents, maxBytes: maxBytes,
		recent:  stream{floor: floor, readers: map[*watch]struct{}{}},
		spaces:  map[string]*stream{},
		newest:  map[string]int64{},
		touched: map[*stream]struct{}{},
	}
}

// reset drops all events; revisions up to floor are gone.
func (r *ring) reset(floor int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recent.floor, r.recent.events, r.bytes = floor, queue[*event]{}, 0
	r.spaces = map[string]*stream{}
}

// setNewest says what the newest revision of a namespace was before all events.
func (r *ring) setNewest(namespace string, revision int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.newest[namespace] = max(r.newest[namespace], revision)
}

// push appends e and drops what is beyond the bounds. It sets e.Previous.
func (r *ring) push(e *event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	namespace := e.Key.Namespace
	e.Previous = r.newest[namespace]
	r.newest[namespace] = e.Revision
	e.size += eventOverhead
	r.bytes += e.size
	r.recent.events.push(e)
	r.touched[&r.recent] = struct{}{}
	if namespace != "" {
		s := r.space(namespace)
		s.events.push(e)
		r.touched[s] = struct{}{}
	}
	for r.recent.events.len() > 1 && (r.recent.events.len() > r.maxEvents || r.bytes > r.maxBytes) {
		r.drop()
	}
}

// space returns the stream of a namespace. A new one knows only what came
// after all that was ever dropped.
func (r *ring) space(namespace string) *stream {
	s := r.spaces[namespace]
	if s == nil {
		s = &stream{floor: r.recent.floor, readers: map[*watch]struct{}{}}
		r.spaces[namespace] = s
	}
	return s
}

func (r *ring) drop() {
	e := r.recent.events.pop()
	r.recent.floor = e.Revision
	r.bytes -= e.size
	if s := r.spaces[e.Key.Namespace]; s != nil {
		s.events.pop()
		s.floor = e.Revision
		r.tidy(e.Key.Namespace, s)
	}
}

func (r *ring) tidy(namespace string, s *stream) {
	if s.events.len() == 0 && len(s.readers) == 0 {
		delete(r.spaces, namespace)
		delete(r.touched, s)
	}
}

// wake tells the readers of all that was pushed since the last call.
func (r *ring) wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.touched {
		for w := range s.readers {
			w.notify()
		}
	}
	clear(r.touched)
}

// join adds a reader that has seen everything up to from, or returns the
// floor that from lies below.
func (r *ring) join(w *watch, namespace string, from int64) (*stream, int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.recent
	if namespace != "" {
		s = r.space(namespace)
	}
	if from < s.floor {
		floor := s.floor
		r.leaveLocked(w, namespace, s)
		return nil, floor
	}
	s.readers[w] = struct{}{}
	return s, 0
}

func (r *ring) leave(w *watch, namespace string, s *stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leaveLocked(w, namespace, s)
}

func (r *ring) leaveLocked(w *watch, namespace string, s *stream) {
	delete(s.readers, w)
	if namespace != "" {
		r.tidy(namespace, s)
	}
}

// read returns at most limit changes of s after from and up to until, or false
// if some of them are gone.
func (r *ring) read(s *stream, from, until int64, limit int) ([]core.Change, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if from < s.floor {
		return nil, false
	}
	events := s.events.all()
	start := sort.Search(len(events), func(i int) bool { return events[i].Revision > from })
	events = events[start:]
	end := sort.Search(len(events), func(i int) bool { return events[i].Revision > until })
	events = events[:min(end, limit)]
	if len(events) == 0 {
		return nil, true
	}
	changes := make([]core.Change, len(events))
	for i, e := range events {
		changes[i] = e.Change
	}
	return changes, true
}

// pending says whether a change after from exists that is not yet read, or is
// gone.
func (r *ring) pending(s *stream, from int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := s.events.all()
	return from < s.floor || len(events) > 0 && events[len(events)-1].Revision > from
}

// newestIn returns a copy of the newest revisions by namespace.
func (r *ring) newestIn(keep func(namespace string, revision int64) bool) map[string]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[string]int64, len(r.newest))
	for namespace, revision := range r.newest {
		if revision > r.recent.floor || keep(namespace, revision) {
			all[namespace] = revision
		} else {
			delete(r.newest, namespace)
		}
	}
	return all
}

func (r *ring) floorOf(s *stream) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return s.floor
}
