package lifecycle

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/weftrun/weft/core"
)

// task is one key that one part is to look at.
type task struct {
	part part
	key  core.Key
}

// part names who looks.
type part int

const (
	collect   part = iota // garbage collection of an object
	empty                 // emptying a namespace
	watchOver             // a node's liveness
	evict                 // a pod on a tainted node
	reap                  // a pod whose node is gone
	expire                // a finished job
)

// The pace of retries.
const (
	minBackoff = 10 * time.Millisecond
	maxBackoff = time.Minute
)

// queue holds tasks until they are due. A task is never done by two workers
// at once, and is held once. It is safe for concurrent use.
type queue struct {
	wake chan struct{} // one token: some worker should look again

	mu    sync.Mutex
	items map[task]*item
	due   dueHeap
}

type item struct {
	task
	at       time.Time
	index    int // in the heap; -1 if not in it
	running  bool
	again    time.Time // asked for while running; zero if not
	failures int
}

func newQueue() *queue {
	return &queue{wake: make(chan struct{}, 1), items: map[task]*item{}}
}

// add makes t due after a delay, or earlier if it already is.
func (q *queue) add(t task, delay time.Duration) {
	at := time.Now().Add(delay)
	q.mu.Lock()
	defer q.mu.Unlock()
	it, ok := q.items[t]
	if !ok {
		it = &item{task: t, index: -1}
		q.items[t] = it
	}
	if it.running {
		if it.again.IsZero() || at.Before(it.again) {
			it.again = at
		}
		return
	}
	q.schedule(it, at)
}

func (q *queue) schedule(it *item, at time.Time) {
	switch {
	case it.index < 0:
		it.at = at
		heap.Push(&q.due, it)
	case at.Before(it.at):
		it.at = at
		heap.Fix(&q.due, it.index)
	default:
		return
	}
	if q.due[0] == it {
		q.signal()
	}
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// next waits for a task that is due; nil when ctx ends.
func (q *queue) next(ctx context.Context) *item {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		it, wait := q.pop()
		if it != nil {
			return it
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

func (q *queue) pop() (*item, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.due) == 0 {
		return nil, time.Hour
	}
	if wait := time.Until(q.due[0].at); wait > 0 {
		return nil, wait
	}
	it, _ := heap.Pop(&q.due).(*item)
	if len(q.due) > 0 {
		q.signal()
	}
	it.running, it.again = true, time.Time{}
	return it, 0
}

// done ends a task; after says when it is to be done again (0: not).
func (q *queue) done(it *item, after time.Duration, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it.running = false
	if err != nil {
		it.failures++
		after = min(minBackoff<<min(it.failures-1, 20), maxBackoff)
	} else {
		it.failures = 0
	}
	if after > 0 {
		q.schedule(it, time.Now().Add(after))
	}
	if !it.again.IsZero() && err == nil {
		q.schedule(it, it.again)
	}
	if it.index < 0 {
		delete(q.items, it.task)
	}
}

// dueHeap orders items by when they are due.
type dueHeap []*item

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) {
	it, _ := x.(*item)
	it.index = len(*h)
	*h = append(*h, it)
}

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	old := *h
	it := old[len(old)-1]
	old[len(old)-1] = nil
	it.index = -1
	*h = old[:len(old)-1]
	return it
}
