package meter

// check is what to insert in front of an instruction.
type check struct {
	before   int
	weight   int64
	atBranch bool // not there, but where it leads back to the loop that begins there: see back.go
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
	unwindCheck
	cycleDepth
	indirectDepth
	onceDepth
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
	calls  int     // that it found
	loops  int     // that it is in
	leaks  bool    // it found a call of what is not closed
	self   uint32  // the function that it is about

	open []level // constructs that rewrite is within

	bodies [][]byte // rewritten
	used   [numHelpers]bool
}

func newRewriter(m *module, o Options) *rewriter {
	n := len(m.bodies)
	return &rewriter{
		m: m, o: o,
		graph:   graph{first: make([]int, 1, n+1)},
		stack:   stack{frame: make([]int64, n), indirect: make([]int, n), once: make([]bool, n)},
		checked: make([]bool, n),
		closed:  make([]bool, n),
		entry:   make([]int64, n),
		bodies:  make([][]byte, n),
	}
}

// survey reads all functions: who calls whom, and how big their frames are.
func (w *rewriter) survey() error {
	seen := make([]int, len(w.m.bodies)) // where among the callees of who calls it, plus one
	for f := range w.m.bodies {
		if err := w.m.decodeBody(&w.code, uint32(f)); err != nil {
			return err
		}
		w.info.Instrs += len(w.code.list)
		w.info.Effort += w.code.effort()
		w.stack.frame[f] = w.code.estimate()
		for _, i := range w.code.list {
			switch i.op {
			case opCallIndirect, opTailIndirect:
				w.stack.indirect[f]++
				w.stack.frame[f] += passedBytes(w.m.arity[i.arg])
			case opCall, opTailCall:
				w.stack.frame[f] += passedBytes(w.m.arity[w.m.callType(&i)])
				if i.arg < w.m.importedFuncs {
					continue
				}
				g := i.arg - w.m.importedFuncs
				if seen[g] <= w.graph.first[f] {
					w.graph.callees, w.graph.times = append(w.graph.callees, g), append(w.graph.times, 0)
					seen[g] = len(w.graph.callees)
				}
				w.graph.times[seen[g]-1]++
			}
		}
		w.graph.first = append(w.graph.first, len(w.graph.callees))
		w.stack.once[f] = w.m.results[w.m.functions[f]] != 0
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
	w.leaks, w.self = false, f
	rest := w.analyse() + w.code.locals/2
	if w.once() {
		rest += weightCheck
	}
	w.checked[f] = w.checked[f] && w.holds(cycleCheck) || rest > w.entryBound() && w.holds(treeCheck)
	if w.checked[f] {
		w.insert(0, rest)
		rest = 0
		w.info.Entries++
	}
	w.closed[f] = !w.leaks && len(w.checks) == 0
	w.entry[f] = rest
	w.bodies[f] = w.rewrite()
	return nil
}

// holds reports that checks of that kind are not left out, which tests do.
func (w *rewriter) holds(k kind) bool { return w.o.omit&k == 0 }

// frame is a construct that analyse is within, from its end to its beginning.
type frame struct {
	label    rest  // where its branches lead
	other    rest  // at its else
	moves    int64 // of a loop: the weight of what is passed to its beginning
	hasOther bool
	branches int  // so many instructions branch to it
	table    bool // one of them to others as well
	calls    int  // of those behind it
	last     int  // where a loop ends
}

// rest is the greatest weight of any path to the next check, or the end: of those
// that first lead back to the beginning of a loop around the place, and of others.
// Paths that there are none of have a negative weight.
type rest struct {
	out  int64
	back [tracked]int64 // by the loop's depth
}

// tracked is of how many loops around a place the rest is known apart. Checks
// within deeper ones count what leaves them each time around.
const tracked = 8

const none = -1 << 60 // nothing that is added makes it 0

// nowhere is the rest where no path begins.
var nowhere = rest{none, [tracked]int64{none, none, none, none, none, none, none, none}}

// ends is the rest of paths that end after so much, and lead back nowhere.
func ends(weight int64) rest {
	r := nowhere
	r.out = weight
	return r
}

func (r rest) plus(weight int64) rest {
	r.out += weight
	for i := range r.back {
		r.back[i] += weight
	}
	return r
}

// or is the rest where paths of both begin.
func (r rest) or(other rest) rest {
	r.out = max(r.out, other.out)
	for i := range r.back {
		r.back[i] = max(r.back[i], other.back[i])
	}
	return r
}

func (r rest) most() int64 {
	most := max(r.out, 0)
	for _, weight := range r.back {
		most = max(most, weight)
	}
	return most
}

// checkedHere is the rest in front of a check: a path to it may lead on to each
// loop around it.
func (w *rewriter) checkedHere() rest {
	r := ends(0)
	for i := range min(w.loops, tracked) {
		r.back[i] = 0
	}
	return r
}

// insert plans a check and returns the rest in front of it.
func (w *rewriter) insert(before int, weight int64) rest {
	if n := len(w.checks); n > 0 && w.checks[n-1].before == before {
		w.checks[n-1].weight += weight
	} else {
		w.checks = append(w.checks, check{before: before, weight: weight + weightCheck})
	}
	return w.checkedHere()
}

// split plans a check if the rest is above most.
func (w *rewriter) split(before int, r rest, most int64) rest {
	if weight := r.most(); weight > most {
		return w.insert(before, weight)
	}
	return r
}

// analyse plans the checks of the decoded function, all but the one at its
// entry, and returns the rest there.
func (w *rewriter) analyse() int64 {
	results := weighMoves(w.m.arity[w.m.functions[w.self]])
	if w.once() {
		results += 2 * weightCheck
	}
	w.frames, w.checks = append(w.frames[:0], frame{label: ends(results)}), w.checks[:0]
	w.calls, w.loops = 0, 0
	r, straight := ends(results), int64(0) // what was not added to r yet
	limit := w.straightLimit(r)
	for n := len(w.code.list) - 2; n >= 0; n-- { // the last one is the end
		i := &w.code.list[n]
		if !leads[i.op] {
			if straight += weigh(i.op, i.sub); straight <= limit {
				continue
			}
		}
		r, straight = r.plus(straight), 0
		switch i.op {
		case opBlock, opLoop, opIf, opElse, opEnd:
			r = w.structure(n, i, r)
		case opBr, opBrIf, opBrTable:
			r = w.branch(n, i, r)
		case opReturn, opUnreachable:
			r = ends(weigh(i.op, 0) + results)
		case opTailCall, opTailIndirect:
			w.calls++
			r = w.call(n, i, ends(weigh(opReturn, 0))) // what is behind does not run
		case opCall, opCallIndirect:
			w.calls++
			r = w.call(n, i, r)
		}
		if limit = w.straightLimit(r); limit < 0 {
			r = w.insert(n, r.most())
			limit = w.straightLimit(r)
		}
	}
	return r.plus(straight).most()
}

// straightLimit is how much straight code may weigh in front of what leaves that
// rest.
func (w *rewriter) straightLimit(r rest) int64 {
	if !w.holds(straightCheck) {
		return -none
	}
	return 4*w.o.Bound - r.most()
}

// leads are the instructions that others than the next one may follow, or that are
// calls.
var leads = [256]bool{
	opBlock: true, opLoop: true, opIf: true, opElse: true, opEnd: true, opBr: true, opBrIf: true, opBrTable: true,
	opReturn: true, opUnreachable: true, opCall: true, opCallIndirect: true, opTailCall: true, opTailIndirect: true,
}

func (w *rewriter) structure(n int, i *instr, r rest) rest {
	top := len(w.frames) - 1
	switch i.op {
	case opEnd:
		moves := weighMoves(int64(i.arg))
		if i.sub == opLoop {
			f := frame{label: ends(moves), moves: moves, calls: w.calls, last: n}
			if w.loops < tracked {
				f.label = nowhere
				f.label.back[w.loops] = moves
			}
			w.loops++
			w.frames = append(w.frames, f)
			return r
		}
		r = w.split(n+1, r, w.splitBound()).plus(moves)
		w.frames = append(w.frames, frame{label: r})
	case opElse:
		w.frames[top].other, w.frames[top].hasOther = w.split(n+1, r, w.splitBound()), true
		r = w.frames[top].label
	case opBlock:
		w.frames = w.frames[:top]
	case opLoop:
		r = w.loop(n, &w.frames[top], r)
		w.frames = w.frames[:top]
	case opIf:
		other := w.frames[top].label
		if w.frames[top].hasOther {
			other = w.frames[top].other
		}
		r = w.split(n+1, r, w.splitBound()).or(other).plus(weigh(opIf, 0))
		w.frames = w.frames[:top]
	}
	return r
}

// loop plans the check at the head of a loop, or where it leads back.
func (w *rewriter) loop(n int, f *frame, r rest) rest {
	w.loops--
	if f.branches == 0 || !w.holds(loopCheck) {
		return r
	}
	round, left := r.most(), nowhere
	if w.loops < tracked { // what leaves the loop does so once, and is charged before
		round = max(r.back[w.loops], 0)
		left = r
		left.back[w.loops] = none
		if all := round * w.counted(n, f); all > 0 && all <= w.roundsBound() {
			return w.split(n, left.plus(all+f.moves), w.splitBound())
		}
	}
	w.info.Loops++
	round += weightCheck
	if !w.atBranch(n, f, round) {
		return w.insert(n+1, r.most()).plus(f.moves)
	}
	w.checks = append(w.checks, check{before: n + 1, weight: round, atBranch: true})
	return left.or(w.checkedHere().plus(round)).plus(f.moves)
}

// target returns the construct that a branch leads to.
func (w *rewriter) target(label uint32) *frame {
	f := &w.frames[len(w.frames)-1-int(label)]
	f.branches++
	return f
}

func (w *rewriter) branch(n int, i *instr, r rest) rest {
	weight := weigh(i.op, 0)
	switch i.op {
	case opBr:
		return w.target(i.arg).label.plus(weight)
	case opBrIf:
		return w.split(n+1, r, w.splitBound()).or(w.target(i.arg).label).plus(weight)
	}
	r = nowhere
	labels := reader{b: w.code.body, pos: int(i.at) + 1}
	for left := labels.count(); left >= 0; left-- {
		f := w.target(labels.u32())
		f.table = true
		r = r.or(f.label)
	}
	return r.plus(weight)
}

func (w *rewriter) call(n int, i *instr, r rest) rest {
	i.sub = 0
	if w.unwinds(n, i, r) {
		i.sub = unwinding
	}
	if i.op == opCallIndirect || i.op == opTailIndirect {
		w.leaks = true
		r = w.returned(n, r)
		if !w.holds(indirectCheck) {
			return r
		}
		return w.insert(n, r.most()+weightIndirect+w.depthWeight(i)+w.passing(i)+w.indirectBound())
	}
	r = r.plus(w.passing(i))
	if i.arg < w.m.importedFuncs {
		return r.plus(weightCall + weightHost)
	}
	g := i.arg - w.m.importedFuncs
	if !w.closed[g] {
		w.leaks = true
		r = w.returned(n, r)
	}
	return r.plus(weightCall + w.depthWeight(i) + w.entry[g])
}

// splitBound is the rest above which paths that part or meet get checks.
func (w *rewriter) splitBound() int64 { return 3 * w.o.Bound }

// roundsBound is what all rounds of a loop may weigh that has no check.
func (w *rewriter) roundsBound() int64 { return 8 * w.o.Bound }

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

// returned plans a check behind a call.
func (w *rewriter) returned(n int, r rest) rest {
	if !w.holds(returnCheck) {
		return r
	}
	return w.split(n+1, r, w.returnBound())
}

// unwinding is the sub of a call behind which there is a check on a deep stack.
const unwinding = 1

// unwinds decides whether a call that leaves that rest behind it is to have a check
// there if the stack is deep: not if it is the frame's alone, and hardly anything,
// nor if the callee never returns.
func (w *rewriter) unwinds(n int, i *instr, r rest) bool {
	if w.code.list[n+1].op == opUnreachable || i.op == opTailCall || i.op == opTailIndirect || !w.unwindable() {
		return false
	}
	most := r.most()
	return w.depth(i) > 0 && (w.stack.up[w.self] > w.stack.frame[w.self] || most > mostFree && most <= w.returnBound())
}

// unwindable reports whether the stack can be so deep that it matters.
func (w *rewriter) unwindable() bool { return w.holds(unwindCheck) && w.o.MaxStack > maxUnwound }

// returnBound is the rest above which there is a check behind a call, for those
// whose stack unwinds: what runs of each frame then is in proportion to what the
// frame takes of the stack.
func (w *rewriter) returnBound() int64 { return w.o.Bound / 8 * w.stack.frame[w.self] / leastFrame }

// unwindWeight is what such a check weighs: what may run behind all calls that
// this one has paid the stack for.
func (w *rewriter) unwindWeight(depth int64) int64 {
	return w.o.Bound/8*depth/leastFrame + weightCheck
}

func (w *rewriter) depthWeight(i *instr) int64 {
	switch {
	case w.depth(i) == 0:
		return 0
	case i.sub == unwinding:
		return 3 * weightCheck
	}
	return 2 * weightCheck
}

// depth returns what a call is charged of the stack, in bytes. 0 is nothing.
func (w *rewriter) depth(i *instr) int64 {
	if w.stack.once[w.self] {
		return 0
	}
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

// once reports that the function is charged for the stack where it begins.
func (w *rewriter) once() bool { return w.stack.once[w.self] && w.holds(onceDepth) }

// proper reports that a tail call is one to the engine, too: it takes no stack.
func (w *rewriter) proper(i *instr) bool {
	if i.op == opTailCall && i.arg < w.m.importedFuncs {
		return false // it may be one, or not
	}
	return w.m.inRegisters[w.m.callType(i)]
}
