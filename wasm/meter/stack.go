package meter

// The engine's stack is outside of a guest's memory, and its own bound far too
// high for many guests beside each other. So calls that can be part of a cycle
// are charged for the bytes of the frames that the last charged one did not
// cover.
const (
	// carried is how many bytes of frames may go uncharged from function to
	// function, where calls can lead deeper. Less is more precise and slower.
	carried = 8192
	// smallCycle is of how many functions a cycle is a program's own recursion. A
	// greater one is a run-time library, which all call and nobody nests.
	smallCycle = 16
	// maxShallow is how many bytes a tree of calls may take that is free of
	// charges: it can only be at the stack's end.
	maxShallow = 64 << 10

	// manyCalls is of how many charged calls a function is charged for its frame once,
	// where it begins, instead of at each.
	manyCalls = 2

	// leastFrame is what a frame counts at least.
	leastFrame = 64

	// maxUnwound is how many bytes of the stack's beginning unwind without checks,
	// and mostFree what may run behind a call of any depth: one access to memory.
	maxUnwound = 128 << 10
	mostFree   = 4

	// Registers that the engine passes values in, at least, on all processors.
	// A tail call that needs more is none to it, but takes stack.
	intRegisters   = 5
	otherRegisters = 7
)

// stack is what is known of functions' frames, by estimate.
type stack struct {
	frame    []int64 // bytes
	indirect []int   // how many indirect calls it has
	once     []bool  // it is charged where it begins, and not for its calls; until measured: it may be
	deep     []bool  // calls can lead from it into a cycle, or to more than maxShallow
	hub      []bool  // closes cycles, and pays for its calls instead of its callers
	up       []int64 // bytes of the frame, and those that its callers did not charge for
	tails    bool    // there are tail calls: nothing is carried
}

// estimate returns about how many bytes the engine's frame of the decoded
// function takes. The engine gives each value a place of its own that it cannot
// keep in a register: mostly those of locals, one each time that a local is set
// or that paths with different values meet.
func (c *code) estimate() int64 {
	return leastFrame + 4*c.sets + int64(len(c.list))/2 + c.blocks*min(c.sets, c.locals)/4
}

// passedBytes is what a call adds to its caller's frame, if it passes so many values:
// those that registers do not hold.
func passedBytes(arity int64) int64 { return 8 * max(arity-intRegisters-otherRegisters, 0) }

// measure finds out which calls lead deeper, and what they have to be charged.
func (s *stack) measure(g *graph) {
	n := len(g.place)
	s.deep, s.up = make([]bool, n), make([]int64, n)
	s.findHubs(g)
	down := make([]int64, n)
	for _, f := range g.order {
		s.deep[f] = s.indirect[f] > 0 || g.cyclic[f]
		for _, callee := range g.of(f) {
			s.deep[f] = s.deep[f] || s.deep[callee]
			down[f] = max(down[f], down[callee])
		}
		down[f] += s.frame[f]
		s.deep[f] = s.deep[f] || down[f] > maxShallow
	}
	for place := n - 1; place >= 0; place-- {
		f := g.order[place]
		s.up[f] += s.frame[f]
		if s.once[f] = s.once[f] && !s.tails && s.calls(g, f) >= manyCalls; s.once[f] {
			continue
		}
		for _, callee := range g.of(f) {
			if s.deep[callee] && !s.charged(g, f, callee) {
				s.up[callee] = max(s.up[callee], s.up[f])
			}
		}
	}
}

// findHubs finds the functions that close cycles of many functions and call
// fewer of them than call them. What leads through one leads out of it, so it is
// enough, and takes less code, to charge its own calls. As what was carried to it
// counts the most that can be.
func (s *stack) findHubs(g *graph) {
	closers := make([]int, len(s.up))
	for _, f := range g.order {
		for _, callee := range g.of(f) {
			if g.closes(f, callee) && g.size[g.cycle[callee]] > smallCycle {
				closers[callee]++
			}
		}
	}
	s.hub = make([]bool, len(s.up))
	for f, n := range closers {
		if n > len(g.of(uint32(f))) {
			s.hub[f], s.up[f] = true, carried
		}
	}
}

// charged reports whether f charges its calls of that function for the stack.
// Those that close a cycle must be. So are those that enter one, or a function
// that has an indirect call, for precision: what lies above a cycle is charged
// once, and not again in each round. Where
// there are tail calls all are: the function that a frame makes place for would
// have to count what was carried to that.
func (s *stack) charged(g *graph, f, callee uint32) bool {
	return s.deep[callee] &&
		(s.tails || s.up[f] > carried || g.closes(f, callee) && !s.hub[callee] || s.indirect[callee] > 0 ||
			g.cyclic[callee] && g.cycle[f] != g.cycle[callee] && g.size[g.cycle[callee]] <= smallCycle)
}

// calls returns how many of f's calls are charged.
func (s *stack) calls(g *graph, f uint32) int {
	n := s.indirect[f]
	for i, callee := range g.of(f) {
		if s.charged(g, f, callee) {
			n += g.times[g.first[f]+i]
		}
	}
	return n
}
