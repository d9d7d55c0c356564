package meter

// The instructions that the pass treats apart.
const (
	opUnreachable  = 0x00
	opNop          = 0x01
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opElse         = 0x05
	opEnd          = 0x0b
	opBr           = 0x0c
	opBrIf         = 0x0d
	opBrTable      = 0x0e
	opReturn       = 0x0f
	opCall         = 0x10
	opCallIndirect = 0x11
	opTailCall     = 0x12 // return_call
	opTailIndirect = 0x13 // return_call_indirect
	opDrop         = 0x1a
	opSelect       = 0x1b
	opSelectTyped  = 0x1c
	opLocalGet     = 0x20
	opLocalSet     = 0x21
	opLocalTee     = 0x22
	opGlobalGet    = 0x23
	opGlobalSet    = 0x24
	opTableGet     = 0x25
	opTableSet     = 0x26
	opMemorySize   = 0x3f
	opMemoryGrow   = 0x40
	opI32Const     = 0x41
	opI64Const     = 0x42
	opF32Const     = 0x43
	opF64Const     = 0x44
	opLastPlain    = 0xc4 // i64.extend32_s; 0x45 to here have no immediates
	opRefNull      = 0xd0
	opRefIsNull    = 0xd1
	opRefFunc      = 0xd2
	opMisc         = 0xfc
	opVector       = 0xfd

	blockEmpty = 0x40

	// Of opMisc.
	miscLastTruncation = 0x07
	miscMemoryInit     = 0x08
	miscDataDrop       = 0x09
	miscMemoryCopy     = 0x0a
	miscMemoryFill     = 0x0b
	miscTableInit      = 0x0c
	miscElemDrop       = 0x0d
	miscTableCopy      = 0x0e
	miscTableGrow      = 0x0f
	miscTableSize      = 0x10
	miscTableFill      = 0x11
)

// Weights: about four a nanosecond, at worst but for caches.
const (
	weightCheck    = 4
	weightMemory   = 2
	weightTable    = 4
	weightDivide   = 24
	weightRound    = 8
	weightCall     = 8
	weightIndirect = 16
	weightVector   = 4
	weightBuiltin  = 400 // what the engine's own Go code does, and bulk instructions
	weightHost     = 800
	weightGrow     = 4000
	weightMove     = 4 // of values more than someMoves
	fewMoves       = 16
	someMoves      = 64
)

// weigh returns the weight of an instruction that goes to the next one; that of
// a callee is not in it.
func weigh(op, sub byte) int64 {
	switch {
	case op == opNop || op == opBlock || op == opLoop || op == opEnd || op == opElse:
		return 0
	case op == opBrTable || op == opTableGet || op == opTableSet:
		return weightTable
	case op == opCall || op == opTailCall:
		return weightCall
	case op == opCallIndirect || op == opTailIndirect:
		return weightIndirect
	case op >= 0x28 && op <= 0x3e:
		return weightMemory
	case op == opMemoryGrow:
		return weightGrow
	case op == opRefFunc:
		return weightBuiltin
	case op >= 0x6d && op <= 0x70, op >= 0x7f && op <= 0x82: // division
		return weightDivide
	case op == 0x91, op == 0x95, op == 0x9f, op == 0xa3: // square root, division
		return weightDivide
	case op >= 0x8d && op <= 0x98, op >= 0x9b && op <= 0xa6, op >= 0xa8 && op <= 0xbb:
		return weightRound // rounding, minima, conversions; some cost less
	case op == opMisc:
		return weighMisc(sub)
	case op == opVector:
		return weighVector(sub)
	}
	return 1
}

// weighMoves returns the weight of passing values where paths meet, or to and
// from a function. A few are in registers; what is more each takes a load and a store.
func weighMoves(n int64) int64 {
	switch {
	case n <= fewMoves:
		return 0
	case n <= someMoves:
		return (n - fewMoves) / 2
	}
	return (someMoves-fewMoves)/2 + weightMove*(n-someMoves)
}

func weighMisc(sub byte) int64 {
	switch {
	case sub <= miscLastTruncation:
		return weightRound
	case sub == miscMemoryCopy || sub == miscMemoryFill:
		return weightCall
	case sub == miscTableSize:
		return weightTable
	}
	return weightBuiltin
}

func weighVector(sub byte) int64 {
	switch sub {
	case 0xe3, 0xe7, 0xef, 0xf3: // square roots, divisions
		return 2 * weightDivide
	case 0x0e, 0x62, 0x6b, 0x6c, 0x6d, 0xcc, 0xd5, // emulated by several instructions
		0x67, 0x68, 0x69, 0x6a, 0x74, 0x75, 0x7a, 0x94,
		0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff:
		return 3 * weightVector
	}
	return weightVector
}

// instr is an instruction of a body. It ends where the next one begins.
type instr struct {
	at      uint32 // in the body
	arg     uint32 // label, function, type of an indirect call or, of an end, what merges there
	op, sub byte   // sub of an end: what it ends
}

// code is a decoded body, in memory that the next one is decoded into.
type code struct {
	body   []byte
	locals int64
	loops  int64
	params int64
	list   []instr
	sets   int64       // instructions that set a local
	blocks int64       // that others can branch to
	passed int64       // values that blocks, branches and calls pass
	open   []construct // around the current instruction
}

// construct is a block, loop, if or function that is being decoded.
type construct struct {
	op    byte
	sets  int64 // that were before it
	arity int64 // parameters and results
}

// merging returns how many values may have to be moved where paths meet at the
// end of a construct, or at its beginning: those that its type passes, and
// those of the locals that are set in it.
func (c *code) merging(top construct) uint32 {
	return uint32(min(top.arity+min(c.sets-top.sets, c.locals+c.params), 1<<24))
}

// effort is what Info tells of a function.
func (c *code) effort() int64 {
	return (c.blocks+8*c.loops)*(c.locals+c.params) + c.blocks*c.blocks/16 + c.passed
}

// decodeBody reads the body of a function, which is numbered as defined.
func (m *module) decodeBody(c *code, f uint32) error {
	body := m.bodies[f]
	c.params = int64(m.params[m.functions[f]])
	c.body, c.locals, c.list, c.open = body, 0, c.list[:0], append(c.open[:0], construct{op: opBlock})
	c.sets, c.blocks, c.passed = 0, 0, 0
	r := reader{b: body}
	for n := r.count(); n > 0 && r.err == nil; n-- {
		c.locals += int64(r.u32())
		r.valueType()
		if c.locals > maxLocals {
			r.fail(ErrUnsupported, "%d locals in a function; at most %d are", c.locals, maxLocals)
		}
	}
	c.loops = 0
	for r.more() {
		if len(c.open) == 0 {
			r.fail(ErrMalformed, "a function goes on behind its end")
			break
		}
		i := instr{at: uint32(r.pos)}
		i.op = r.byte()
		m.immediates(c, &r, &i)
		switch i.op {
		case opCall, opCallIndirect, opTailCall, opTailIndirect:
			if r.err == nil {
				c.passed += m.arity[m.callType(&i)]
			}
		}
		c.list = append(c.list, i)
		if i.op == opLoop {
			c.loops++
		}
	}
	if r.err == nil && len(c.open) != 0 {
		r.fail(ErrMalformed, "a function has no end")
	}
	if c.loops*(c.locals+c.params) > maxLoopLocals {
		r.fail(ErrUnsupported, "%d loops, and %d locals and parameters in one function", c.loops, c.locals+c.params)
	}
	return r.err
}

// end returns where the n-th instruction ends.
func (c *code) end(n int) uint32 {
	if n+1 < len(c.list) {
		return c.list[n+1].at
	}
	return uint32(len(c.body))
}

// immediates reads what follows an opcode.
func (m *module) immediates(c *code, r *reader, i *instr) {
	switch op := i.op; {
	case op > opF64Const && op <= opLastPlain, op >= opUnreachable && op <= opNop,
		op == opDrop, op == opSelect, op == opReturn, op == opRefIsNull:
	case op >= opBlock && op <= opEnd:
		m.structure(c, r, i)
	case op >= opBr && op <= opBrTable:
		branch(c, r, i)
	case op >= opLocalGet && op <= opLocalTee:
		if l := r.u32(); int64(l) >= c.params+c.locals { // one may be added
			r.fail(ErrMalformed, "the local %d does not exist", l)
		}
		if op != opLocalGet {
			c.sets++
		}
	case op == opGlobalGet || op == opGlobalSet:
		if g := r.u32(); int(g) >= m.importedGlobals+m.numGlobals {
			r.fail(ErrMalformed, "the global %d does not exist", g)
		}
	case op >= 0x28 && op <= 0x3e:
		memoryArgument(r)
	case op == opI32Const:
		r.sleb(5)
	case op == opI64Const:
		r.sleb(10)
	case op == opF32Const:
		r.skip(4)
	case op == opF64Const:
		r.skip(8)
	case op == opCall:
		i.arg = m.function(r)
	case op == opRefFunc:
		i.arg = m.reference(r)
	case op == opTailCall:
		m.usesTails = true
		i.arg = m.function(r)
	default:
		m.rareImmediates(r, i)
	}
}

func (m *module) rareImmediates(r *reader, i *instr) {
	switch i.op {
	case opCallIndirect, opTailIndirect:
		i.arg = r.u32()
		m.typeIndex(r, int64(i.arg))
		m.tableIndex(r)
		m.usesTails = m.usesTails || i.op == opTailIndirect
	case opTableGet, opTableSet:
		m.tableIndex(r)
	case opMemorySize, opMemoryGrow:
		r.zero()
	case opSelectTyped:
		if r.byte() != 1 && r.err == nil {
			r.fail(ErrMalformed, "a select of more than one type")
		}
		r.valueType()
	case opRefNull:
		r.refType()
	case opMisc:
		m.misc(r, i)
	case opVector:
		vector(r, i)
	default:
		r.fail(ErrUnsupported, "%s", unknown(i.op))
	}
}

// unknown names an instruction of which there is a standard or a proposal.
func unknown(op byte) string {
	switch op {
	case 0x06, 0x07, 0x08, 0x09, 0x0a, 0x18, 0x19, 0x1f:
		return "an instruction for exceptions"
	case 0x14, 0x15, 0xd3, 0xd4, 0xd5, 0xd6:
		return "an instruction on typed references"
	case 0xfb:
		return "an instruction on garbage-collected values"
	case 0xfe:
		return "an atomic instruction"
	}
	const digits = "0123456789abcdef"
	return "the instruction 0x" + string(digits[op>>4]) + string(digits[op&15])
}

// zero reads the index of the only memory, which the engine wants in one byte.
func (r *reader) zero() {
	if r.byte() != 0 && r.err == nil {
		r.fail(ErrUnsupported, "another memory than the first")
	}
}

func (m *module) typeIndex(r *reader, t int64) {
	if t < 0 || t >= int64(m.numTypes) {
		r.fail(ErrMalformed, "the type %d does not exist", t)
	}
}

func (m *module) tableIndex(r *reader) {
	if t := r.u32(); int(t) >= len(m.tables) {
		r.fail(ErrMalformed, "the table %d does not exist", t)
	}
}

func (m *module) structure(c *code, r *reader, i *instr) {
	switch i.op {
	case opBlock, opLoop, opIf:
		c.blocks++
		arity := m.blockType(r)
		c.passed += arity
		c.open = append(c.open, construct{op: i.op, sets: c.sets, arity: arity})
		if len(c.open) > maxNesting {
			r.fail(ErrUnsupported, "more than %d nested blocks", maxNesting)
		}
	case opElse:
		if top := len(c.open) - 1; c.open[top].op != opIf {
			r.fail(ErrMalformed, "an else without an if")
		} else {
			c.open[top].op = opElse
		}
	case opEnd:
		top := len(c.open) - 1
		i.arg, i.sub = c.merging(c.open[top]), c.open[top].op
		c.open = c.open[:top]
	default:
		r.fail(ErrUnsupported, "%s", unknown(i.op))
	}
}

// blockType reads a block's type and returns how many values it passes.
func (m *module) blockType(r *reader) int64 {
	if !r.more() {
		r.byte()
		return 0
	}
	if c := r.b[r.pos]; c == blockEmpty {
		r.pos++
		return 0
	} else if c&0xc0 == 0x40 { // a negative number of one byte
		r.valueType()
		return 1
	}
	t := r.sleb(5)
	if m.typeIndex(r, t); r.err != nil {
		return 0
	}
	return m.arity[t]
}

func branch(c *code, r *reader, i *instr) {
	more := 0
	if i.op == opBrTable {
		more = r.count()
	}
	for ; more >= 0 && r.err == nil; more-- {
		if i.arg = r.u32(); int(i.arg) >= len(c.open) {
			r.fail(ErrMalformed, "a branch to the unknown label %d", i.arg)
			return
		}
		c.passed += c.open[len(c.open)-1-int(i.arg)].arity
	}
}

func memoryArgument(r *reader) {
	if r.u32() >= 32 {
		r.fail(ErrUnsupported, "another memory than the first")
	}
	r.u32()
}

func (m *module) misc(r *reader, i *instr) {
	sub := r.u32()
	if sub > miscTableFill {
		r.fail(ErrUnsupported, "the instruction 0xfc %d", sub)
		return
	}
	i.sub = byte(sub)
	switch i.sub {
	case miscMemoryInit:
		r.u32()
		r.zero()
		m.usesInit = true
	case miscDataDrop, miscElemDrop:
		r.u32()
	case miscMemoryCopy:
		r.zero()
		r.zero()
	case miscMemoryFill:
		r.zero()
	case miscTableInit:
		r.u32()
		m.tableIndex(r)
	case miscTableCopy:
		m.tableIndex(r)
		m.tableIndex(r)
	case miscTableGrow, miscTableSize, miscTableFill:
		m.tableIndex(r)
	}
}

// vector reads a vector instruction. The engine takes one byte as its number,
// and the 1 that follows those above 0x7f in LEB128 for a nop: another byte
// there would be an instruction to it, and a different number to the standard.
func vector(r *reader, i *instr) {
	i.sub = r.byte()
	if i.sub >= 0x80 && r.byte() != 1 && r.err == nil {
		r.fail(ErrUnsupported, "a vector instruction beyond 0xfd 0xff")
	}
	switch sub := i.sub; {
	case sub <= 0x0b, sub == 0x5c, sub == 0x5d:
		memoryArgument(r)
	case sub == 0x0c || sub == 0x0d:
		r.skip(16)
	case sub >= 0x15 && sub <= 0x22:
		r.byte()
	case sub >= 0x54 && sub <= 0x5b:
		memoryArgument(r)
		r.byte()
	}
}
