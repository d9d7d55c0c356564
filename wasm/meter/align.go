package meter

// The engine keeps values that find no register in its frame, one behind the
// other, in the order in which they are first loaded from there, and gives one of
// 4 bytes no more than these. So behind the one parameter that all of Go's
// functions have, of 4 bytes, no place of 8 bytes is aligned. Each that lies
// across the end of a page of memory, which one of a great frame does, then takes
// some hundred cycles to be written; those across lines of the cache, a few. A loop
// that does so each time around takes twice as long, or not, by where the stack
// happens to begin.
//
// Therefore the first check of a function with an odd number of such parameters
// has one more value of 4 bytes live while it asks the host, and loaded from the
// frame behind: mostly the first of all. It is a floating-point number, since
// functions have the engine's registers for integers full, some of which outlive
// calls, but rarely those.

// aligning appends a call of a helper with such a value around it: the budget, of
// which the guest traps if it is 0. It is negative, or the helper traps for want of
// stack; but a value that nothing depends on would be left out.
func (w *rewriter) aligning(out []byte, h helper) []byte {
	out = append(uleb(append(out, opGlobalGet), w.budget()), opF32ConvertI64S)
	out = append(w.callHelper(out, h), opI32ReinterpretF, opI32Eqz)
	return append(out, opIf, blockEmpty, opUnreachable, opEnd)
}
