package meter

import "fmt"

// reader takes values from the front of b; after an error it yields zeros.
type reader struct {
	b   []byte
	pos int
	err error
}

func (r *reader) fail(sentinel error, format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", sentinel, fmt.Sprintf(format, args...))
		r.pos = len(r.b)
	}
}

func (r *reader) more() bool { return r.err == nil && r.pos < len(r.b) }

func (r *reader) byte() byte {
	if r.pos >= len(r.b) {
		r.fail(ErrMalformed, "it ends too early")
		return 0
	}
	c := r.b[r.pos]
	r.pos++
	return c
}

// u32 reads an unsigned LEB128 of at most 5 bytes.
func (r *reader) u32() uint32 {
	if r.pos < len(r.b) && r.b[r.pos] < 0x80 { // nearly all are
		r.pos++
		return uint32(r.b[r.pos-1])
	}
	var v uint32
	for shift := uint(0); shift < 35; shift += 7 {
		c := r.byte()
		if shift == 28 && c > 0x0f {
			break
		}
		v |= uint32(c&0x7f) << shift
		if c < 0x80 {
			return v
		}
	}
	r.fail(ErrMalformed, "a number does not fit into 32 bits")
	return 0
}

// sleb reads a signed LEB128 of at most that many bytes. The value of one of
// more than 63 bits is of no use to anyone here.
func (r *reader) sleb(most int) int64 {
	var v int64
	for n := range most {
		c := r.byte()
		v |= int64(c&0x7f) << (7 * n)
		if c < 0x80 {
			if shift := 7 * (n + 1); c&0x40 != 0 && shift < 64 {
				v |= -1 << shift
			}
			return v
		}
	}
	r.fail(ErrMalformed, "a number is too long")
	return 0
}

func (r *reader) skip(n uint32) []byte {
	if uint64(n) > uint64(len(r.b)-r.pos) {
		r.fail(ErrMalformed, "%d bytes are missing at its end", uint64(n)-uint64(len(r.b)-r.pos))
		return nil
	}
	b := r.b[r.pos : r.pos+int(n)]
	r.pos += int(n)
	return b
}

// count reads the length of a vector whose entries take at least a byte each.
func (r *reader) count() int {
	n := r.u32()
	if uint64(n) > uint64(len(r.b)-r.pos) {
		r.fail(ErrMalformed, "a list of %d entries has no room", n)
		return 0
	}
	return int(n)
}

func (r *reader) valueType() byte {
	c := r.byte()
	switch c {
	case 0x7f, 0x7e, 0x7d, 0x7c, 0x7b, typeFuncref, typeExternref:
	default:
		r.fail(ErrUnsupported, "the value type %#x", c)
	}
	return c
}

const (
	typeFuncref   = 0x70
	typeExternref = 0x6f
)

func (r *reader) refType() byte {
	c := r.byte()
	if c != typeFuncref && c != typeExternref {
		r.fail(ErrUnsupported, "the reference type %#x", c)
	}
	return c
}

func (r *reader) limits() limits {
	var l limits
	switch flags := r.byte(); flags {
	case 0:
		l.least = r.u32()
	case 1:
		l.least, l.most, l.bounded = r.u32(), r.u32(), true
	default:
		r.fail(ErrUnsupported, "limits with the flags %#x (shared or 64 bit)", flags)
	}
	return l
}

// maxPages is what 32 bits can address, in pages of 64 KiB.
const maxPages = 1 << 16

// memory reads a memory's limits. How much of that an instance gets is for the
// engine's allocator to say.
func (r *reader) memory() {
	l := r.limits()
	if l.least > maxPages || l.bounded && l.most > maxPages {
		r.fail(ErrMalformed, "a memory of more than %d pages", maxPages)
	}
	if l.bounded && l.most < l.least {
		r.fail(ErrMalformed, "a memory's minimum of %d pages is above its maximum of %d", l.least, l.most)
	}
}

func uleb(b []byte, v uint32) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func sleb(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}
