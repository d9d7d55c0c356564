package engine

import (
	"fmt"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftrun/weft/wasm"
)

// stage runs pretended guests in a bubble: to sleep there is to compute.
type stage struct {
	turns turns
	done  chan struct{}
	wg    sync.WaitGroup
	end   sync.Once
}

func newStage(slots int) *stage {
	return &stage{turns: turns{slots: slots}, done: make(chan struct{})}
}

// play runs a guest until the stage is closed.
func (s *stage) play(l wasm.Limits, guest func(p *pace)) *pace {
	p := newPace(&s.turns, l, s.done)
	p.time = now
	s.wg.Go(func() {
		defer func() {
			_ = recover() // is how guests are ended
			p.pause()
		}()
		for {
			guest(p)
		}
	})
	return p
}

func (s *stage) close() {
	s.end.Do(func() { close(s.done) })
	s.wg.Wait()
}

// spin computes for about a slice.
func spin(p *pace) {
	p.refill()
	time.Sleep(300 * time.Microsecond)
}

func TestPaceLimits(t *testing.T) {
	for _, millis := range []int64{10, 50, 100, 333, 500, 900, 1000} {
		t.Run(fmt.Sprint(millis), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(2)
				p := s.play(wasm.Limits{CPUMillis: millis}, spin)
				time.Sleep(2 * time.Second)
				before := p.total()
				time.Sleep(20 * time.Second)
				got := float64(p.total()-before) / float64(20*time.Second) * 1000
				if math.Abs(got/float64(millis)-1) > 0.05 {
					t.Errorf("got %.2f millicores, want %d", got, millis)
				}
				rested, want := float64(p.rested.Load())/float64(22*time.Second), 1-float64(millis)/1000
				if math.Abs(rested-want) > 0.05 {
					t.Errorf("it rested for %.3f of the time, want %.3f", rested, want)
				}
				s.close()
			})
		})
	}
}

// What sleeps between short pieces of work cannot evade its limit.
func TestPaceLimitOfSleepers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(1)
		p := s.play(wasm.Limits{CPUMillis: 100}, func(p *pace) {
			p.refill()
			time.Sleep(500 * time.Microsecond)
			p.pause()
			time.Sleep(time.Microsecond)
			p.resume()
		})
		time.Sleep(100 * time.Second)
		if got := p.total().Seconds(); got > 10.5 || got < 9.5 {
			t.Errorf("it had %.2f s of 100 s, want 10", got)
		}
		s.close()
	})
}

func TestTurnsAreFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(2)
		var all []*pace
		shares := 0.0
		for n := range 200 {
			l := wasm.Limits{CPUShares: int64(100 * (1 + n%3))}
			shares += float64(l.CPUShares)
			all = append(all, s.play(l, spin))
		}
		// One wakes up each 50 ms, for a tenth of a millisecond.
		var late []time.Duration
		s.play(wasm.Limits{CPUShares: 100}, func(p *pace) {
			p.refill()
			time.Sleep(100 * time.Microsecond)
			p.pause()
			time.Sleep(50 * time.Millisecond)
			begin := time.Now()
			p.resume()
			late = append(late, time.Since(begin))
		})
		time.Sleep(20 * time.Second)
		s.close()
		var total float64
		for _, p := range all {
			total += p.total().Seconds()
		}
		if total > 40.16 || total < 39.34 {
			t.Errorf("two slots gave %.1f s in 20 s", total)
		}
		for n, p := range all {
			want := total * float64(100*(1+n%3)) / shares
			if got := p.total().Seconds(); math.Abs(got/want-1) > 0.1 {
				t.Errorf("guest %d had %.3f s, want %.3f s", n, got, want)
			}
		}
		for n, d := range late {
			if n > 0 && d > 3*time.Millisecond {
				t.Errorf("wake-up %d was late by %v", n, d)
			}
		}
	})
}

// Slots are neither lost nor doubled by those who are ended while they wait.
func TestTurnsSurviveEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var shared turns
		shared.slots = 2
		for range 20 {
			var stages []*stage
			for range 10 {
				s := &stage{done: make(chan struct{})}
				stages = append(stages, s)
				p := newPace(&shared, wasm.Limits{}, s.done)
				p.time = now
				s.wg.Go(func() {
					defer func() {
						_ = recover()
						p.pause()
					}()
					for {
						spin(p)
					}
				})
			}
			time.Sleep(7 * time.Millisecond)
			for _, s := range stages {
				s.close()
			}
		}
		if shared.taken != 0 || len(shared.waiting) != 0 {
			t.Errorf("%d slots are taken and %d wait, want none", shared.taken, len(shared.waiting))
		}
	})
}

// The number of slots changes at work: what they give follows at once, and the
// shares stay.
func TestTurnsResize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(1)
		var all []*pace
		for range 6 {
			all = append(all, s.play(wasm.Limits{}, spin))
		}
		used := func() (total time.Duration) {
			for _, p := range all {
				total += p.total()
			}
			return total
		}
		for _, slots := range []int{1, 4, 2, 6, 9, 3, 1} {
			s.turns.resize(slots)
			time.Sleep(5 * time.Millisecond) // those above it notice
			before := used()
			time.Sleep(2 * time.Second)
			got := (used() - before).Seconds() / 2
			if want := float64(min(slots, len(all))); math.Abs(got/want-1) > 0.01 {
				t.Errorf("%d slots gave %.2f processors, want %.0f", slots, got, want)
			}
		}
		s.close()
		if s.turns.taken != 0 {
			t.Errorf("%d slots are still taken", s.turns.taken)
		}
		for n, p := range all {
			if got := p.total().Seconds() * 6 / used().Seconds(); math.Abs(got-1) > 0.05 {
				t.Errorf("guest %d had %.2f of its share", n, got)
			}
		}
	})
}

func BenchmarkRefill(b *testing.B) {
	s := newStage(1)
	p := newPace(&s.turns, wasm.Limits{}, s.done)
	for b.Loop() {
		p.refill()
	}
}
