package sim

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/memory"
)

// kinds are the sorts of faults of a run.
type kinds bool

const (
	fewer kinds = false // than there are now: none of those in nodes_test.go
	every kinds = true
)

// fault does one bad thing, and mostly undoes it.
func (w *world) fault() {
	m := w.machines[w.r.IntN(len(w.machines))]
	switch w.r.IntN(12) {
	case 0, 1:
		w.killCore()
	case 2:
		w.pauseCore()
	case 3, 4:
		w.note("the agent of %s is killed", m.who.Name)
		m.crash()
		w.pause(1, 5000)
		m.start()
	case 5:
		w.note("the executor of %s is killed", m.who.Name)
		m.rt.Lose()
	case 6:
		w.note("the machine of %s loses its power", m.who.Name)
		m.crash()
		m.rt.Lose()
		w.pause(1, 5000)
		m.start()
	case 7, 8:
		cut := !w.cut[m.who]
		w.note("%s is cut off: %v", m.who.Name, cut)
		w.setCut(m.who, cut)
	case 9:
		down := !w.pluginDown.Load()
		w.note("the plugin is away: %v", down)
		w.pluginDown.Store(down)
	case 10:
		w.noise()
	case 11:
		w.note("the bus is good again")
		w.hub.OnDeliver(nil)
		w.hub.OnAppend(nil)
	}
}

// crash ends an agent, if it runs.
func (m *machine) crash() {
	if m.stop != nil {
		m.stop()
	}
}

// killCore kills the core and starts another after a while.
func (w *world) killCore() {
	c := w.current()
	w.note("%s is killed", c.who.Name)
	w.cutCore(c)
	c.cancel()
	w.setCore(nil)
	w.pause(1, 3000)
	w.newCore()
	w.old = append(w.old, c)
}

// pauseCore cuts the core off for longer than its lease runs, so that another
// leads when it is back.
func (w *world) pauseCore() {
	c := w.current()
	w.note("%s is cut off", c.who.Name)
	w.cutCore(c)
	time.Sleep(leaseTime)
	w.newCore()
	w.old = append(w.old, c)
	w.pause(1, 3000)
	w.note("%s is back", c.who.Name)
	w.hub.Cut(c.who, false)
}

func (w *world) setCore(c *coreRun) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.core = c
}

// noise has the bus lose, double, delay and so reorder messages, and now and
// then lose an append to the log, or the answer to it.
func (w *world) noise() {
	lose, twice, late := w.r.IntN(30), w.r.IntN(30), w.r.IntN(50)
	most := 1 + w.r.IntN(300)
	luck := rand.New(rand.NewPCG(w.seed, w.r.Uint64())) // used under the carrier's lock
	w.note("of 100 messages %d are lost, %d doubled, %d up to %d ms late", lose, twice, late, most)
	w.hub.OnDeliver(func(bus.Identity, bus.Identity, bus.Message) memory.Fate {
		var f memory.Fate
		f.Drop = luck.IntN(100) < lose
		if luck.IntN(100) < twice {
			f.Copies = 1 + luck.IntN(2)
		}
		if luck.IntN(100) < late {
			f.Delay = time.Duration(luck.IntN(most)) * time.Millisecond
		}
		return f
	})
	appends := rand.New(rand.NewPCG(w.seed, w.r.Uint64()))
	w.hub.OnAppend(func(context.Context, bus.Identity, string, []byte) memory.AppendFate {
		switch appends.IntN(50) {
		case 0:
			return memory.Lose
		case 1:
			return memory.LoseReply
		}
		return memory.Store
	})
}
