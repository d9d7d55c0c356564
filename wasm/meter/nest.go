package meter

// Loops that hold no calls take a grant of the budget into a local, and count that
// down. The call of the host is then outside of the loop. The engine keeps no value in
// a register across a call, and has what a loop changes stored each time around,
// if there is a call in it, be it on a path that is never taken. So a loop that
// calls anyway gains nothing, and has the shorter check. A loop of no parameters
//
//	loop ... end
//
// becomes
//
//	block                         ;; out
//	  loop                        ;; again
//	    block                     ;; renew
//	      br_if renew (left < 0)
//	      block                   ;; over
//	        loop
//	          left -= w; br_if over (left < 0)
//	          ...
//	        end
//	        br out
//	      end
//	      br again
//	    end
//	    left = grant()              ;; the helper that charges for it
//	    br again
//	  end
//	end
//
// where each of the blocks that a check branches to is reached by that branch alone:
// the engine merges a comparison into the branch only then, and moves the code for
// it behind all that usually runs. Between the two loops lies no call, so that what
// the inner one changes is not what lives across the call.
//
// Loops in such a loop count down the same local. Before the outermost one it
// begins with what a few rounds weigh, which what leads there has paid for: many
// loops have no more. What is left of a grant behind that loop is lost.
// Branches to the loop itself lead where they did; those that leave it cross four
// more constructs, and get a label that is higher by as many.
//
// A wide loop uses so many locals that one more would be for the stack, and all of those
// around it with no others in them: left is the budget itself then, and
// what renews it the helper that asks for one; with what the round weighs, which was charged
// already, so that it runs however little the host gives. Each round loads and stores it, which is as
// dear as a value on the stack, but pushes none of the loop's own out of the registers.

// Of more loops in one function none is nested, nor where the product with its locals
// is greater: the engine's time to compile grows with the square of it. A C
// library's greatest functions have 53 loops, and a product of 2,300.
const (
	maxNested       = 500
	maxNestedLocals = 8 << 10

	// wideLocals is how many locals fill the registers, of which there are some
	// ten to have.
	wideLocals = 10
)

// nest is the state of rewrite for such loops.
type nest struct {
	used  bool    // there are some
	local uint32  // the grant that is left, if not all are wide
	open  []level // constructs around
}

// level is a construct.
type level struct {
	nested bool
	wide   bool  // a nested one
	within bool  // or within a nested one that is not wide, or one itself
	weight int64 // of a nested one: see check
	moves  int64
	added  uint32 // constructs that were added around it, and around those that it is in
}

// grant is what a nested loop takes of the budget at once.
func (w *rewriter) grant() int64 { return 4 * w.o.Bound }

// nestable decides whether the loop at the n-th instruction is to be nested, in
// which there are so many calls, and whose check weighs so much.
func (w *rewriter) nestable(n, calls int, weight int64) bool {
	// Above half of a grant too much of it would be left over, and a check
	// costs little beside what it stands for.
	if calls > 0 || weight > w.grant()/2 || w.takes(n) {
		return false
	}
	if planned := len(w.checks); planned > 0 && w.checks[planned-1].before == n+1 {
		return false // a check in this place, with which it shares its weight
	}
	return w.code.locals < maxLocals && w.code.loops <= maxNested && w.code.loops*(w.code.locals+w.code.params) <= maxNestedLocals
}

// first is what the outermost of nested loops is granted to begin with, if its
// check weighs so much: what leads to it pays for that.
func first(weight int64) int64 { return min(4*weight, max(128, weight)) }

// takes tells whether the n-th instruction, a loop, has parameters.
func (w *rewriter) takes(n int) bool {
	r := reader{b: w.code.body, pos: int(w.code.list[n].at) + 1}
	t := r.sleb(5)
	return t >= 0 && w.m.params[t] > 0
}

// declare appends the locals, and one for the grant.
func (w *rewriter) declare(out []byte) []byte {
	c := &w.code
	w.nest = nest{open: w.nest.open[:0]}
	grants := false
	for _, c := range w.checks {
		w.nest.used, grants = w.nest.used || c.nested, grants || c.nested && !c.wide
	}
	decl := c.body[:c.list[0].at]
	w.nest.open = append(w.nest.open, level{})
	if !grants {
		return append(out, decl...)
	}
	w.nest.local = uint32(c.params + c.locals)
	r := reader{b: decl}
	r.u32()
	out = append(uleb(out, c.groups+1), decl[r.pos:]...)
	return append(out, 1, valueI64)
}

// nests reports that construct is to be asked about an instruction, in functions
// that get constructs.
func (w *rewriter) nests(op byte) bool {
	switch op {
	case opBlock, opLoop, opIf, opEnd:
		return true
	case opReturn:
		return w.once()
	case opBr, opBrIf, opBrTable:
		return w.nest.open[len(w.nest.open)-1].added > 0
	}
	return false
}

// construct appends the n-th instruction, one that begins or ends a construct, or
// branches. Of loops that are to be nested c is the check.
func (w *rewriter) construct(out []byte, n int, c *check) []byte {
	i, top := &w.code.list[n], len(w.nest.open)-1
	text := w.code.body[i.at:w.code.end(n)]
	switch i.op {
	case opEnd:
		if top == 0 && w.once() {
			out = w.leave(append(out, opEnd), w.stack.up[w.self], w.unwindable())
			return append(out, opEnd)
		}
		if l := &w.nest.open[top]; l.nested {
			out = append(out, opEnd, opBr, 3, opEnd, opBr, 1, opEnd)
			if l.moves > 0 {
				out = add(out, w.budget(), -2*l.moves)
			}
			if l.wide {
				out = add(w.callHelper(out, helperRefill), w.budget(), l.weight)
			} else {
				out = uleb(append(w.callHelper(out, helperGrant), opLocalSet), w.nest.local)
			}
			out = append(out, opBr, 0, opEnd)
		}
		w.nest.open = w.nest.open[:top]
		return append(out, text...)
	case opBr, opBrIf:
		return uleb(append(out, i.op), w.shifted(i.arg))
	case opReturn: // by way of what stands behind the body
		return uleb(append(out, opBr), w.shifted(uint32(top)))
	case opBrTable:
		r := reader{b: text, pos: 1}
		labels := r.count()
		out = uleb(append(out, i.op), uint32(labels))
		for ; labels >= 0; labels-- {
			out = uleb(out, w.shifted(r.u32()))
		}
		return out
	}
	l := level{within: w.nest.open[top].within, added: w.nest.open[top].added}
	if c == nil {
		w.nest.open = append(w.nest.open, l)
		return append(out, text...)
	}
	return w.nestLoop(out, text, l, c)
}

// nestLoop appends what begins a nested loop, which text begins in the module. l is the
// level around it.
func (w *rewriter) nestLoop(out, text []byte, l level, c *check) []byte {
	if !l.within && !c.wide {
		out = sleb(append(out, opI64Const), first(c.weight))
		out = uleb(append(out, opLocalSet), w.nest.local)
	}
	w.nest.open = append(w.nest.open, level{nested: true, wide: c.wide, within: l.within || !c.wide, weight: c.weight, moves: c.moves, added: l.added + 4})
	out = append(append(append(out, opBlock), text[1:]...), text...)
	out = w.left(append(out, opBlock, blockEmpty), c)
	out = append(out, opI64Const, 0, opI64LtS, opBrIf, 0, opBlock, blockEmpty)
	if out = append(out, text...); c.wide {
		out = w.left(add(out, w.budget(), -c.weight), c)
	} else {
		out = sleb(append(w.left(out, c), opI64Const), c.weight)
		out = uleb(append(out, opI64Sub, opLocalTee), w.nest.local)
	}
	return append(out, opI64Const, 0, opI64LtS, opBrIf, 1)
}

// left appends what is left of what a nested loop counts.
func (w *rewriter) left(out []byte, c *check) []byte {
	if c.wide {
		return uleb(append(out, opGlobalGet), w.budget())
	}
	return uleb(append(out, opLocalGet), w.nest.local)
}

// manyLocals reports whether the locals that are used between two instructions make a
// loop wide.
func (w *rewriter) manyLocals(begin, end int) bool {
	if most := int(w.code.params + w.code.locals); len(w.met) < most {
		w.met = make([]uint, most)
	}
	w.look++
	n := 0
	for ; begin < end && n < w.o.wide; begin++ {
		i := &w.code.list[begin]
		if i.op < opLocalGet || i.op > opLocalTee {
			continue
		}
		r := reader{b: w.code.body, pos: int(i.at) + 1}
		if l := r.u32(); w.met[l] != w.look {
			w.met[l] = w.look
			n++
		}
	}
	return n >= w.o.wide
}

// shifted returns a label, which what was added around inner loops moved outward.
func (w *rewriter) shifted(label uint32) uint32 {
	top := len(w.nest.open) - 1
	return label + w.nest.open[top].added - w.nest.open[top-int(label)].added
}
