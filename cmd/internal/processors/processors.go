// Package processors has a process use as few processors at once as keep up with
// its work. It must not be used where guests run, which have slots instead.
//
// Whatever passes from goroutine to goroutine, as a request does on its way through
// HTTP/2, the store and NATS, is passed to another thread as well while a processor is
// idle. To wake that costs more than most of these steps: 2 us of CPU time at best,
// and 100 where the processor has to be woken by a hypervisor. As long as one thread keeps
// up, everything is sooner done by it alone.
package processors

import (
	"context"
	"os"
	"runtime"
	"time"

	"github.com/weftrun/weft/wasm/process"
)

const (
	// look is how often the work is measured: so long may it wait for more processors.
	look = 200 * time.Millisecond
	// calmLooks is how many looks in a row must find that half of the processors are
	// enough before the others are given up.
	calmLooks = 3
	// full is how busy the processors in use are when there are to be more, and calm how
	// busy half of them would be by the time used when there are to be fewer: above 1, as
	// these need a fifth less for the same work.
	full, calm = 0.97, 1.1
)

// most is how many there are, by the machine, its control group or GOMAXPROCS.
var most = runtime.GOMAXPROCS(0)

// Most returns how many processors this process may use at once, at most. Unlike
// runtime.GOMAXPROCS it does not change.
func Most() int { return most }

// Govern sets GOMAXPROCS between 1 and Most by what this process does, until ctx ends; then to
// Most again. It leaves it alone where the environment sets GOMAXPROCS, or where the
// system does not tell how much CPU time a process has used. It returns nil, and may run
// once at a time.
func Govern(ctx context.Context) error {
	if _, known := process.CPU(); !known || most == 1 || os.Getenv("GOMAXPROCS") != "" {
		return nil
	}
	used := func() time.Duration {
		cpu, _ := process.CPU()
		return cpu
	}
	govern(ctx, most, used, func(n int) { runtime.GOMAXPROCS(n) })
	return nil
}

func govern(ctx context.Context, most int, used func() time.Duration, set func(int)) {
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	defer set(most)
	g := governor{most: most, now: most}
	at, before := time.Now(), used()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now, cpu := time.Now(), used()
		if g.observe(float64(cpu-before) / float64(now.Sub(at))) {
			set(g.now)
		}
		at, before = now, cpu
	}
}

// governor decides how many processors are used.
type governor struct {
	most, now int
	calm      int // looks in a row that found that half of them are enough
}

// observe takes how many processors were busy in the mean since the last time, and
// reports whether another number is to be used.
func (g *governor) observe(busy float64) bool {
	before := g.now
	if busy < calm*float64(g.now/2) {
		g.calm++
	} else {
		g.calm = 0
	}
	switch {
	case busy > full*float64(g.now):
		g.now = min(2*g.now, g.most)
	case g.calm >= calmLooks:
		g.now, g.calm = g.now/2, 0
	}
	return g.now != before
}
