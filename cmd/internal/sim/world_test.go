package sim

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/memory"
	"github.com/weftrun/weft/cmd/internal/history"
	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/wasm/wasmtest"
)

// The size of a run.
const (
	machinesMax = 3
	clientsMax  = 3
	faultsFor   = time.Minute      // of pretended time
	settleFor   = 12 * time.Minute // at most: a back-off of 5 minutes may have begun
)

// world is one simulated cluster.
type world struct {
	t    *testing.T
	seed uint64
	more *rand.Rand // for what older seeds have none of; nil: this one neither
	log  *slog.Logger
	hub  *memory.Hub

	pluginDown atomic.Bool
	slow       atomic.Bool // clients do less
	history    history.Recorder
	taken      *taken

	// The driver's alone.
	r        *rand.Rand
	cores    int
	old      []*coreRun // that led before
	machines []*machine
	cut      map[bus.Identity]bool
	faults   []string

	// mu guards what follows.
	mu   sync.Mutex
	core *coreRun // that leads; nil: none
}

// run simulates one seed.
func run(t *testing.T, seed uint64, faults kinds, folder string) {
	w := &world{
		t: t, seed: seed, log: discard, hub: memory.New(), taken: newTaken(), r: rand.New(rand.NewPCG(seed, 1)), cut: map[bus.Identity]bool{},
	}
	if faults == every {
		w.more = rand.New(rand.NewPCG(seed, 2))
	}
	if testing.Verbose() && os.Getenv("SOAK_SEED") != "" {
		w.log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	w.newCore()
	for ready := false; !ready; time.Sleep(100 * time.Millisecond) {
		_, ready = w.core.client.Snapshot().Get(core.Key{Resource: core.Namespaces.Resource, Name: "default"})
	}
	for i := range machinesMax {
		m := &machine{
			w: w, who: bus.Identity{Role: bus.RoleNode, Name: fmt.Sprint("node-", i)}, rt: &wasmtest.Fake{},
			folder: filepath.Join(folder, fmt.Sprint("node-", i)),
		}
		w.machines = append(w.machines, m)
		m.start()
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var group sync.WaitGroup
	watcher, watch := w.newInformer(), newIdentities(w)
	group.Go(func() { watcher.run(ctx) })
	group.Go(func() { watch.run(ctx) })
	clients := w.startClients()
	for begin := time.Now(); time.Since(begin) < faultsFor; {
		w.pause(100, 3000)
		w.fault()
		if w.more != nil && w.more.IntN(10) == 0 {
			w.deleteNode(w.machines[w.more.IntN(len(w.machines))])
		}
	}
	if w.more != nil && w.more.IntN(3) == 0 {
		w.absence()
	}
	w.heal()
	clients.finish()
	w.settle(clients, watcher)
	stop()
	group.Wait()
	w.end()
	if t.Failed() {
		for _, line := range w.faults {
			t.Log(line)
		}
		t.Logf("SOAK_SEED=%d repeats this", seed)
	}
}

// pause lets so many milliseconds pass.
func (w *world) pause(least, most int) {
	time.Sleep(time.Duration(least+w.r.IntN(most-least)) * time.Millisecond)
}

// current is the core that leads, or nil.
func (w *world) current() *coreRun {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.core
}

// newCore starts cores until one leads.
func (w *world) newCore() {
	for {
		err := w.startCore()
		if err == nil {
			return
		}
		w.note("a core did not start: %v", err)
		time.Sleep(200 * time.Millisecond)
	}
}

func (w *world) note(format string, args ...any) {
	w.faults = append(w.faults, time.Now().Format("04:05.000 ")+fmt.Sprintf(format, args...))
}

func (w *world) isCut(who bus.Identity) bool { return w.cut[who] }

func (w *world) setCut(who bus.Identity, cut bool) {
	w.cut[who] = cut
	w.hub.Cut(who, cut)
	for _, m := range w.machines {
		if m.who == who {
			w.noteAbsence(m)
		}
	}
}

// noteAbsence keeps since when a node is not heard of.
func (w *world) noteAbsence(m *machine) { w.taken.absent(m.who.Name, w.cut[m.who] || m.stop == nil) }

// heal ends all faults.
func (w *world) heal() {
	w.note("heal")
	w.hub.OnDeliver(nil)
	w.hub.OnAppend(nil)
	w.pluginDown.Store(false)
	for _, c := range w.old {
		w.hub.Cut(c.who, false) // it must not do harm
	}
	for _, m := range w.machines {
		w.setCut(m.who, false)
		m.start()
	}
}

// end stops everything.
func (w *world) end() {
	for _, m := range w.machines {
		if m.stop != nil {
			m.stop()
		}
		m.rt.Close()
	}
	for _, c := range append(w.old, w.core) {
		c.cutAt.CompareAndSwap(0, 1)
		c.cancel()
		<-c.ended
	}
}
