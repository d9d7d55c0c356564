package engine

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero/sys"

	"github.com/weftrun/weft/wasm"
)

// The budgets that a metered guest gets, in the units of wasm/meter: so much
// that a slice takes up to a millisecond, and no more than what takes some tens
// of milliseconds if every access misses the caches. A budget that could follow
// a guest without bound would let it grow by cheap work, to be spent on dear.
const (
	minBudget = 64 << 10
	maxBudget = 4 << 20

	// slice is how long a guest computes before it offers its slot, at least.
	slice = time.Millisecond
	// maxBurst is how long a guest that used less than its limit may exceed
	// it, in wall time.
	maxBurst = 100 * time.Millisecond
	// minRest is how long a guest above its limit rests, at least.
	minRest = 50 * time.Microsecond
)

// pace measures and bounds one instance's use of processors. All but clock
// and rested belong to the instance's goroutine.
type pace struct {
	turns  *turns
	turn   *turn
	done   <-chan struct{} // closed when the guest is to end
	millis int64           // limit, in thousandths of a core; 0: none

	// clock tells others the CPU time in nanoseconds, shifted to the left by
	// one. If its last bit is set then it still runs: add the present time.
	clock atomic.Int64
	// rested is how long the limit made it rest, in nanoseconds.
	rested atomic.Int64

	running bool          // it has a slot
	cpu     time.Duration // until last
	last    int64         // when its present slice began
	budget  int64
	used    time.Duration // since it last offered its slot
	credit  time.Duration // of CPU time, below the limit
	counted time.Duration // until when credit was counted
}

// epoch is what times are relative to.
var epoch = time.Now()

func newPace(t *turns, l wasm.Limits, done <-chan struct{}) *pace {
	p := &pace{turns: t, turn: newTurn(l.CPUShares), done: done, millis: l.CPUMillis, budget: minBudget}
	p.counted, p.credit = time.Duration(now()), p.share(maxBurst)
	return p
}

// refill is what a metered guest calls when its budget is used up. It returns
// the next one, or ends the guest.
func (p *pace) refill() int64 {
	p.alive()
	if !p.running {
		p.resume()
		return p.budget
	}
	took := p.count()
	switch {
	case took > 2*slice:
		p.budget = max(p.budget/2, minBudget)
	case took < slice/2:
		p.budget = min(p.budget*2, maxBudget)
	}
	if p.used < slice {
		return p.budget
	}
	if p.debt() > 0 {
		p.pause()
		p.resume()
		return p.budget
	}
	p.stop()
	ok, waited := p.turns.offer(p.turn, p.used, p.done)
	p.used = 0
	if !ok {
		p.lost()
	}
	if !waited {
		runtime.Gosched()
	}
	p.start()
	return p.budget
}

func now() int64 { return int64(time.Since(epoch)) }

// count adds the present slice to what was used, and begins the next.
func (p *pace) count() time.Duration {
	end := now()
	took := time.Duration(end - p.last)
	p.last = end
	p.cpu += took
	p.used += took
	p.credit -= took
	return took
}

// start and stop let the clock run or stand.
func (p *pace) start() {
	p.last = now()
	p.clock.Store((int64(p.cpu)-p.last)<<1 | 1)
}

func (p *pace) stop() { p.clock.Store(int64(p.cpu) << 1) }

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

// total returns the CPU time used until now. It may be called by anyone.
func (p *pace) total() time.Duration {
	clock := p.clock.Load()
	d := clock >> 1
	if clock&1 != 0 {
		d += now()
	}
	return max(time.Duration(d), 0)
}
