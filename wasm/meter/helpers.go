package meter

// The helpers are functions that are appended to a module.
type helper int

const (
	// helperRefill asks the host for a budget.
	helperRefill helper = iota
	// helperEnter traps if there is no stack left, and asks for a budget if
	// there is none.
	helperEnter
	// helperUnwind charges so much.
	helperUnwind
	// helperCharge charges for the n entries or bytes of the bulk instruction
	// that comes next, 2 ns each, and returns n.
	helperCharge
	// helperFill and helperCopy are memory.fill and memory.copy, piece by piece.
	helperFill
	helperCopy
	numHelpers
)

// piece is how much a bulk instruction does between two checks, in bytes. It
// weighs half: 8 us, as on pages that were not touched before.
const piece = 64 << 10

// helperName is what a stack trace shows.
func helperName(h helper) string {
	return [numHelpers]string{"meter.refill", StackOverflow, "meter.unwind", "meter.charge", "memory.fill", "memory.copy"}[h]
}

// callHelper appends a call. All helpers count, used or not, so that an index
// is known before the last use is.
func (w *rewriter) callHelper(out []byte, h helper) []byte {
	w.used[h] = true
	return uleb(append(out, opCall), w.m.numFuncs()+1+uint32(h))
}

// helpers returns the code of all. Each calls none but those before it.
func (w *rewriter) helpers() [][]byte {
	out := make([][]byte, numHelpers)
	for h := numHelpers - 1; h >= 0; h-- {
		out[h] = w.helperBody(h)
	}
	return out
}

// helperBody returns a helper's code. One that is not used is only a trap: it
// might need a memory where there is none.
func (w *rewriter) helperBody(h helper) []byte {
	out := []byte{0} // locals
	switch {
	case !w.used[h]:
		return append(out, opUnreachable, opEnd)
	case h == helperRefill || h == helperEnter:
		if h == helperEnter {
			out = uleb(append(out, opGlobalGet), w.depthLeft())
			out = append(out, opI64Const, 0, opI64LtS, opIf, blockEmpty, opUnreachable, opEnd)
		}
		out = uleb(append(out, opCall), w.m.importedFuncs)
		return append(uleb(append(out, opGlobalSet), w.budget()), opEnd)
	case h == helperUnwind:
		out = append(uleb(append(out, opGlobalGet), w.budget()), opLocalGet, 0, opI64ExtendU, opI64Sub)
		out = uleb(append(out, opGlobalSet), w.budget())
		return append(w.ifNegative(uleb(append(out, opGlobalGet), w.budget()), helperRefill), opEnd)
	case h == helperCharge:
		out = w.dynamic(out, 0, opI64Shl, 3)
		return append(out, opLocalGet, 0, opEnd)
	}
	out = append(out, opBlock, blockEmpty)
	// Little, or out of bounds: at once. In bounds, no piece can trap after
	// others were written.
	out = append(out, opLocalGet, 2, opI32Const)
	out = sleb(out, piece)
	out = append(out, opI32LeU, opBrIf, 0)
	out = beyond(out, 0)
	if h == helperCopy {
		out = append(beyond(out, 1), opI32Or)
	}
	out = append(out, opBrIf, 0)
	if h == helperFill {
		out = w.pieces(out, h, false)
	} else {
		// What overlaps is copied from the end that would be overwritten.
		out = append(out, opLocalGet, 0, opLocalGet, 1, opI32LeU, opIf, blockEmpty)
		out = append(w.pieces(out, h, false), opElse)
		out = append(w.pieces(out, h, true), opEnd)
	}
	out = append(out, opEnd)
	out = w.dynamic(out, 2, opI64ShrU, 1)
	out = append(out, opLocalGet, 0, opLocalGet, 1, opLocalGet, 2)
	return append(operation(out, h), opEnd)
}

func operation(out []byte, h helper) []byte {
	if h == helperFill {
		return append(out, opMisc, miscMemoryFill, 0)
	}
	return append(out, opMisc, miscMemoryCopy, 0, 0)
}

// beyond appends whether the address in that local, plus the count in local 2,
// is beyond the memory's end.
func beyond(out []byte, local byte) []byte {
	out = append(out, opLocalGet, local, opI64ExtendU, opLocalGet, 2, opI64ExtendU, opI64Add)
	return append(out, opMemorySize, 0, opI64ExtendU, opI64Const, 16, opI64Shl, opI64GtU)
}

// dynamic appends a check that weighs the unsigned value of a local, shifted so,
// and what a bulk instruction costs at least.
func (w *rewriter) dynamic(out []byte, local, shift, by byte) []byte {
	out = uleb(append(out, opGlobalGet), w.budget())
	out = append(out, opLocalGet, local, opI64ExtendU, opI64Const, by, shift, opI64Const)
	out = append(sleb(out, weightBuiltin/4), opI64Add, opI64Sub)
	out = uleb(append(out, opGlobalSet), w.budget())
	return w.ifNegative(uleb(append(out, opGlobalGet), w.budget()), helperRefill)
}

// pieces appends a loop that does the operation for all but the last piece and
// leaves that in the locals.
func (w *rewriter) pieces(out []byte, h helper, backward bool) []byte {
	step := func(out []byte, local, op byte) []byte {
		out = sleb(append(out, opLocalGet, local, opI32Const), piece)
		return append(out, op, opLocalSet, local)
	}
	out = w.check(append(out, opLoop, blockEmpty), piece/2+weightCheck)
	if backward {
		out = step(out, 2, opI32Sub)
		out = append(out, opLocalGet, 0, opLocalGet, 2, opI32Add, opLocalGet, 1, opLocalGet, 2, opI32Add)
	} else {
		out = append(out, opLocalGet, 0, opLocalGet, 1)
	}
	out = operation(sleb(append(out, opI32Const), piece), h)
	if !backward {
		out = step(out, 0, opI32Add)
		if h == helperCopy {
			out = step(out, 1, opI32Add)
		}
		out = step(out, 2, opI32Sub)
	}
	out = sleb(append(out, opLocalGet, 2, opI32Const), piece)
	return append(out, opI32GtU, opBrIf, 0, opEnd)
}
