package engine

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero/sys"

	"github.com/weftrun/weft/wasm"
)

// The budgets that a metered guest gets, in the units of wasm/meter: so much
// that a few make a slice, and no more than what takes some 60 ms if every access misses
// all caches, 150 if each is the first to a page. A budget that could follow
// a guest without bound would let it grow by cheap work, to be spent on dear.
const (
	minBudget = 64 << 10
	maxBudget = 512 << 10

	// slice is how long a guest computes before it offers its slot, at least.
	slice = time.Millisecond
	// maxBurst is how long a guest that used less than its limit may exceed
	// it, in wall time.
	maxBurst = 100 * time.Millisecond
	// minRest is how long a guest above its limit rests, at least.
	minRest = 50 * time.Microsecond
	// breath is how many slices a guest may have before goroutines that are
	// assigned to its thread have their turn.
	breath = 4
)

// pace measures and bounds one instance's use of processors. All but spent
// and rested belong to the instance's goroutine.
type pace struct {
	turns  *turns
	turn   *turn
	done   <-chan struct{} // closed when the guest is to end
	millis int64           // limit, in thousandths of a core; 0: none

	// spent is the CPU time that others are told, in nanoseconds: that until
	// the last slice's end.
	spent atomic.Int64
	// rested is how long the limit made it rest, in nanoseconds.
	rested atomic.Int64

	time    func() int64 // of this thread; tests pretend
	running bool         // it has a slot, and keeps its thread
	patient bool         // the thread lets others go first
	keen    bool         // it used up the last slice
	kept    int          // slices that ended with the slot kept
	last    int64        // of time, when its present slice began
	budget  int64
	took    time.Duration // since the budget was looked at, until last
	looked  int64         // when that was, by the clock
	filled  int64         // when the present budget was given
	used    time.Duration // since it last offered its slot
	credit  time.Duration // of CPU time, below the limit
	counted time.Duration // until when credit was counted
}

// epoch is what times are relative to.
var epoch = time.Now()

func newPace(t *turns, l wasm.Limits, done <-chan struct{}) *pace {
	p := &pace{turns: t, turn: newTurn(l.CPUShares), done: done, millis: l.CPUMillis, budget: minBudget, time: threadTime}
	p.counted, p.credit = time.Duration(now()), p.share(maxBurst)
	return p
}

// refill is what a metered guest calls when its budget is used up. It returns
// the next one, or ends the guest.
func (p *pace) refill() int64 {
	p.alive()
	at := now()
	switch {
	case !p.running:
		p.resume()
	case at-p.looked < int64(slice/4): // to ask for the CPU time takes longer than this
		p.budget, p.filled = min(2*p.budget, maxBudget), at
		return p.budget
	default:
		p.count()
		p.adapt(min(p.took, time.Duration(at-p.filled)))
		p.next()
	}
	p.looked, p.took = now(), 0
	p.filled = p.looked
	return p.budget
}

// next goes on with the slice, or ends it and begins another when that is due.
func (p *pace) next() {
	if p.used < slice {
		return
	}
	if p.debt() > 0 {
		p.pause()
		p.resume()
		return
	}
	p.keen = true
	kept := p.turns.offer(p.turn, p.used)
	p.used = 0
	switch {
	case !kept:
		p.stop()
		if !p.turns.wait(p.turn, p.done) {
			p.lost()
		}
		p.start()
	case p.breath():
		p.stop()
		runtime.Gosched()
		p.start()
	default:
		p.yield()
	}
}

// breath tells whether the guest, which keeps its slot, is to let goroutines go
// first that Go has assigned to the same thread. Not every time: Go wakes another
// thread for that. They seldom wait for it, as there are fewer slots than Go has
// processors, and when Go itself has to stop the guest, its next call of refill does.
func (p *pace) breath() bool {
	p.kept++
	return p.kept%breath == 0
}

func now() int64 { return int64(time.Since(epoch)) }

// adapt sets the budget by how long the last one took: half a slice, at most.
func (p *pace) adapt(took time.Duration) {
	next := 2 * p.budget
	if took > slice/4 {
		next = max(p.budget*int64(slice/2)/int64(took), p.budget/4)
	}
	p.budget = min(max(next, minBudget), maxBudget)
}

// count adds the present slice to what was used, and begins the next. What
// the guest was kept waiting for a processor by other processes is not its own.
func (p *pace) count() {
	end := p.time()
	took := time.Duration(end - p.last)
	p.last = end
	p.spent.Add(int64(took))
	p.took += took
	p.used += took
	p.credit -= took
}

// start begins a slice. Until its end the guest keeps its thread, by which it is
// measured. One that computes for long lets other threads go first.
func (p *pace) start() {
	runtime.LockOSThread()
	if p.keen {
		p.yield()
	}
	p.last = p.time()
}

// yield has the thread let others go first.
func (p *pace) yield() {
	if !p.patient {
		p.patient = true
		yield(true)
	}
}

func (p *pace) stop() {
	if p.patient {
		p.patient = false
		yield(false)
	}
	runtime.UnlockOSThread()
}

// share is what the limit allows in that much wall time.
func (p *pace) share(d time.Duration) time.Duration {
	return d * time.Duration(p.millis) / 1000
}

// debt returns how long the guest has to rest to keep within its limit.
func (p *pace) debt() time.Duration {
	if p.millis == 0 {
		return 0
	}
	t := time.Duration(now())
	p.credit = min(p.credit+p.share(min(t-p.counted, time.Hour)), p.share(maxBurst))
	p.counted = t
	if p.credit >= 0 {
		return 0
	}
	// No less, as the shares of tiny times are rounded down to nothing.
	return max(-p.credit*1000/time.Duration(p.millis), minRest)
}

// pause gives up the slot: the guest waits for something else.
func (p *pace) pause() {
	if !p.running {
		return
	}
	p.count()
	p.keen = false
	p.stop()
	p.running = false
	p.turns.leave(p.turn, p.used)
	p.used = 0
}

// resume waits until the limit allows to go on, and for a slot.
func (p *pace) resume() {
	for d := p.debt(); d > 0; d = p.debt() {
		begin := now()
		p.sleep(d)
		p.rested.Add(now() - begin)
	}
	if !p.turns.enter(p.turn, p.done) {
		p.lost()
	}
	p.running = true
	p.start()
}

func (p *pace) sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.done:
		p.lost()
	}
}

// alive ends a guest that is to end.
func (p *pace) alive() {
	select {
	case <-p.done:
		p.pause()
		p.lost()
	default:
	}
}

// lost ends the guest, which has no slot. The panic is how wazero's host
// functions end one.
func (p *pace) lost() {
	p.running = false
	panic(sys.NewExitError(sys.ExitCodeContextCanceled))
}

// total returns the CPU time used until the last slice's end. It may be called
// by anyone.
func (p *pace) total() time.Duration { return time.Duration(p.spent.Load()) }

// present returns the CPU time used until now. Only the guest may call it.
func (p *pace) present() time.Duration {
	if p.running {
		p.count()
	}
	return p.total()
}
