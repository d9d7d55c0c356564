package meter

// A loop that one branch leads back to, and that holds no calls, is checked at that
// branch instead of where it begins: before each round but the first, which what leads
// to the loop has paid for. Where a loop begins all that it changes is what two paths pass
// there, and the engine stores that each time around if it is in use across a call. Where it
// is led back to, it is what the round has just made, and is stored beside
// the call, if that is made. So
//
//	br_if loop
//
// becomes
//
//	if
//	  budget -= w
//	  if budget >= 0 { br loop } else { helper(); br loop } // budget = refill()
//	end
//
// A comparison is merged into a branch only if no other leads to the same place, which is so
// for both of these, though it was not for the module's own. Both paths end the round, so
// the one that calls lies behind the rest of the function, and the other one is not
// interrupted.
//
// A loop that calls anyway would gain nothing, and one that many branches lead back to
// would have as many checks.

// level is a construct that rewrite is within.
type level struct {
	round int64 // what the check at the branch to it weighs; 0: there is none
}

// atBranch decides whether the loop at the n-th instruction is checked where it leads
// back, whose rounds weigh so much.
func (w *rewriter) atBranch(n int, f *frame, weight int64) bool {
	return f.branches == 1 && !f.table && f.calls == w.calls && weight <= w.o.Bound && !w.takes(n)
}

// takes tells whether the n-th instruction, a loop, has parameters: its branches pass
// values, which the constructs of a check would hide.
func (w *rewriter) takes(n int) bool {
	r := reader{b: w.code.body, pos: int(w.code.list[n].at) + 1}
	t := r.sleb(5)
	return t >= 0 && w.m.params[t] > 0
}

// constructs reports whether the function has loops that are checked at branches, or a
// block around its body, so that rewrite keeps track of what it is within.
func (w *rewriter) constructs() bool {
	if w.once() {
		return true
	}
	for i := range w.checks {
		if w.checks[i].atBranch {
			return true
		}
	}
	return false
}

// tracks reports that construct is to be asked about an instruction, in functions that
// are kept track of.
func (w *rewriter) tracks(i *instr) bool {
	switch i.op {
	case opBlock, opLoop, opIf, opEnd:
		return true
	case opReturn:
		return w.once()
	case opBr, opBrIf:
		return w.open[len(w.open)-1-int(i.arg)].round > 0
	}
	return false
}

// construct appends the n-th instruction, one that begins or ends a construct, or
// branches to a loop that is checked there. Of such a loop's beginning round is what its
// check weighs; it is 0 for all else.
func (w *rewriter) construct(out []byte, n int, round int64) []byte {
	i, top := &w.code.list[n], len(w.open)-1
	switch i.op {
	case opEnd:
		if top == 0 && w.once() {
			out = w.leave(append(out, opEnd), w.stack.up[w.self], w.unwindable())
		}
		w.open = w.open[:top]
		return append(out, opEnd)
	case opReturn: // by way of what stands behind the body
		return uleb(append(out, opBr), uint32(top))
	case opBr:
		// What stands behind it is not reached, and may be of any type.
		return append(w.lead(out, w.open[top-int(i.arg)].round, i.arg+1), opUnreachable)
	case opBrIf:
		out = append(out, opIf, blockEmpty)
		return append(w.lead(out, w.open[top-int(i.arg)].round, i.arg+2), opEnd)
	}
	w.open = append(w.open, level{round})
	return append(out, w.code.body[i.at:w.code.end(n)]...)
}

// lead appends a check of that weight, and what leads back to a loop: the label is that from
// within the check.
func (w *rewriter) lead(out []byte, weight int64, label uint32) []byte {
	out = add(out, w.budget(), -weight)
	out = uleb(append(out, opGlobalGet), w.budget())
	out = uleb(append(out, opI64Const, 0, opI64GeS, opIf, blockEmpty, opBr), label)
	out = w.callHelper(append(out, opElse), helperRefill)
	return append(uleb(append(out, opBr), label), opEnd)
}
