package meter

// Loops that hold no call, nor another loop, take a grant of the budget into a local, and count
// that down. What makes this worth while is less the local than that the call of
// refill leaves the loop: the engine keeps no register across a call, be it on a
// path that is never taken, so all that lives in a loop with one is stored and
// loaded again each time around. A loop that calls anyway gains nothing, and has
// the shorter check. The loop gets another one around it, of the same type, so
// that its parameters stay on the stack:
//
//	loop
//	  check of a grant; left = grant
//	  loop
//	    left -= w; br_if 1 (left < 0)
//	    ...
//	  end
//	end
//
// What is left of a grant when the loop is left is lost. Only innermost loops are
// nested: the check of a grant within another such loop would have that one spill
// its values for the call, and made products of matrices no faster at all.
// Branches to the loop itself lead where they did. Those that leave it cross one
// more construct, and get a label that is higher by one.

// nest is the state of rewrite for such loops.
type nest struct {
	used  bool
	local uint32  // the grant that is left
	open  []level // constructs around
}

// level is a construct.
type level struct {
	nested bool
	added  uint32 // loops that were added around it, and around those that it is in
}

// grant is what a nested loop takes of the budget at once.
func (w *rewriter) grant() int64 { return 4 * w.o.Bound }

// mark decides whether the loop is to be nested whose check was planned last,
// and in which there are so many calls and loops.
func (w *rewriter) mark(fresh, within int) {
	if len(w.checks) == fresh {
		return // there was a check in this place, with which it shares its weight
	}
	c := &w.checks[fresh]
	// Above half of a grant too much of it would be left over, and a check
	// costs little beside what it stands for.
	c.nested = within == 0 && c.weight <= w.grant()/2 && w.code.locals < maxLocals &&
		2*w.code.loops*(w.code.locals+1) <= maxLoopLocals
}

// declare appends the locals, and one for the grant.
func (w *rewriter) declare(out []byte) []byte {
	c := &w.code
	w.nest = nest{open: w.nest.open[:0]}
	for _, c := range w.checks {
		w.nest.used = w.nest.used || c.nested
	}
	decl := c.body[:c.list[0].at]
	if !w.nest.used {
		return append(out, decl...)
	}
	w.nest.local = uint32(c.params + c.locals)
	w.nest.open = append(w.nest.open, level{})
	r := reader{b: decl}
	r.u32()
	out = append(uleb(out, c.groups+1), decl[r.pos:]...)
	return append(out, 1, valueI64)
}

// nests reports that construct is to be asked about an instruction, in functions
// with nested loops.
func (w *rewriter) nests(op byte) bool {
	switch op {
	case opBlock, opLoop, opIf, opEnd:
		return true
	case opBr, opBrIf, opBrTable:
		return w.nest.open[len(w.nest.open)-1].added > 0
	}
	return false
}

// construct appends the n-th instruction, one that begins or ends a construct, or
// branches.
func (w *rewriter) construct(out []byte, n int, nested bool) []byte {
	i, top := &w.code.list[n], len(w.nest.open)-1
	text := w.code.body[i.at:w.code.end(n)]
	switch i.op {
	case opEnd:
		if w.nest.open[top].nested {
			out = append(out, opEnd)
		}
		w.nest.open = w.nest.open[:top]
		return append(out, text...)
	case opBr, opBrIf:
		return uleb(append(out, i.op), w.shifted(i.arg))
	case opBrTable:
		r := reader{b: text, pos: 1}
		labels := r.count()
		out = uleb(append(out, i.op), uint32(labels))
		for ; labels >= 0; labels-- {
			out = uleb(out, w.shifted(r.u32()))
		}
		return out
	}
	l := level{nested: nested, added: w.nest.open[top].added}
	if nested {
		l.added++
		out = append(out, text...)
		out = w.renew(out)
	}
	w.nest.open = append(w.nest.open, l)
	return append(out, text...)
}

// shifted returns a label, which the loops that were added around inner ones
// moved outward.
func (w *rewriter) shifted(label uint32) uint32 {
	top := len(w.nest.open) - 1
	return label + w.nest.open[top].added - w.nest.open[top-int(label)].added
}

// renew appends what stands between the loop that was added and the original.
func (w *rewriter) renew(out []byte) []byte {
	out = w.check(out, w.grant()+2*weightCheck)
	out = sleb(append(out, opI64Const), w.grant())
	return uleb(append(out, opLocalSet), w.nest.local)
}

// round appends the check at the head of a nested loop.
func (w *rewriter) round(out []byte, weight int64) []byte {
	out = uleb(append(out, opLocalGet), w.nest.local)
	out = sleb(append(out, opI64Const), weight)
	out = uleb(append(out, opI64Sub, opLocalTee), w.nest.local)
	return append(out, opI64Const, 0, opI64LtS, opBrIf, 1)
}
