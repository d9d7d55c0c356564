package meter

// check is a check to insert in front of an instruction.
type check struct {
	before int
	weight int64
}

// rewriter holds what is known of the functions. They are numbered as they were
// defined, the imported ones left out.
type rewriter struct {
	m    *module
	o    Options
	info Info
	code code

	// The graph of direct calls: f calls callees[first[f]:first[f+1]].
	first   []int
	callees []uint32

	state   []state
	checked []bool  // has a check at its entry
	closed  []bool  // holds no check, nor calls what does: it ends within its rest
	entry   []int64 // the rest at its entry, for those that call it

	frames []frame // of analyse
	checks []check // what it found, the last place first
	open   bool    // it found a call of what is not closed

	bodies [][]byte // rewritten
	used   [numHelpers]bool
}

type state byte

const (
	unseen state = iota
	open         // its callees are being searched
	done
)

func newRewriter(m *module, o Options) *rewriter {
	n := len(m.bodies)
	return &rewriter{
		m: m, o: o,
		first:   make([]int, 1, n+1),
		state:   make([]state, n),
		checked: make([]bool, n),
		closed:  make([]bool, n),
		entry:   make([]int64, n),
		bodies:  make([][]byte, n),
	}
}

// graph collects who calls whom.
func (w *rewriter) graph() error {
	seen := make([]int, len(w.m.bodies)) // by whom last, plus one
	for f, body := range w.m.bodies {
		if err := w.m.decodeBody(&w.code, body); err != nil {
			return err
		}
		w.info.Instrs += len(w.code.list)
		for _, i := range w.code.list {
			if i.op != opCall || i.arg < w.m.importedFuncs {
				continue
			}
			if g := i.arg - w.m.importedFuncs; seen[g] != f+1 {
				seen[g] = f + 1
				w.callees = append(w.callees, g)
			}
		}
		w.first = append(w.first, len(w.callees))
	}
	return nil
}

// functions rewrites all functions, callees before callers. It is a search
// depth first without recursion, for chains of calls are as long as a module
// wants.
func (w *rewriter) functions() error {
	type visit struct {
		f    uint32
		next int
	}
	var stack []visit
	for root := range w.m.bodies {
		if w.state[root] != unseen {
			continue
		}
		w.state[root] = open
		stack = append(stack, visit{uint32(root), w.first[root]})
		for len(stack) > 0 {
			top := &stack[len(stack)-1]
			if top.next == w.first[top.f+1] {
				if err := w.function(top.f); err != nil {
					return err
				}
				w.state[top.f] = done
				stack = stack[:len(stack)-1]
				continue
			}
			g := w.callees[top.next]
			top.next++
			switch w.state[g] {
			case unseen:
				w.state[g] = open
				stack = append(stack, visit{g, w.first[g]})
			case open:
				w.checked[g] = true // it closes a cycle
			}
		}
	}
	return nil
}

// function rewrites one function whose callees are done, or closed a cycle.
func (w *rewriter) function(f uint32) error {
	if err := w.m.decodeBody(&w.code, w.m.bodies[f]); err != nil {
		return err
	}
	w.open = false
	rest := w.analyse() + w.code.locals/2
	if w.checked[f] = w.checked[f] || rest > w.o.Bound; w.checked[f] {
		rest = w.insert(0, rest)
		w.info.Entries++
	}
	w.closed[f] = !w.open && len(w.checks) == 0
	w.entry[f] = rest
	w.bodies[f] = w.rewrite()
	return nil
}

// frame is a construct that analyse is within, from its end to its beginning.
type frame struct {
	label     int64 // rest where its branches lead
	other     int64 // rest at its else
	hasOther  bool
	branching bool // something branches to it
}

// insert plans a check and returns the rest in front of it.
func (w *rewriter) insert(before int, rest int64) int64 {
	if n := len(w.checks); n > 0 && w.checks[n-1].before == before {
		w.checks[n-1].weight += rest
		return 0
	}
	w.checks = append(w.checks, check{before, rest + weightCheck})
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
	w.frames, w.checks = append(w.frames[:0], frame{}), w.checks[:0]
	rest := int64(0)
	for n := len(w.code.list) - 2; n >= 0; n-- { // the last one is the end
		i := &w.code.list[n]
		switch i.op {
		case opBlock, opLoop, opIf, opElse, opEnd:
			rest = w.structure(n, i, rest)
		case opBr, opBrIf, opBrTable:
			rest = w.branch(n, i, rest)
		case opReturn, opUnreachable:
			rest = weigh(i.op, 0)
		case opCall, opCallIndirect:
			rest = w.call(n, i, rest)
		default:
			rest += weigh(i.op, i.sub)
		}
		rest = w.split(n, rest, 16*w.o.Bound)
	}
	return rest
}

func (w *rewriter) structure(n int, i *instr, rest int64) int64 {
	top := len(w.frames) - 1
	switch i.op {
	case opEnd:
		if i.arg == opLoop {
			w.frames = append(w.frames, frame{})
			return rest
		}
		rest = w.split(n+1, rest, w.o.Bound)
		w.frames = append(w.frames, frame{label: rest})
	case opElse:
		w.frames[top].other, w.frames[top].hasOther = w.split(n+1, rest, w.o.Bound), true
		rest = w.frames[top].label
	case opBlock:
		w.frames = w.frames[:top]
	case opLoop:
		if w.frames[top].branching {
			rest = w.insert(n+1, rest)
			w.info.Loops++
		}
		w.frames = w.frames[:top]
	case opIf:
		other := w.frames[top].label
		if w.frames[top].hasOther {
			other = w.frames[top].other
		}
		rest = max(w.split(n+1, rest, w.o.Bound), other) + weigh(opIf, 0)
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
		return weight + max(w.split(n+1, rest, w.o.Bound), w.target(i.arg))
	}
	rest = 0
	r := reader{b: w.code.body, pos: int(i.at) + 1}
	for labels := r.count(); labels >= 0; labels-- {
		rest = max(rest, w.target(r.u32()))
	}
	return weight + rest
}

func (w *rewriter) call(n int, i *instr, rest int64) int64 {
	if i.op == opCallIndirect {
		rest = w.split(n+1, rest, w.o.Bound/2)
		// No function's rest at its entry is above Bound.
		return w.insert(n, rest+weightIndirect+w.o.Bound)
	}
	if i.arg < w.m.importedFuncs {
		return rest + weightCall + weightHost
	}
	g := i.arg - w.m.importedFuncs
	if !w.closed[g] {
		w.open = true
		rest = w.split(n+1, rest, w.o.Bound/2)
	}
	return rest + weightCall + w.entry[g]
}
