package meter

// A loop that counts a local from one constant to another needs no check: all of its
// rounds are charged before the first, if they weigh little together. Compilers leave
// such loops where they do not unroll them: the rounds of a digest, a row of a small
// matrix, a table that is filled.
//
// What is recognised is what they write, and nothing more general: before the loop,
// with no way in between,
//
//	i32.const FIRST  local.set $i
//
// and within it, where each round passes on its way to the one branch back,
//
//	local.get $i  i32.const STEP  i32.add  local.set $i (or tee)
//
// as all that sets $i, and as the way out one of
//
//	[$i, counted already]  i32.const LAST  i32.ne  br_if to the loop: the one branch back
//	local.get $i  i32.const LAST  i32.eq  br_if out of the loop
//
// where LAST is above FIRST by a multiple of STEP, so that it is not stepped over.

const (
	// maxRounds is of loops that are looked at.
	maxRounds = 1 << 12
	// maxInstrs is of how many instructions, and maxExits of how many branches that may
	// count them, so that to look for both takes no longer than to read them.
	maxInstrs = 1 << 10
	maxExits  = 4
	// maxBefore is how many instructions before a loop are searched for its FIRST.
	maxBefore = 64
)

// counted returns how often the loop at the n-th instruction begins a round at most, each
// time that it is entered; 0: that is not known, or there is a check within.
func (w *rewriter) counted(n int, f *frame) int64 {
	if f.branches != 1 || f.table || f.calls != w.calls || f.last-n > maxInstrs || w.takes(n) {
		return 0
	}
	if c := len(w.checks); c > 0 && w.checks[c-1].before <= f.last {
		return 0
	}
	back, exits := w.leadsBack(n, f.last), 0
	for k, depth := n+1, 0; k <= back && exits < maxExits; k++ {
		switch w.code.list[k].op {
		case opBlock, opIf:
			depth++
		case opEnd:
			depth--
		case opBrIf:
			if depth > 0 {
				continue
			}
			exits++
			if rounds := w.roundsUntil(n, f.last, back, k); rounds > 0 {
				return rounds
			}
		}
	}
	return 0
}

// leadsBack returns which instruction is the branch back to the loop at the n-th, of which there is
// one; 0 if the loop holds others.
func (w *rewriter) leadsBack(n, last int) (back int) {
	depth := uint32(0)
	for k := n + 1; k < last; k++ {
		switch i := &w.code.list[k]; i.op {
		case opLoop:
			return 0
		case opBlock, opIf:
			depth++
		case opEnd:
			depth--
		case opBr, opBrIf:
			if i.arg == depth {
				back = k
			}
		}
	}
	return back
}

// roundsUntil is counted for a loop that the branch at the exit-th instruction, which each
// round passes, ends.
func (w *rewriter) roundsUntil(n, last, back, exit int) int64 {
	value := exit - 3 // what is compared
	switch {
	case value <= n:
		return 0
	case exit == back && (w.is(value, opLocalGet, opI32Const, opI32Ne) || w.is(value, opLocalTee, opI32Const, opI32Ne)):
	case exit < back && w.is(value, opLocalGet, opI32Const, opI32Eq):
	default:
		return 0
	}
	local, end := w.operand(value), w.operand(exit-2)
	step := w.step(n, last, back, local)
	first, known := w.first(n, local)
	if !known || step <= 0 || end <= first || (end-first)%step != 0 || (end-first)/step >= maxRounds {
		return 0
	}
	return (end-first)/step + 1
}

// step returns what each round adds to a local before it leads back; 0 or less: that is not known.
func (w *rewriter) step(n, last, back int, local int64) (step int64) {
	depth := 0
	for k := n + 1; k < last; k++ {
		switch op := w.code.list[k].op; op {
		case opBlock, opIf:
			depth++
		case opEnd:
			depth--
		case opLocalSet, opLocalTee:
			if w.operand(k) != local {
				continue
			}
			add := k - 3
			if step != 0 || depth > 0 || k > back || add <= n || !w.is(add, opLocalGet, opI32Const, opI32Add) || w.operand(add) != local {
				return 0
			}
			if step = w.operand(k - 2); step == 0 {
				return 0
			}
		}
	}
	return step
}

// first returns the constant that a local has where the loop at the n-th instruction is
// entered.
func (w *rewriter) first(n int, local int64) (value int64, known bool) {
	for k := n - 1; k >= max(n-maxBefore, 0); k-- {
		switch w.code.list[k].op {
		case opLoop, opIf, opElse, opEnd, opBr, opBrTable, opReturn, opUnreachable:
			return 0, false // another way may lead to the next one, or none
		case opLocalSet, opLocalTee:
			if w.operand(k) != local {
				continue
			}
			if k == 0 || w.code.list[k-1].op != opI32Const {
				return 0, false
			}
			return w.operand(k - 1), true
		}
	}
	return 0, n <= maxBefore && local >= w.code.params // it begins as 0
}

// operand returns what follows the opcode of the n-th instruction: a constant, or the
// number of a local.
func (w *rewriter) operand(n int) int64 {
	i := &w.code.list[n]
	r := reader{b: w.code.body, pos: int(i.at) + 1}
	if i.op == opI32Const {
		return r.sleb(5)
	}
	return int64(r.u32())
}

// is tells whether the instructions from the n-th on are these. Two more follow.
func (w *rewriter) is(n int, ops ...byte) bool {
	for k, op := range ops {
		if w.code.list[n+k].op != op {
			return false
		}
	}
	return true
}
