package reconcile

import (
	"container/heap"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/weftrun/weft/core"
)

// The pace of the queue.
const (
	minBackoff = 5 * time.Millisecond
	maxBackoff = 5 * time.Minute
	// minGap and maxGap bound the pause between two rounds of one parent. In
	// between it is share times what the last round cost to observe and
	// decide, so that a parent gets at most 1/(share+1) of a worker, and what
	// happens meanwhile is seen by one round.
	minGap   = 4 * time.Millisecond
	maxGap   = 250 * time.Millisecond
	gapShare = 3
	// hotRounds is how many rounds in succession may write although nothing
	// but the parent's own writes has changed.
	hotRounds   = 25
	minHotPause = 100 * time.Millisecond
	maxHotPause = 30 * time.Second
	// timerIsOutside is the least RequeueAfter that counts as a change of the
	// world: a clock may be a reason to write each second.
	timerIsOutside = time.Second
	// maxPending bounds the revisions remembered while a round runs.
	maxPending = 16384
	// maxTogether is how many parents of one controller are decided at once.
	// One that does not answer, or takes its time, then holds so many workers
	// at most, and those are replaced: see reconciler.work.
	maxTogether = 8
)

// subject is what a round is about: one parent, seen by one controller.
type subject struct {
	controller string
	key        core.Key
}

// work is the state that the queue keeps of a subject.
type work struct {
	subject
	at    time.Time // when it is due; meaningful while index >= 0
	order uint64    // first come, first served among equals
	index int       // in its lane's heap; -1 if it waits for nothing
	lane  *lane

	running bool
	again   bool // asked for while running
	// outside says that something other than this subject's own writes has
	// changed since the last round began; pending holds the revisions of
	// which that is not known before the round is over.
	outside bool
	pending []int64
	timer   time.Time // the RequeueAfter of the last round

	ended    time.Time     // of the last round
	cost     time.Duration // of its observation and decision
	failures int           // rounds in succession that failed
	hot      int           // rounds in succession that wrote without a reason from outside
	spurred  bool          // the current round has a reason from outside

	state parentState
}

// parentState is what a subject's rounds tell each other.
type parentState struct {
	uid      string
	atLeast  int64   // the revision that the next observation must hold
	own      []int64 // revisions that the last round wrote, in order
	before   []int64 // and those of the round before
	failures []core.Failure
}

// begin starts a new round.
func (s *parentState) begin() { s.own, s.before = s.before[:0], s.own }

// end ends it.
func (s *parentState) end() { slices.Sort(s.own) }

func (s *parentState) wrote(revision int64) bool {
	_, last := slices.BinarySearch(s.own, revision)
	_, before := slices.BinarySearch(s.before, revision)
	return last || before
}

// outcome is how a round ended.
type outcome struct {
	err     error
	gone    bool // the parent does not exist
	wrote   bool
	requeue time.Duration // 0: when something changes
	cost    time.Duration
}

// queue orders rounds: a subject is never decided by two workers at once,
// bursts coalesce, failures back off. It is safe for concurrent use.
type queue struct {
	wake chan struct{} // holds one token: some worker should look again

	mu    sync.Mutex
	works map[subject]*work
	lanes map[string]*lane // by controller; one without works is dropped
	order uint64
}

// lane holds the subjects of one controller.
type lane struct {
	due     dueHeap
	works   int // known of it
	running int // of those
}

func newQueue() *queue {
	return &queue{wake: make(chan struct{}, 1), works: map[subject]*work{}, lanes: map[string]*lane{}}
}

// know begins to keep a subject's state.
func (q *queue) know(s subject) *work {
	l, ok := q.lanes[s.controller]
	if !ok {
		l = &lane{}
		q.lanes[s.controller] = l
	}
	l.works++
	w := &work{subject: s, index: -1, lane: l}
	q.works[s] = w
	return w
}

// forget drops it.
func (q *queue) forget(w *work) {
	delete(q.works, w.subject)
	if w.lane.works--; w.lane.works == 0 {
		delete(q.lanes, w.controller)
	}
}

// add asks for a round of s. Revision is that of the change which is the
// reason, or 0 for one that is certainly not s's own.
func (q *queue) add(s subject, revision int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w, ok := q.works[s]
	if !ok {
		w = q.know(s)
	}
	if w.running {
		w.again = true
		if revision == 0 || len(w.pending) >= maxPending {
			w.outside = true
		} else if !w.outside {
			w.pending = append(w.pending, revision)
		}
		return
	}
	own := revision != 0 && w.state.wrote(revision)
	if !own {
		w.outside = true
	} else if w.failures > 0 || w.hot > hotRounds {
		return // it waits already, and its own writes are no reason to wait less
	}
	at := time.Now()
	if pause := w.ended.Add(gap(w.cost)); pause.After(at) {
		at = pause
	}
	q.schedule(w, at)
}

// schedule makes w due at a time, or earlier if it already was.
func (q *queue) schedule(w *work, at time.Time) {
	switch {
	case w.index < 0:
		q.order++
		w.at, w.order = at, q.order
		heap.Push(&w.lane.due, w)
	case at.Before(w.at):
		w.at = at
		heap.Fix(&w.lane.due, w.index)
	default:
		return
	}
	if w.lane.due[0] == w {
		q.signal()
	}
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// next waits for the subject that is due and marks it as running. It returns
// nil when ctx ends. The work belongs to the caller until done.
func (q *queue) next(ctx context.Context) *work {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		w, wait := q.pop()
		if w != nil {
			return w
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-q.wake:
		case <-timer.C:
		}
	}
}

// pop takes the first subject if it is due; otherwise it returns how long to
// wait.
func (q *queue) pop() (*work, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.first()
	if l == nil {
		return nil, time.Hour
	}
	now := time.Now()
	if wait := l.due[0].at.Sub(now); wait > 0 {
		return nil, wait
	}
	w, _ := heap.Pop(&l.due).(*work)
	l.running++
	w.running = true
	if q.first() != nil {
		q.signal() // another worker may take the next one, or wait for it
	}
	w.spurred = w.outside || (!w.timer.IsZero() && !now.Before(w.timer))
	w.outside, w.again, w.timer = false, false, time.Time{}
	return w, 0
}

// first returns the lane whose turn is next, of those that may have another
// round; nil if none has anything to do.
func (q *queue) first() *lane {
	var first *lane
	for _, l := range q.lanes {
		if len(l.due) > 0 && l.running < maxTogether && (first == nil || l.due[0].before(first.due[0])) {
			first = l
		}
	}
	return first
}

// done ends the round of w. It returns true when w has become a hot loop and
// was slowed down.
func (q *queue) done(w *work, o outcome) (hot bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if w.lane.running == maxTogether {
		q.signal() // others of its lane may have waited for it to end
	}
	w.lane.running--
	w.running, w.ended, w.cost = false, now, o.cost
	for _, revision := range w.pending {
		w.outside = w.outside || !w.state.wrote(revision)
	}
	w.pending = w.pending[:0]
	if o.gone && !w.again {
		q.forget(w)
		return false
	}
	if o.err != nil {
		w.failures++
		q.schedule(w, now.Add(backoff(w.failures, minBackoff, maxBackoff)))
		if w.again && w.outside {
			q.schedule(w, now.Add(max(gap(o.cost), backoff(min(w.failures, 8), minBackoff, maxBackoff))))
		}
		return false
	}
	w.failures = 0
	if o.wrote && !w.spurred {
		w.hot++
	} else {
		w.hot = 0
	}
	if w.hot > hotRounds && !w.outside {
		q.schedule(w, now.Add(backoff(w.hot-hotRounds, minHotPause, maxHotPause)))
		return true
	}
	if w.again {
		q.schedule(w, now.Add(gap(o.cost)))
	}
	if o.requeue > 0 {
		if o.requeue >= timerIsOutside {
			w.timer = now.Add(o.requeue)
		}
		q.schedule(w, now.Add(o.requeue))
	}
	return false
}

// size returns how many subjects are known.
func (q *queue) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.works)
}

func gap(cost time.Duration) time.Duration {
	return min(max(gapShare*cost, minGap), maxGap)
}

// backoff doubles from low for each failure after the first, up to high.
func backoff(failures int, low, high time.Duration) time.Duration {
	if failures > 30 {
		return high
	}
	return min(low<<max(failures-1, 0), high)
}

// dueHeap orders works by when they are due.
type dueHeap []*work

// before tells whose turn is first.
func (w *work) before(other *work) bool {
	if !w.at.Equal(other.at) {
		return w.at.Before(other.at)
	}
	return w.order < other.order
}

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].before(h[j]) }

func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) {
	w, _ := x.(*work)
	w.index = len(*h)
	*h = append(*h, w)
}

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	old[len(old)-1] = nil
	w.index = -1
	*h = old[:len(old)-1]
	return w
}
