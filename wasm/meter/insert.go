package meter

// Instructions of the code that is inserted.
const (
	opI32Eq           = 0x46
	opI32Ne           = 0x47
	opI32LeU          = 0x4d
	opI32GtU          = 0x4b
	opI64LtS          = 0x53
	opI64GeS          = 0x59
	opI64GtU          = 0x56
	opI32Add          = 0x6a
	opI32Sub          = 0x6b
	opI32Mul          = 0x6c
	opI32Or           = 0x72
	opI64Add          = 0x7c
	opI64Sub          = 0x7d
	opI64Mul          = 0x7e
	opI64Or           = 0x84
	opI64Shl          = 0x86
	opI64ShrU         = 0x88
	opI64ExtendU      = 0xad
	valueI32     byte = 0x7f
	valueI64     byte = 0x7e
)

// budget and depth are the indices of the globals.
func (w *rewriter) budget() uint32    { return uint32(w.m.importedGlobals + w.m.numGlobals) }
func (w *rewriter) depthLeft() uint32 { return w.budget() + 1 }

// add appends an addition to a global.
func add(out []byte, global uint32, n int64) []byte {
	out = uleb(append(out, opGlobalGet), global)
	op := byte(opI64Add)
	if n < 0 {
		op, n = opI64Sub, -n
	}
	out = sleb(append(out, opI64Const), n)
	return uleb(append(out, op, opGlobalSet), global)
}

// ifNegative appends a call of a helper, of no parameters, if the value on the
// stack is negative.
func (w *rewriter) ifNegative(out []byte, h helper) []byte {
	out = append(out, opI64Const, 0, opI64GeS, opIf, blockEmpty, opElse)
	return append(w.callHelper(out, h), opEnd)
}

// check appends a check of that weight.
func (w *rewriter) check(out []byte, weight int64) []byte {
	out = add(out, w.budget(), -weight)
	return w.ifNegative(uleb(append(out, opGlobalGet), w.budget()), helperRefill)
}

// enter appends the check in front of a call that takes so many bytes of the
// stack, with one of that weight, if it is not 0.
func (w *rewriter) enter(out []byte, depth, weight int64) []byte {
	if weight > 0 {
		out = add(out, w.budget(), -weight)
	}
	out = add(out, w.depthLeft(), -depth)
	out = uleb(append(out, opGlobalGet), w.depthLeft())
	if weight > 0 {
		out = append(uleb(append(out, opGlobalGet), w.budget()), opI64Or)
	}
	return w.ifNegative(out, helperEnter)
}

// leave appends what stands behind a call that took so many bytes of the stack.
func (w *rewriter) leave(out []byte, depth int64, unwinding bool) []byte {
	out = add(out, w.depthLeft(), depth)
	if !unwinding {
		return out
	}
	out = uleb(append(out, opGlobalGet), w.depthLeft())
	out = append(sleb(append(out, opI64Const), w.o.MaxStack-maxUnwound), opI64GeS, opIf, blockEmpty, opElse)
	out = sleb(append(out, opI32Const), w.unwindWeight(depth))
	return append(w.callHelper(out, helperUnwind), opEnd)
}

// begin appends what a function begins with that is charged there, with the first
// check, which is planned no more. Its body becomes a block, so that every way out of it
// leads by its end.
func (w *rewriter) begin(out []byte) []byte {
	weight := int64(0)
	if last := len(w.checks) - 1; last >= 0 && w.checks[last].before == 0 {
		weight = w.checks[last].weight
		w.checks = w.checks[:last]
	}
	return append(w.enter(out, w.stack.up[w.self], weight), opBlock, w.m.results[w.m.functions[w.self]])
}

// rewrite returns the decoded function with its checks and new indices.
func (w *rewriter) rewrite() []byte {
	c := &w.code
	w.info.Checks += len(w.checks)
	out := make([]byte, 0, len(c.body)+len(c.body)/32+22*len(w.checks)+8)
	begin := c.list[0].at
	out = append(out, c.body[:begin]...)
	if w.once() {
		out = w.begin(out)
	}
	next, constructs := len(w.checks)-1, w.constructs()
	w.open = append(w.open[:0], level{})
	copied := begin // up to where the body is in out
	for n := range c.list {
		i := &c.list[n]
		weight := int64(0)
		if next >= 0 && w.checks[next].before == n {
			weight = w.checks[next].weight
			next--
		}
		if constructs && w.tracks(i) {
			out = append(out, c.body[copied:i.at]...)
			copied = c.end(n)
			if weight > 0 {
				out = w.check(out, weight)
			}
			round := int64(0)
			if next >= 0 && w.checks[next].before == n+1 && w.checks[next].atBranch {
				round = w.checks[next].weight
				next--
			}
			out = w.construct(out, n, round)
			continue
		}
		if weight == 0 && !rewritten(i.op) {
			continue
		}
		out, copied = w.change(append(out, c.body[copied:i.at]...), n, weight)
	}
	return append(out, c.body[copied:]...)
}

// change appends what stands in front of the n-th instruction, which begins or
// ends no construct, or in its place. It returns from where on to copy the body.
func (w *rewriter) change(out []byte, n int, weight int64) ([]byte, uint32) {
	i, end := &w.code.list[n], w.code.end(n)
	switch i.op {
	case opCall, opCallIndirect, opTailCall, opTailIndirect:
		return w.rewriteCall(out, n, weight), end
	}
	if weight > 0 {
		out = w.check(out, weight)
	}
	switch i.op {
	case opRefFunc:
		return uleb(append(out, i.op), w.m.remap(i.arg)), end
	case opMisc:
		out = w.bulk(out, i.sub)
		if i.sub == miscMemoryCopy || i.sub == miscMemoryFill {
			return out, end
		}
	}
	return out, i.at
}

// rewritten reports that an instruction may change, whether or not there is a
// check in front of it.
func rewritten(op byte) bool {
	switch op {
	case opCall, opCallIndirect, opTailCall, opTailIndirect, opRefFunc, opMisc:
		return true
	}
	return false
}

// rewriteCall appends a call with what is in front of it and behind.
func (w *rewriter) rewriteCall(out []byte, n int, weight int64) []byte {
	i := &w.code.list[n]
	depth := w.depth(i)
	switch {
	case depth > 0:
		out = w.enter(out, depth, weight)
	case weight > 0:
		out = w.check(out, weight)
	}
	op, tail := i.op, i.op == opTailCall || i.op == opTailIndirect
	if tail && !w.proper(i) {
		if op = opCall; i.op == opTailIndirect {
			op = opCallIndirect
		}
	}
	if i.op == opCall || i.op == opTailCall {
		out = uleb(append(out, op), w.m.remap(i.arg))
	} else {
		out = append(append(out, op), w.code.body[i.at+1:w.code.end(n)]...)
	}
	if depth > 0 {
		out = w.leave(out, depth, i.sub == unwinding)
	}
	if op != i.op {
		out = append(out, opReturn)
	}
	return out
}

// bulk appends what stands in front of a bulk instruction, or in its place.
func (w *rewriter) bulk(out []byte, sub byte) []byte {
	if !w.holds(bulkCheck) {
		switch sub {
		case miscMemoryFill:
			return append(out, opMisc, sub, 0)
		case miscMemoryCopy:
			return append(out, opMisc, sub, 0, 0)
		}
		return out
	}
	switch sub {
	case miscMemoryFill:
		return w.callHelper(out, helperFill)
	case miscMemoryCopy:
		return w.callHelper(out, helperCopy)
	case miscMemoryInit, miscTableInit, miscTableCopy, miscTableGrow, miscTableFill:
		return w.callHelper(out, helperCharge)
	}
	return out
}
