package meter_test

// choice writes one of the given instructions.
func (g *generator) choice(of ...[]byte) { g.emit(of[g.r.IntN(len(of))]...) }

// opcodes lists instructions of one byte, from the first to the last.
func opcodes(first, last byte) (list [][]byte) {
	for op := first; op <= last; op++ {
		list = append(list, []byte{op})
	}
	return list
}

// wide writes an expression of type i32 that goes through all other types.
func (g *generator) wide(imports, deep int) {
	switch g.r.IntN(16) {
	case 0:
		g.value(imports, deep-1)
		g.choice(opcodes(0xc0, 0xc1)...) // sign extension
	case 1:
		g.value(imports, deep-1)
		g.choice(opcodes(0x67, 0x69)...) // leading and trailing zeros, ones
	case 2:
		g.i64(imports, deep-1)
		g.emit(0xa7)
	case 3:
		g.i64(imports, deep-1)
		g.i64(imports, deep-1)
		g.choice(opcodes(0x51, 0x5a)...)
	case 4:
		g.f64(imports, deep-1)
		g.f64(imports, deep-1)
		g.choice(opcodes(0x61, 0x66)...)
	case 5:
		g.f32(imports, deep-1)
		g.f32(imports, deep-1)
		g.choice(opcodes(0x5b, 0x60)...)
	case 6:
		g.f64(imports, deep-1)
		g.choice([]byte{0xfc, 2}, []byte{0xfc, 3}, []byte{0xaa}, []byte{0xab})
	case 7:
		g.f32(imports, deep-1)
		g.choice([]byte{0xfc, 0}, []byte{0xfc, 1}, []byte{0xa8}, []byte{0xa9})
	case 8, 9:
		g.v128(imports, deep-1)
		g.choice([]byte{0xfd, 0x53}, []byte{0xfd, 0x63}, []byte{0xfd, 0x64}, []byte{0xfd, 0xa3, 1}, []byte{0xfd, 0xa4, 1},
			[]byte{0xfd, 0x15, 3}, []byte{0xfd, 0x16, 15}, []byte{0xfd, 0x18, 7}, []byte{0xfd, 0x1b, 1})
	case 10:
		g.reference()
		g.emit(0xd1)
	case 11:
		g.emit(0xfc, 0x10, 0)
	case 12:
		g.value(imports, deep-1)
		g.value(imports, deep-1)
		g.value(imports, deep-1)
		g.choice([]byte{0x1b}, []byte{0x1c, 1, 0x7f})
	case 13: // a block of two parameters and two results
		g.value(imports, deep-1)
		g.value(imports, deep-1)
		g.emit(0x02, 0x02)
		g.value(imports, deep-1)
		g.emit(0x0d, 0, 0x6b, 0x20, g.local(), 0x0b, 0x73)
	case 14:
		g.value(imports, deep-1)
		g.emit(0x41, 0xff, 0x3f, 0x71)
		g.choice([]byte{0x2c, 0, 1}, []byte{0x2d, 0, 2}, []byte{0x2e, 1, 4}, []byte{0x2f, 1, 6})
	case 15: // either of two typed values
		g.i64(imports, deep-1)
		g.i64(imports, deep-1)
		g.value(imports, deep-1)
		g.emit(0x1c, 1, 0x7e, 0xa7)
	}
}

// reference writes an expression of type funcref.
func (g *generator) reference() {
	switch g.r.IntN(3) {
	case 0:
		g.emit(0xd0, 0x70)
	case 1:
		g.emit(0xd2, byte(g.imports+g.r.IntN(g.funcs)))
	case 2:
		g.emit(0x41, byte(g.r.IntN(18)), 0x25, 0)
	}
}

func (g *generator) i64(imports, deep int) {
	if deep <= 0 {
		g.emit(0x42, byte(g.r.IntN(128)))
		return
	}
	switch g.r.IntN(8) {
	case 0, 1:
		g.value(imports, deep-1)
		g.choice(opcodes(0xac, 0xad)...)
	case 2, 3:
		g.i64(imports, deep-1)
		g.i64(imports, deep-1)
		g.choice(opcodes(0x7c, 0x8a)...) // divisions that trap among them
	case 4:
		g.i64(imports, deep-1)
		g.choice([]byte{0xc2}, []byte{0xc3}, []byte{0xc4}, []byte{0x79}, []byte{0x7a}, []byte{0x7b})
	case 5:
		g.f64(imports, deep-1)
		g.choice([]byte{0xfc, 6}, []byte{0xfc, 7}, []byte{0xb0})
	case 6:
		g.value(imports, deep-1)
		g.emit(0x41, 0xff, 0x3f, 0x71)
		g.choice([]byte{0x29, 3, 0}, []byte{0x30, 0, 1}, []byte{0x34, 2, 8}, []byte{0x35, 2, 8})
	case 7:
		g.v128(imports, deep-1)
		g.emit(0xfd, 0x1d, 1)
	}
}

func (g *generator) f64(imports, deep int) {
	if deep <= 0 {
		g.emit(0x44, 0, 0, 0, 0, 0, 0, byte(g.r.IntN(256)), 0x40)
		return
	}
	switch g.r.IntN(6) {
	case 0:
		g.value(imports, deep-1)
		g.choice(opcodes(0xb7, 0xb8)...)
	case 1:
		g.i64(imports, deep-1)
		g.choice(opcodes(0xb9, 0xba)...)
	case 2:
		g.f32(imports, deep-1)
		g.emit(0xbb)
	case 3, 4:
		g.f64(imports, deep-1)
		g.f64(imports, deep-1)
		g.choice(opcodes(0xa0, 0xa6)...)
	case 5:
		g.f64(imports, deep-1)
		g.choice(opcodes(0x99, 0x9f)...)
	}
}

func (g *generator) f32(imports, deep int) {
	if deep <= 0 {
		g.emit(0x43, 0, 0, byte(g.r.IntN(256)), 0x40)
		return
	}
	switch g.r.IntN(5) {
	case 0:
		g.value(imports, deep-1)
		g.choice(opcodes(0xb2, 0xb3)...)
	case 1:
		g.f64(imports, deep-1)
		g.emit(0xb6)
	case 2, 3:
		g.f32(imports, deep-1)
		g.f32(imports, deep-1)
		g.choice(opcodes(0x92, 0x98)...)
	case 4:
		g.f32(imports, deep-1)
		g.choice(opcodes(0x8b, 0x91)...)
	}
}

func (g *generator) v128(imports, deep int) {
	if deep <= 0 {
		g.emit(0xfd, 0x0c)
		for range 16 {
			g.emit(byte(g.r.IntN(256)))
		}
		return
	}
	switch g.r.IntN(7) {
	case 0:
		g.value(imports, deep-1)
		g.choice([]byte{0xfd, 0x0f}, []byte{0xfd, 0x10}, []byte{0xfd, 0x11})
	case 1:
		g.i64(imports, deep-1)
		g.emit(0xfd, 0x12)
	case 2, 3:
		g.v128(imports, deep-1)
		g.v128(imports, deep-1)
		g.choice([]byte{0xfd, 0x0e}, []byte{0xfd, 0x4e}, []byte{0xfd, 0x50}, []byte{0xfd, 0x51}, []byte{0xfd, 0x6e},
			[]byte{0xfd, 0x71}, []byte{0xfd, 0x8e, 1}, []byte{0xfd, 0x95, 1}, []byte{0xfd, 0xae, 1}, []byte{0xfd, 0xb5, 1},
			[]byte{0xfd, 0xba, 1}, []byte{0xfd, 0xce, 1}, []byte{0xfd, 0xd5, 1},
			[]byte{0xfd, 0x0d, 0, 31, 2, 29, 4, 27, 6, 25, 8, 23, 10, 21, 12, 19, 14, 17})
	case 4:
		g.v128(imports, deep-1)
		g.choice([]byte{0xfd, 0x4d}, []byte{0xfd, 0x60}, []byte{0xfd, 0x62}, []byte{0xfd, 0x81, 1}, []byte{0xfd, 0xa0, 1},
			[]byte{0xfd, 0xc1, 1}, []byte{0xfd, 0xf8, 1})
	case 5:
		g.v128(imports, deep-1)
		g.value(imports, deep-1)
		g.choice([]byte{0xfd, 0x6b}, []byte{0xfd, 0x8c, 1}, []byte{0xfd, 0xad, 1}, []byte{0xfd, 0xcb, 1}, []byte{0xfd, 0x1c, 2})
	case 6:
		g.value(imports, deep-1)
		g.emit(0x41, 0xff, 0x3f, 0x71)
		g.choice([]byte{0xfd, 0x00, 4, 0}, []byte{0xfd, 0x01, 3, 0}, []byte{0xfd, 0x07, 0, 0}, []byte{0xfd, 0x0a, 3, 0},
			[]byte{0xfd, 0x5c, 2, 0}, []byte{0xfd, 0x5d, 3, 0})
	}
}

// tail writes a tail call that is made or not.
func (g *generator) tail(imports int) {
	g.value(imports, 1)
	g.emit(0x04, 0x40)
	if imports == 1 && g.r.IntN(8) == 0 {
		g.emit(0x12, 0, 0x0b) // of the host
		return
	}
	g.value(imports, 1)
	g.value(imports, 1)
	switch g.r.IntN(3) {
	case 0:
		g.emit(0x12, byte(imports+g.r.IntN(g.funcs)))
	case 1:
		g.emit(0x41, byte(g.r.IntN(g.funcs+g.funcs/8+1)), 0x13, 0, 0)
	case 2: // one that needs more than registers
		g.emit(0x41, 1, 0x41, 2, 0x41, 3, 0x41, 4, 0x41, 5, 0x41, 6, 0x41, 7, 0x41, 8, 0x41, 9)
		if g.r.IntN(2) == 0 {
			g.emit(0x12, byte(imports+g.funcs))
		} else {
			g.emit(0x41, 15, 0x13, 3, 0)
		}
	}
	g.emit(0x0b)
}

// tables writes an instruction on the table, or one that drops what others use.
func (g *generator) tables() {
	switch g.r.IntN(5) {
	case 0:
		g.emit(0x41, byte(g.r.IntN(17)))
		g.reference()
		g.emit(0x26, 0)
	case 1:
		g.emit(0x41, byte(g.r.IntN(14)))
		g.reference()
		g.emit(0x41, byte(g.r.IntN(3)), 0xfc, 0x11, 0)
	case 2:
		g.emit(0x41, byte(g.r.IntN(14)), 0x41, byte(g.r.IntN(3)), 0x41, byte(g.r.IntN(3)), 0xfc, 0x0c, 1, 0)
	case 3:
		g.emit(0xfc, 0x0d, 1)
	case 4:
		g.emit(0xfc, 0x09, 0)
	}
}
