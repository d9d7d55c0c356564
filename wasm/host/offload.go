package host

import (
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero/sys"
)

const (
	// maxWork is how many of the guests' calls may be in the operating system
	// at once. Each holds a thread while it waits for a disk.
	maxWork = 64
	// patience is how long a guest keeps its slot while such a call works: most
	// find what they need in the cache, and a guest that had to queue for its
	// slot after each would crawl beside others that compute.
	patience = 100 * time.Microsecond
	// stretch is how long the host computes for a guest before it offers the
	// guest's slot to others.
	stretch = time.Millisecond
)

// offload has another goroutine do what may wait for a disk, so that the guest
// can be ended meanwhile, and gives up its slot if it takes long. work must not
// touch the guest's memory or table: it may go on after the guest has ended.
// Then discard, if not nil, gets its result.
func offload[T any](g *Guest, work func() T, discard func(T)) T {
	select {
	case g.world.work <- struct{}{}:
	default:
		g.wait(func() bool {
			select {
			case g.world.work <- struct{}{}:
				return true
			case <-g.Done:
				return false
			}
		})
	}
	const finished, abandoned = 1, 2
	var state atomic.Int32
	result := make(chan T, 1) // the worker never waits for the guest
	g.world.workers.Go(func() {
		r := work()
		<-g.world.work
		if state.CompareAndSwap(0, finished) {
			result <- r
		} else if discard != nil {
			discard(r)
		}
	})
	timer := g.after(patience)
	select {
	case r := <-result:
		timer.Stop()
		return r
	case <-timer.C:
	case <-g.Done:
	}
	var r T
	g.wait(func() bool {
		select {
		case r = <-result:
			return true
		case <-g.Done:
		}
		if !state.CompareAndSwap(0, abandoned) {
			if r = <-result; discard != nil {
				discard(r)
			}
		}
		return false
	})
	return r
}

// wait calls for, which waits until something happened or the guest is to end,
// without a slot. If it returns false then it ends the guest.
func (g *Guest) wait(until func() bool) {
	if g.Pause != nil {
		g.Pause()
	}
	begin := time.Now()
	g.sleeping.Store(max(int64(begin.Sub(origin)), 1))
	if !until() {
		end()
	}
	g.sleeping.Store(0)
	g.slept.Add(int64(time.Since(begin)))
	if g.Resume != nil {
		g.Resume()
	}
}

// end ends the guest. The panic is how wazero's host functions do so; returning
// instead would let the guest go on, in a loop that starves whoever is to end it.
func end() { panic(sys.NewExitError(sys.ExitCodeContextCanceled)) }

// alive ends a guest that is to end.
func (g *Guest) alive() {
	select {
	case <-g.Done:
		end()
	default:
	}
}

// breathe is called between parts of what the host computes for the guest. It
// ends one that is to end, and offers its slot if it had it for long since begin.
func (g *Guest) breathe(begin *time.Time) {
	g.alive()
	if time.Since(*begin) < stretch {
		return
	}
	g.yield()
	*begin = time.Now()
}

// yield lets others compute.
func (g *Guest) yield() {
	if g.Pause != nil {
		g.Pause()
		g.Resume()
	}
}

// after returns the guest's timer, set to fire after d. There is one for each
// guest: it must be stopped or have fired before the next use.
func (g *Guest) after(d time.Duration) *time.Timer {
	if g.timer == nil {
		g.timer = time.NewTimer(d)
		return g.timer
	}
	g.timer.Reset(d)
	return g.timer
}
