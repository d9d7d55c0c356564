// Command pidigits computes digits of pi by Gibbons' unbounded spigot, whose
// numbers grow without end: big integers times small ones, sums, and quotients
// of two big ones.
package main

import (
	"math/big"

	"github.com/weftrun/weft/examples/src/bench/go/input"
)

func main() {
	digits := input.Amount()
	num, den, acc := big.NewInt(1), big.NewInt(1), new(big.Int)
	var small, t, u, rest big.Int
	sum := input.Start
	for k := int64(1); digits > 0; k++ {
		acc.Add(acc, t.Lsh(num, 1))
		acc.Mul(acc, small.SetInt64(2*k+1))
		den.Mul(den, &small)
		num.Mul(num, small.SetInt64(k))
		if num.Cmp(acc) > 0 {
			continue
		}
		// The digit is sure if four times num more would not change it.
		digit, _ := u.QuoRem(acc, den, &rest)
		if t.Lsh(num, 2).Add(&t, &rest); t.Cmp(den) >= 0 {
			continue
		}
		sum.Byte(byte(digit.Int64()))
		digits--
		acc.Mul(&rest, small.SetInt64(10))
		num.Mul(num, &small)
	}
	for _, word := range words32(acc) {
		sum.Word(uint64(word))
	}
	sum.Print()
}

// words32 returns the digits of 32 bits, the lowest first.
func words32(n *big.Int) []uint32 {
	b := n.Bytes()
	out := make([]uint32, (len(b)+3)/4)
	for i, c := range b {
		at := len(b) - 1 - i
		out[at/4] |= uint32(c) << (8 * (at % 4))
	}
	return out
}
