// Package input has what the Go programs share: made-up input, a checksum, and
// the one line that each prints. It must do exactly what bench.h does for the C
// programs, for they are to print the same.
package input

import (
	"fmt"
	"os"
	"strconv"
)

// Random is a xorshift generator. It must not be 0.
type Random uint64

// Next returns the next of the numbers.
func (r *Random) Next() uint32 {
	x := uint64(*r)
	x ^= x >> 12
	x ^= x << 25
	x ^= x >> 27
	*r = Random(x)
	return uint32((x * 2685821657736338717) >> 32)
}

// Checksum is FNV-1a. It begins at Start.
type Checksum uint64

// Start is the checksum of nothing.
const Start Checksum = 14695981039346656037

// Byte adds a byte.
func (c *Checksum) Byte(b byte) { *c = (*c ^ Checksum(b)) * 1099511628211 }

// Word adds eight bytes, the lowest first.
func (c *Checksum) Word(w uint64) {
	for i := range 8 {
		c.Byte(byte(w >> (8 * i)))
	}
}

// Print prints it.
func (c *Checksum) Print() { fmt.Printf("%016x\n", uint64(*c)) }

// Amount returns the program's one argument, how much to do. Without it the
// program ends.
func Amount() int {
	if len(os.Args) == 2 {
		if n, err := strconv.Atoi(os.Args[1]); err == nil && n > 0 {
			return n
		}
	}
	fmt.Fprintf(os.Stderr, "usage: %s AMOUNT\n", os.Args[0])
	os.Exit(2)
	return 0
}
