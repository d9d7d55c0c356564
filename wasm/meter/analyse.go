package meter

// check is what to insert in front of an instruction.
type check struct {
	before int
	weight int64
	nested bool // of a loop that rewrite nests, see nest.go
}

// kind is one of the reasons for which there are checks. A set of them is the
// sum.
type kind uint

// The kinds.
const (
	loopCheck kind = 1 << iota
	cycleCheck
	treeCheck
	indirectCheck
	returnCheck
	bulkCheck
	straightCheck
	cycleDepth
	indirectDepth
)

// rewriter holds what is known of the functions. They are numbered as they were
// defined, the imported ones left out.
type rewriter struct {
	m     *module
	o     Options
	info  Info
	code  code
	graph graph
	stack stack

	checked []bool  // has a check at its entry
	closed  []bool  // holds no check, nor calls what does: it ends within its rest
	entry   []int64 // the rest at its entry, for those that call it

	frames []frame // of analyse
	checks []check // what it found, the last place first
	calls  int     // and loops that it found
	open   bool    // it found a call of what is not closed
	self   uint32  // the function that it is about

	nest nest // of rewrite
	pad  bool // of rewrite: the next check is to align, see align.go

	bodies [][]byte // rewritten
	used   [numHelpers]bool
}

func newRewriter(m *module, o Options) *rewriter {
	n := len(m.bodies)
	return &rewriter{
		m: m, o: o,
		graph:   graph{first: make([]int, 1, n+1)},
		stack:   stack{frame: make([]int64, n), indirect: make([]bool, n)},
		checked: make([]bool, n),
		closed:  make([]bool, n),
		entry:   make([]int64, n),
		bodies:  make([][]byte, n),
	}
}

// survey reads all functions: who calls whom, and how big their frames are.
func (w *rewriter) survey() error {
	seen := make([]int, len(w.m.bodies)) // by whom last, plus one
	for f := range w.m.bodies {
		if err := w.m.decodeBody(&w.code, uint32(f)); err != nil {
			return err
		}
		w.info.Instrs += len(w.code.list)
		w.stack.frame[f] = w.code.estimate()
		for _, i := range w.code.list {
			switch i.op {
			case opCallIndirect, opTailIndirect:
				w.stack.indirect[f] = true
			case opCall, opTailCall:
				if i.arg < w.m.importedFuncs {
					continue
				}
				if g := i.arg - w.m.importedFuncs; seen[g] != f+1 {
					seen[g] = f + 1
					w.graph.callees = append(w.graph.callees, g)
				}
			}
		}
		w.graph.first = append(w.graph.first, len(w.graph.callees))
	}
	w.stack.tails = w.m.usesTails
	w.graph.sort()
	w.stack.measure(&w.graph)
	return nil
}

// functions rewrites all functions, callees before callers.
func (w *rewriter) functions() error {
	for _, f := range w.graph.order {
		for _, g := range w.graph.of(f) {
			w.checked[g] = w.checked[g] || w.graph.closes(f, g)
		}
	}
	for _, f := range w.graph.order {
		if err := w.function(f); err != nil {
			return err
		}
	}
	return nil
}

// function rewrites one function whose callees are done, or closed a cycle.
func (w *rewriter) function(f uint32) error {
	if err := w.m.decodeBody(&w.code, f); err != nil {
		return err
	}
	w.open, w.self = false, f
	rest := w.analyse() + w.code.locals/2
	w.checked[f] = w.checked[f] && w.holds(cycleCheck) || rest > w.entryBound() && w.holds(treeCheck)
	if w.checked[f] {
		rest = w.insert(0, rest)
		w.info.Entries++
	}
	w.closed[f] = !w.open && len(w.checks) == 0
	w.entry[f] = rest
	w.bodies[f] = w.rewrite()
	return nil
}

// holds reports that checks of that kind are not left out, which tests do.
func (w *rewriter) holds(k kind) bool { return w.o.omit&k == 0 }

// frame is a construct that analyse is within, from its end to its beginning.
type frame struct {
	label     int64 // rest where its branches lead
	other     int64 // rest at its else
	moves     int64 // of a loop: the weight of what is passed to its beginning
	hasOther  bool
	branching bool // something branches to it
	calls     int  // of those behind it, and loops
}

// insert plans a check and returns the rest in front of it.
func (w *rewriter) insert(before int, rest int64) int64 {
	if n := len(w.checks); n > 0 && w.checks[n-1].before == before {
		w.checks[n-1].weight += rest
		return 0
	}
	w.checks = append(w.checks, check{before: before, weight: rest + weightCheck})
	return 0
}

// split plans a check if the rest is above most.
func (w *rewriter) split(before int, rest, most int64) int64 {
	if rest > most {
		return w.insert(before, rest)
	}
	return rest
}

// analyse plans the checks of the decoded function, all but the one at its
// entry, and returns the rest there.
func (w *rewriter) analyse() int64 {
	results := weighMoves(w.m.arity[w.m.functions[w.self]])
	w.frames, w.checks, w.calls = append(w.frames[:0], frame{label: results}), w.checks[:0], 0
	rest := results
	for n := len(w.code.list) - 2; n >= 0; n-- { // the last one is the end
		i := &w.code.list[n]
		switch i.op {
		case opBlock, opLoop, opIf, opElse, opEnd:
			rest = w.structure(n, i, rest)
		case opBr, opBrIf, opBrTable:
			rest = w.branch(n, i, rest)
		case opReturn, opUnreachable:
			rest = weigh(i.op, 0) + results
		case opTailCall, opTailIndirect:
			w.calls++
			rest = w.call(n, i, weigh(opReturn, 0)) // what is behind does not run
		case opCall, opCallIndirect:
			w.calls++
			rest = w.call(n, i, rest)
		default:
			rest += weigh(i.op, i.sub)
		}
		if w.holds(straightCheck) {
			rest = w.split(n, rest, 4*w.o.Bound)
		}
	}
	return rest
}

func (w *rewriter) structure(n int, i *instr, rest int64) int64 {
	top := len(w.frames) - 1
	switch i.op {
	case opEnd:
		moves := weighMoves(int64(i.arg))
		if i.sub == opLoop {
			w.frames = append(w.frames, frame{label: moves, moves: moves, calls: w.calls})
			return rest
		}
		rest = w.split(n+1, rest, w.splitBound()) + moves
		w.frames = append(w.frames, frame{label: rest})
	case opElse:
		w.frames[top].other, w.frames[top].hasOther = w.split(n+1, rest, w.splitBound()), true
		rest = w.frames[top].label
	case opBlock:
		w.frames = w.frames[:top]
	case opLoop:
		if w.frames[top].branching && w.holds(loopCheck) {
			fresh := len(w.checks)
			rest = w.insert(n+1, rest)
			w.info.Loops++
			w.mark(fresh, w.calls-w.frames[top].calls)
			w.calls++ // the loops around are not innermost
			rest += w.frames[top].moves
		}
		w.frames = w.frames[:top]
	case opIf:
		other := w.frames[top].label
		if w.frames[top].hasOther {
			other = w.frames[top].other
		}
		rest = max(w.split(n+1, rest, w.splitBound()), other) + weigh(opIf, 0)
		w.frames = w.frames[:top]
	}
	return rest
}

// target returns the rest where a branch leads.
func (w *rewriter) target(label uint32) int64 {
	f := &w.frames[len(w.frames)-1-int(label)]
	f.branching = true
	return f.label
}

func (w *rewriter) branch(n int, i *instr, rest int64) int64 {
	weight := weigh(i.op, 0)
	switch i.op {
	case opBr:
		return weight + w.target(i.arg)
	case opBrIf:
		return weight + max(w.split(n+1, rest, w.splitBound()), w.target(i.arg))
	}
	rest = 0
	r := reader{b: w.code.body, pos: int(i.at) + 1}
	for labels := r.count(); labels >= 0; labels-- {
		rest = max(rest, w.target(r.u32()))
	}
	return weight + rest
}

func (w *rewriter) call(n int, i *instr, rest int64) int64 {
	if i.op == opCallIndirect || i.op == opTailIndirect {
		w.open = true
		rest = w.returned(n, rest)
		if !w.holds(indirectCheck) {
			return rest
		}
		return w.insert(n, rest+weightIndirect+w.depthWeight(i)+w.passing(i)+w.indirectBound())
	}
	rest += w.passing(i)
	if i.arg < w.m.importedFuncs {
		return rest + weightCall + weightHost
	}
	g := i.arg - w.m.importedFuncs
	if !w.closed[g] {
		w.open = true
		rest = w.returned(n, rest)
	}
	return rest + weightCall + w.depthWeight(i) + w.entry[g]
}

// splitBound is the rest above which paths that part or meet get checks.
func (w *rewriter) splitBound() int64 { return 2 * w.o.Bound }

// entryBound is what no function's rest at its entry exceeds.
func (w *rewriter) entryBound() int64 { return w.o.Bound / 4 }

// indirectBound is what the entry of no function in a table exceeds.
func (w *rewriter) indirectBound() int64 {
	if w.m.refersToImports {
		return max(w.entryBound(), weightCall+weightHost)
	}
	return w.entryBound()
}

// passing returns the weight of a call's parameters and results.
func (w *rewriter) passing(i *instr) int64 { return weighMoves(w.m.arity[w.m.callType(i)]) }

// returned plans a check behind a call, for those whose stack unwinds: what runs
// of each frame then is in proportion to what the frame takes of the stack.
func (w *rewriter) returned(n int, rest int64) int64 {
	if !w.holds(returnCheck) {
		return rest
	}
	return w.split(n+1, rest, w.o.Bound/8*w.stack.frame[w.self]/leastFrame)
}

func (w *rewriter) depthWeight(i *instr) int64 {
	if w.depth(i) > 0 {
		return 2 * weightCheck
	}
	return 0
}

// depth returns what a call is charged of the stack, in bytes. 0 is nothing.
func (w *rewriter) depth(i *instr) int64 {
	switch i.op {
	case opCallIndirect:
		if w.holds(indirectDepth) {
			return w.stack.up[w.self]
		}
	case opTailIndirect:
		if !w.proper(i) {
			return w.stack.up[w.self]
		}
	case opCall, opTailCall:
		if i.arg < w.m.importedFuncs || i.op == opTailCall && w.proper(i) {
			return 0
		}
		if w.stack.charged(&w.graph, w.self, i.arg-w.m.importedFuncs) && w.holds(cycleDepth) {
			return w.stack.up[w.self]
		}
	}
	return 0
}

// proper reports that a tail call is one to the engine, too: it takes no stack.
func (w *rewriter) proper(i *instr) bool {
	if i.op == opTailCall && i.arg < w.m.importedFuncs {
		return false // it may be one, or not
	}
	return w.m.inRegisters[w.m.callType(i)]
}
