package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"
)

// target is a process to which bad things are done.
type target struct {
	name  string
	parts []*part // of one of which it is
	text  string  // in its command line
}

func (c *cluster) targets() []target {
	all := []target{{"the plugin", c.cores, "weft plugin"}}
	for _, p := range c.cores {
		all = append(all, target{p.name, []*part{p}, "weft core"})
	}
	for _, p := range c.servers {
		all = append(all, target{p.name, []*part{p}, serveNATS})
	}
	for _, p := range c.nodes {
		all = append(all, target{"the agent of " + p.name, []*part{p}, "weft node"}, target{"the executor of " + p.name, []*part{p}, "weft executor"})
	}
	return all
}

// processes are those that are the target: there is to be one.
func (t target) processes() []process {
	var found []process
	for _, p := range t.parts {
		found = append(found, p.processes(t.text)...)
	}
	return found
}

// target picks one. Executors are rarely chosen: a pod that lost its executor
// again and again waits before it is started.
func (c *cluster) target(r *rand.Rand) target {
	all := c.targets()
	for {
		t := all[r.IntN(len(all))]
		if t.text != "weft executor" || r.IntN(3) == 0 {
			return t
		}
	}
}

// fault does one bad thing, undoes it, and says what it was.
func (c *cluster) fault(ctx context.Context, r *rand.Rand) string {
	t := c.target(r)
	switch r.IntN(5) {
	case 0, 1, 2:
		c.kill(t)
		return t.name + " was killed"
	case 3:
		d := time.Duration(200+r.IntN(6000)) * time.Millisecond
		c.freeze(ctx, t, d)
		return fmt.Sprintf("%s stood still for %s", t.name, d)
	}
	cuttable := c.nodes
	if c.o.outside {
		cuttable = slices.Concat(c.nodes, c.cores)
	}
	p := cuttable[r.IntN(len(cuttable))]
	d := time.Duration(500+r.IntN(12_000)) * time.Millisecond
	what := fmt.Sprintf("%s was cut off for %s", p.name, d)
	p.setCut(true)
	if r.IntN(2) == 0 { // and something else meanwhile
		wait(ctx, d/3)
		c.kill(t)
		what += ", and " + t.name + " was killed meanwhile"
		d -= d / 3
	}
	wait(ctx, d)
	p.setCut(false)
	return what
}

func (c *cluster) kill(t target) {
	for _, p := range t.processes() {
		_ = syscall.Kill(p.pid, syscall.SIGKILL) // it may have ended
	}
}

func (c *cluster) freeze(ctx context.Context, t target, d time.Duration) {
	frozen := t.processes()
	for _, p := range frozen {
		_ = syscall.Kill(p.pid, syscall.SIGSTOP) // it may have ended
	}
	wait(ctx, d)
	for _, p := range frozen {
		_ = syscall.Kill(p.pid, syscall.SIGCONT) // it may have been killed as hanging
	}
}
