package module

import (
	"fmt"
	"unicode/utf8"
)

// decoder takes values from the front of b; after an error it yields zeros.
type decoder struct {
	b    []byte
	base int64 // where in the file b began, for messages
	err  error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
		d.b = nil
	}
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail("it ends too early")
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

// uleb reads an unsigned LEB128 of at most that many bits.
func (d *decoder) uleb(bits uint) uint64 {
	var v uint64
	for shift := uint(0); ; shift += 7 {
		if shift >= bits {
			d.fail("a number is too long")
			return 0
		}
		c := d.byte()
		if d.err != nil {
			return 0
		}
		if rest := bits - shift; rest < 7 && c&0x7f>>rest != 0 {
			d.fail("a number does not fit into %d bits", bits)
			return 0
		}
		v |= uint64(c&0x7f) << shift
		if c&0x80 == 0 {
			return v
		}
	}
}

func (d *decoder) u32() uint32 { return uint32(d.uleb(32)) }

func (d *decoder) name() string {
	n := d.u32()
	if d.err != nil {
		return ""
	}
	if n > maxNameBytes {
		d.fail("a name of %d bytes; at most %d are allowed", n, maxNameBytes)
		return ""
	}
	if int(n) > len(d.b) {
		d.fail("a name ends too early")
		return ""
	}
	s := string(d.b[:n])
	if !utf8.ValidString(s) {
		d.fail("a name is not UTF-8")
		return ""
	}
	d.b = d.b[n:]
	return s
}

// refType reads a value type; those of two parts have an index behind them.
func (d *decoder) refType() {
	if c := d.byte(); c == 0x63 || c == 0x64 {
		d.uleb(33)
	}
}

func (d *decoder) limits() (least, most uint64, bounded bool) {
	flags := d.byte()
	if flags > 7 {
		d.fail("limits with unknown flags %#x", flags)
		return 0, 0, false
	}
	bits := uint(32)
	if flags&4 != 0 {
		bits = 64
	}
	least = d.uleb(bits)
	if flags&1 != 0 {
		most, bounded = d.uleb(bits), true
	}
	return least, most, bounded
}
