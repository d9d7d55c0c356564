package store

import (
	"context"
	"sync"

	"github.com/weftrun/weft/core"
)

// watchBatch bounds what one Next returns, so that a reader far behind does
// not hold the ring's lock for long.
const watchBatch = 1024

// watch implements core.Watch: a position in a ring's stream. It has no
// goroutine.
type watch struct {
	store     *Store
	ring      *ring
	stream    *stream
	resource  core.GroupResource
	namespace string
	position  int64 // everything up to here has been returned

	wake   chan struct{} // holds one token, so that no wake is lost
	closed chan struct{}
	once   sync.Once
}

// Watch implements core.Store. It costs no goroutine.
func (s *Store) Watch(resource core.GroupResource, namespace string, from int64) (core.Watch, error) {
	if err := s.ended(); err != nil {
		return nil, err
	}
	w := &watch{
		store: s, ring: s.ring(resource), resource: resource, namespace: namespace, position: from,
		wake: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	st, floor := w.ring.join(w, namespace, from)
	if st == nil {
		return nil, expired(from, floor)
	}
	w.stream = st
	return w, nil
}

func (w *watch) notify() {
	select {
	case w.wake <- struct{}{}:
	default: // it has a token
	}
}

// Next implements core.Watch.
func (w *watch) Next(ctx context.Context) ([]core.Change, error) {
	ended := false
	for {
		select {
		case <-w.closed:
			return nil, errWatchClosed
		default:
		}
		until := w.store.published.Load().revision
		changes, ok := w.ring.read(w.stream, w.position, until, watchBatch)
		if !ok {
			return nil, expired(w.position, w.ring.floorOf(w.stream))
		}
		if len(changes) > 0 {
			w.position = changes[len(changes)-1].Revision
			return changes, nil
		}
		w.position = max(w.position, until)
		if ended { // and everything before the end was returned
			return nil, w.store.ended()
		}
		select {
		case <-w.wake:
		case <-w.closed:
			return nil, errWatchClosed
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-w.store.done:
			ended = true
		}
	}
}

// Revision implements core.Watch. It advances with the whole store, also when
// nothing matches.
func (w *watch) Revision() int64 {
	until := w.store.published.Load().revision // before looking: what comes later is not covered
	if until > w.position && !w.ring.pending(w.stream, w.position) {
		w.position = until
	}
	return w.position
}

// Close implements core.Watch.
func (w *watch) Close() {
	w.once.Do(func() {
		close(w.closed)
		w.ring.leave(w, w.namespace, w.stream)
	})
}
