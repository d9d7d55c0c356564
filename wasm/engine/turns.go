package engine

import (
	"container/heap"
	"sync"
	"time"
)

// turns decides who of the guests that compute may do so: as many as there are
// slots, and of those that wait the one that had the least, measured in time
// divided by its shares. Who has slept is ahead of who has not, by headStart at
// most, so that short work is done soon beside guests that always compute.
type turns struct {
	mu      sync.Mutex
	slots   int
	taken   int // more than slots while those who lost theirs have not noticed
	waiting queue
	floor   time.Duration // what the last to get or keep a slot had had
}

// headStart is what a guest that slept is ahead of others at most.
const headStart = 3 * time.Millisecond

// defaultShares is the weight of who names none, as Kubernetes has it, and
// maxShares that of who names more: beyond, a slice would weigh nothing.
const (
	defaultShares = 2
	maxShares     = 1 << 18
)

// turn is one guest's place. It belongs to turns.
type turn struct {
	shares int64
	had    time.Duration // weighted time of computing
	ready  chan struct{} // gets a value with the slot
	index  int           // in the queue, -1 if it is not there
}

func newTurn(shares int64) *turn {
	if shares <= 0 {
		shares = defaultShares
	}
	return &turn{shares: min(shares, maxShares), ready: make(chan struct{}, 1), index: -1} // one slot at a time
}

// weighted returns time divided by shares. The unit is such that a guest of the
// least weight may compute for years.
func (t *turn) weighted(d time.Duration) time.Duration {
	return d * 64 / time.Duration(t.shares)
}

// enter waits for a slot. It returns false, without one, if done is closed.
func (t *turns) enter(p *turn, done <-chan struct{}) bool {
	t.mu.Lock()
	p.had = max(p.had, t.floor-p.weighted(headStart))
	if t.taken < t.slots {
		t.taken++
		t.mu.Unlock()
		return true
	}
	heap.Push(&t.waiting, p)
	t.mu.Unlock()
	return t.wait(p, done)
}

// resize sets the number of slots. Who computes above it goes on until its
// slice ends.
func (t *turns) resize(slots int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.slots = slots
	for t.taken < t.slots && len(t.waiting) > 0 {
		t.taken++
		t.admit()
	}
}

// leave gives up a slot that was used for so long.
func (t *turns) leave(p *turn, used time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p.had += p.weighted(used)
	t.pass()
}

// offer gives up a slot that was used for so long if someone who had less waits
// for it, or if there are fewer slots now. It reports whether it keeps it; if
// not, wait is to be called.
func (t *turns) offer(p *turn, used time.Duration) (kept bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p.had += p.weighted(used)
	if t.taken <= t.slots && (len(t.waiting) == 0 || t.waiting[0].had >= p.had) {
		t.floor = max(t.floor, p.had)
		if len(t.waiting) > 0 {
			t.floor = min(t.floor, t.waiting[0].had)
		}
		return true
	}
	t.pass()
	heap.Push(&t.waiting, p)
	return false
}

// pass hands a slot on. The caller holds mu.
func (t *turns) pass() {
	if len(t.waiting) == 0 || t.taken > t.slots {
		t.taken--
		return
	}
	t.admit()
}

// admit lets the first of those who wait have a slot that was taken for it. The
// caller holds mu.
func (t *turns) admit() {
	next := heap.Pop(&t.waiting).(*turn)
	t.floor = max(t.floor, next.had)
	next.ready <- struct{}{}
}

// wait waits for the slot of one that queues. It returns false, without one, if
// done is closed.
func (t *turns) wait(p *turn, done <-chan struct{}) bool {
	select {
	case <-p.ready:
		return true
	case <-done:
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.index >= 0 {
		heap.Remove(&t.waiting, p.index)
		return false
	}
	<-p.ready // it got a slot meanwhile
	t.pass()
	return false
}

// queue is a heap of who waits, the one that had the least first.
type queue []*turn

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].had < q[j].had }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	p := x.(*turn)
	p.index = len(*q)
	*q = append(*q, p)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := len(*q) - 1
	p := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	p.index = -1
	return p
}
