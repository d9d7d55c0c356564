// Package history records what clients asked of a cluster and what it answered,
// and tells whether some order of the requests, each taking effect at one moment
// between its call and its answer, explains all answers. It must not know how
// the cluster is reached.
package history

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// Recorder keeps the operations on counters, each an object of the cluster's
// whose number is read, or raised by one. The zero value is ready; its methods
// may be called concurrently.
type Recorder struct {
	mu      sync.Mutex
	begin   time.Time
	objects map[string][]porcupine.Operation
}

// input says what was asked: to add one, or to read.
type input struct{ add bool }

// output is the number after an addition, or read. Of one unknown it is not
// known whether it took effect, then or later.
type output struct {
	value   int64
	unknown bool
}

// Call is an operation under way.
type Call struct {
	recorder *Recorder
	object   string
	op       porcupine.Operation
}

// Add begins the addition of one, by a client that does one thing at a time.
func (r *Recorder) Add(client int, object string) *Call { return r.call(client, object, true) }

// Read begins a read.
func (r *Recorder) Read(client int, object string) *Call { return r.call(client, object, false) }

func (r *Recorder) call(client int, object string, add bool) *Call {
	return &Call{recorder: r, object: object, op: porcupine.Operation{ClientId: client, Input: input{add}, Call: r.now()}}
}

func (r *Recorder) now() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.begin.IsZero() {
		r.begin = time.Now()
	}
	return int64(time.Since(r.begin))
}

// Done says what was answered.
func (c *Call) Done(value int64) {
	c.op.Return, c.op.Output = c.recorder.now(), output{value: value}
	c.recorder.add(c)
}

// Unknown says that no answer came. A read that was not answered says nothing.
func (c *Call) Unknown() {
	if in, ok := c.op.Input.(input); ok && in.add {
		c.op.Return, c.op.Output = math.MaxInt64, output{unknown: true}
		c.recorder.add(c)
	}
}

func (r *Recorder) add(c *Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.objects == nil {
		r.objects = map[string][]porcupine.Operation{}
	}
	r.objects[c.object] = append(r.objects[c.object], c.op)
}

// Len returns how many operations were recorded.
func (r *Recorder) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, ops := range r.objects {
		n += len(ops)
	}
	return n
}

var counter = (&porcupine.NondeterministicModel{
	Init: func() []any { return []any{int64(0)} },
	Step: func(state, asked, answered any) []any {
		now, in, out := state.(int64), asked.(input), answered.(output) //nolint:forcetypeassert // they are ours
		switch {
		case out.unknown:
			return []any{now, now + 1}
		case in.add && out.value == now+1:
			return []any{out.value}
		case !in.add && out.value == now:
			return []any{now}
		}
		return nil
	},
	Equal: func(a, b any) bool { return a == b },
}).ToModel()

// Check returns an error that names each object whose history is not linear, or
// could not be judged within that time.
func (r *Recorder) Check(within time.Duration) error {
	r.mu.Lock()
	objects := maps.Clone(r.objects)
	r.mu.Unlock()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		ops := objects[name]
		switch porcupine.CheckOperationsTimeout(counter, ops, within) {
		case porcupine.Illegal:
			errs = append(errs, fmt.Errorf("%s: its %d operations have no order that explains what was answered:%s", name, len(ops), list(ops)))
		case porcupine.Unknown:
			errs = append(errs, fmt.Errorf("%s: its %d operations could not be judged within %s", name, len(ops), within))
		}
	}
	return errors.Join(errs...)
}

// listMax bounds the operations that an error lists: the last ones, for a
// history is checked again and again while it grows.
const listMax = 60

func list(ops []porcupine.Operation) string {
	slices.SortFunc(ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	text := ""
	if before := len(ops) - listMax; before > 0 {
		text, ops = fmt.Sprintf("\n\t%d before", before), ops[before:]
	}
	for _, op := range ops {
		what, ended := "read", time.Duration(op.Return).String()
		if op.Input.(input).add { //nolint:forcetypeassert // it is ours
			what = "add"
		}
		if op.Output.(output).unknown { //nolint:forcetypeassert // it is ours
			ended = "never"
		}
		text += fmt.Sprintf("\n\tclient %d %s: %d (%s to %s)", op.ClientId, what, op.Output.(output).value, time.Duration(op.Call), ended) //nolint:forcetypeassert // it is ours
	}
	return text
}
