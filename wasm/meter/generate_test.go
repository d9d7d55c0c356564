package meter_test

import (
	"encoding/binary"
	"math/rand/v2"
)

// generator writes random modules that are valid and end: whatever repeats
// counts down a global, and traps when that is used up. So the original shows
// all that it does, and the metered one can be compared to it.
type generator struct {
	r     *rand.Rand
	funcs int

	imports int
	depth   int // of blocks within the function
	left    int // instructions to write
	loops   []bool
	out     []byte
}

// The functions are (i32, i32) -> i32, with four locals of i32, but for the last
// one, which has eleven parameters and calls the first; g0 is the countdown, g1
// to g3 are anyone's.
const (
	genLocals  = 6
	genGlobals = 4
	genFuel    = 3000
)

func generate(seed uint64) []byte {
	g := &generator{r: rand.New(rand.NewPCG(seed, 1))}
	g.funcs = 1 + g.r.IntN(12)
	imports := g.r.IntN(2) // of a function
	var types, imp, decl, code, elems []byte
	g.imports = imports
	types = append(types, 4, 0x60, 2, 0x7f, 0x7f, 1, 0x7f, 0x60, 0, 1, 0x7f, 0x60, 2, 0x7f, 0x7f, 2, 0x7f, 0x7f)
	types = append(types, 0x60, 11, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 1, 0x7f)
	if imports == 1 {
		imp = append(imp, 1)
		imp = append(append(imp, 22), "wasi_snapshot_preview1"...)
		imp = append(append(imp, 11), "sched_yield"...)
		imp = append(imp, 0, 1)
	}
	decl = append(decl, byte(g.funcs+1))
	code = append(code, byte(g.funcs+1))
	// What the table holds at first, the last function in it, and a passive list.
	elems = append(elems, 3, 0, 0x41, 0, 0x0b, byte(g.funcs))
	for f := range g.funcs {
		decl = append(decl, 0)
		elems = append(elems, byte(imports+f))
		body := g.function(imports)
		code = append(binary.AppendUvarint(code, uint64(len(body))), body...)
	}
	decl = append(decl, 3)
	code = append(code, 11, 0, 0x20, 0, 0x20, 10, 0x10, byte(imports), 0x20, 3, 0x6a, 0x0b)
	elems = append(elems, 1, 0, 2, byte(imports), byte(imports+g.funcs))
	elems = append(elems, 0, 0x41, 15, 0x0b, 1, byte(imports+g.funcs))
	start := byte(imports + g.r.IntN(g.funcs))
	b := []byte("\x00asm\x01\x00\x00\x00")
	part := func(id byte, body []byte) {
		if len(body) > 0 {
			b = append(binary.AppendUvarint(append(b, id), uint64(len(body))), body...)
		}
	}
	part(1, types)
	part(2, imp)
	part(3, decl)
	part(4, []byte{1, 0x70, 0, 16})
	part(5, []byte{1, 1, 4, 8})
	globals := []byte{genGlobals}
	for i := range genGlobals {
		globals = append(globals, 0x7f, 1, 0x41)
		if i == 0 {
			globals = append(globals, 0xb8, 0x17) // genFuel
		} else {
			globals = append(globals, byte(i))
		}
		globals = append(globals, 0x0b)
	}
	part(6, globals)
	exports := []byte{2 + genGlobals, 1, 'm', 2, 0, 1, 'f', 0, start}
	for i := range byte(genGlobals) {
		exports = append(exports, 2, 'g', '0'+i, 3, i)
	}
	part(7, exports)
	part(9, elems)
	part(12, []byte{1})
	part(10, code)
	part(11, []byte{1, 1, 5, 'h', 'e', 'l', 'l', 'o'})
	return b
}

func (g *generator) emit(b ...byte) { g.out = append(g.out, b...) }

func (g *generator) function(imports int) []byte {
	g.out, g.depth, g.left, g.loops = nil, 0, 5+g.r.IntN(200), nil
	g.emit(1, genLocals-2, 0x7f)
	g.countdown()
	g.statements(imports)
	g.value(imports, 2)
	g.emit(0x0b)
	return g.out
}

// countdown traps when the fuel is used up.
func (g *generator) countdown() {
	g.emit(0x23, 0, 0x41, 1, 0x6b, 0x24, 0, 0x23, 0, 0x45, 0x04, 0x40, 0x00, 0x0b)
}

func (g *generator) local() byte { return byte(g.r.IntN(genLocals)) }

func (g *generator) small() { g.emit(0x41, byte(g.r.IntN(64))) }

// value writes an expression of type i32.
func (g *generator) value(imports, deep int) {
	g.left--
	if deep == 0 {
		g.emit(0x20, g.local())
		return
	}
	switch g.r.IntN(14) {
	case 0, 1:
		g.small()
	case 2, 3, 4:
		g.emit(0x20, g.local())
	case 5:
		g.emit(0x23, 1+byte(g.r.IntN(genGlobals-1)))
	case 6, 7: // arithmetic, divisions that trap among it
		ops := []byte{0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f, 0x70, 0x71, 0x72, 0x73, 0x74, 0x48, 0x4d, 0x6a, 0x6b, 0x71}
		g.value(imports, deep-1)
		g.value(imports, deep-1)
		g.emit(ops[g.r.IntN(len(ops))])
	case 8: // load
		g.value(imports, deep-1)
		g.emit(0x41, 0xff, 0x3f, 0x71, 0x28, 2, 8)
	case 9: // call
		g.value(imports, deep-1)
		g.value(imports, deep-1)
		g.emit(0x10, byte(imports+g.r.IntN(g.funcs)))
	case 10: // call by the table, which has gaps
		g.value(imports, deep-1)
		g.value(imports, deep-1)
		g.emit(0x41, byte(g.r.IntN(g.funcs+g.funcs/8+1)), 0x11, 0, 0)
	case 11: // if with a value, or a loop around one
		loop := g.r.IntN(3) == 0
		if loop {
			g.emit(0x03, 0x7f)
			g.countdown()
		}
		g.value(imports, deep-1)
		if loop {
			g.emit(0x04, 0x7f)
			g.value(imports, deep-1)
			g.emit(0x05, 0x0c, 1, 0x0b, 0x0b)
			return
		}
		g.emit(0x04, 0x7f)
		g.value(imports, deep-1)
		g.emit(0x05)
		g.value(imports, deep-1)
		g.emit(0x0b)
	case 12: // through another type: 64 bits, floats, vectors
		if g.r.IntN(2) == 0 {
			g.wide(imports, deep)
			return
		}
		g.value(imports, deep-1)
		switch g.r.IntN(3) {
		case 0:
			g.emit(0xad, 0x42, 13, 0x7e, 0xa7)
		case 1:
			g.emit(0xb7, 0x9f, 0xfc, 2)
		case 2:
			g.emit(0xfd, 0x11, 0x41, 3, 0xfd, 0x11, 0xfd, 0xae, 1, 0xfd, 0x1b, 2)
		}
	case 13:
		if imports == 1 && g.r.IntN(4) == 0 {
			g.emit(0x10, 0)
		} else {
			g.emit(0x3f, 0)
		}
	}
}

func (g *generator) statements(imports int) {
	for n := 1 + g.r.IntN(6); n > 0 && g.left > 0; n-- {
		g.statement(imports)
	}
}

func (g *generator) statement(imports int) {
	g.left--
	switch kind := g.r.IntN(16); {
	case kind < 4:
		g.value(imports, 3)
		g.emit(0x21, g.local())
	case kind == 4:
		g.value(imports, 2)
		g.emit(0x24, 1+byte(g.r.IntN(genGlobals-1)))
	case kind == 5: // store
		g.value(imports, 2)
		g.emit(0x41, 0xff, 0x3f, 0x71)
		g.value(imports, 2)
		g.emit(0x36, 2, 16)
	case kind == 6:
		switch g.r.IntN(4) {
		case 0:
			g.tail(imports)
		case 1:
			g.tables()
		default:
			g.bulk(imports)
		}
	case kind < 13 && g.depth < 8:
		g.block(imports, kind)
	case kind == 13 && g.depth > 0:
		g.value(imports, 2)
		g.emit(0x0d, byte(g.r.IntN(g.depth)))
	case kind == 14 && g.depth > 0:
		g.value(imports, 2)
		n := g.r.IntN(4)
		g.emit(0x0e, byte(n))
		for range n + 1 {
			g.emit(byte(g.r.IntN(g.depth)))
		}
	case kind == 15 && g.r.IntN(3) == 0:
		g.value(imports, 1)
		g.emit(0x0f)
	default:
		g.emit(0x01)
	}
}

func (g *generator) block(imports, kind int) {
	g.depth++
	defer func() { g.depth-- }()
	switch kind {
	case 7, 8:
		g.emit(0x02, 0x40)
		g.statements(imports)
	case 9, 10, 11:
		g.emit(0x03, 0x40)
		g.countdown()
		g.statements(imports)
		switch g.r.IntN(4) {
		case 0, 1: // again
			g.value(imports, 2)
			g.emit(0x0d, 0)
		case 2:
			g.value(imports, 2)
			g.emit(0x04, 0x40, 0x0c, 1, 0x0b)
		}
	case 12:
		if g.r.IntN(3) == 0 { // a loop with parameters
			g.small()
			g.small()
			g.emit(0x03, 0x02)
			g.countdown()
			g.emit(0x6a, 0x22, g.local(), 0x20, g.local())
			g.emit(0x23, 2, 0x0d, 0, 0x0b, 0x1a, 0x1a)
			return
		}
		g.value(imports, 2)
		g.emit(0x04, 0x40)
		g.statements(imports)
		if g.r.IntN(2) == 0 {
			g.emit(0x05)
			g.statements(imports)
		}
	}
	g.emit(0x0b)
}

// bulk writes a bulk instruction whose operands are small, huge, or wrong.
func (g *generator) bulk(imports int) {
	operand := func() {
		switch g.r.IntN(6) {
		case 0:
			g.value(imports, 1)
		case 1:
			g.emit(0x41, 0x80, 0x80, 0x05) // 81,920
		case 2:
			g.emit(0x41, 0xc0, 0x9a, 0x0c) // 200,000
		default:
			g.small()
		}
	}
	switch g.r.IntN(8) {
	case 0, 1:
		operand()
		operand()
		operand()
		g.emit(0xfc, 0x0b, 0)
	case 2, 3, 4:
		operand()
		operand()
		operand()
		g.emit(0xfc, 0x0a, 0, 0)
	case 5:
		operand()
		g.emit(0x41, byte(g.r.IntN(4)), 0x41, byte(g.r.IntN(3)), 0xfc, 0x08, 0, 0)
	case 6:
		g.emit(0x41, byte(g.r.IntN(8)), 0x41, byte(g.r.IntN(8)), 0x41, byte(g.r.IntN(9)), 0xfc, 0x0e, 0, 0)
	case 7:
		g.emit(0xd0, 0x70, 0x41, byte(g.r.IntN(4)), 0xfc, 0x0f, 0, 0x1a, 0x41, 1, 0x40, 0, 0x1a)
	}
}
