package meter

// Instructions of the code that is inserted.
const (
	opI32LeU          = 0x4d
	opI32GtU          = 0x4b
	opI64LtS          = 0x53
	opI64GtU          = 0x56
	opI32Add          = 0x6a
	opI32Sub          = 0x6b
	opI32Or           = 0x72
	opI64Add          = 0x7c
	opI64Sub          = 0x7d
	opI64Shl          = 0x86
	opI64ShrU         = 0x88
	opI64ExtendU      = 0xad
	valueI32     byte = 0x7f
	valueI64     byte = 0x7e
)

// budget is the index of the global.
func (w *rewriter) budget() uint32 { return uint32(w.m.importedGlobals + w.m.numGlobals) }

// check appends a check of that weight.
func (w *rewriter) check(out []byte, weight int64) []byte {
	out = uleb(append(out, opGlobalGet), w.budget())
	out = sleb(append(out, opI64Const), weight)
	return w.charge(out)
}

// charge appends the end of a check, which finds the budget and the weight on
// the stack.
func (w *rewriter) charge(out []byte) []byte {
	g := w.budget()
	out = uleb(append(out, opI64Sub, opGlobalSet), g)
	out = uleb(append(out, opGlobalGet), g)
	out = append(out, opI64Const, 0, opI64LtS, opIf, blockEmpty, opCall)
	out = uleb(out, w.m.importedFuncs)
	out = uleb(append(out, opGlobalSet), g)
	return append(out, opEnd)
}

// rewrite returns the decoded function with its checks and new indices.
func (w *rewriter) rewrite() []byte {
	c := &w.code
	w.info.Checks += len(w.checks)
	out := make([]byte, 0, len(c.body)+len(c.body)/32+22*len(w.checks)+8)
	out = append(out, c.body[:c.list[0].at]...)
	next := len(w.checks) - 1
	copied := c.list[0].at // up to where the body is in out
	for n := range c.list {
		i := &c.list[n]
		due := next >= 0 && w.checks[next].before == n
		if !due && i.op != opCall && i.op != opRefFunc && i.op != opMisc {
			continue
		}
		out = append(out, c.body[copied:i.at]...)
		copied = i.at
		if due {
			out = w.check(out, w.checks[next].weight)
			next--
		}
		switch i.op {
		case opCall, opRefFunc:
			out = uleb(append(out, i.op), w.m.remap(i.arg))
			copied = c.end(n)
		case opMisc:
			if out = w.bulk(out, i.sub); i.sub == miscMemoryCopy || i.sub == miscMemoryFill {
				copied = c.end(n)
			}
		}
	}
	return append(out, c.body[copied:]...)
}

// bulk appends what stands in front of a bulk instruction, or in its place.
func (w *rewriter) bulk(out []byte, sub byte) []byte {
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
