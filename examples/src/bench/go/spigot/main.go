// Command spigot computes digits of pi by the spigot of Rabinowitz and Wagon:
// an array of remainders, and divisions of small numbers.
package main

import "github.com/weftrun/weft/examples/src/bench/go/input"

func main() {
	digits := input.Amount()
	rest := make([]uint32, digits*10/3+1)
	for i := range rest {
		rest[i] = 2
	}
	sum := input.Start
	var held, nines uint32 // what a carry may still change
	for n := 0; n <= digits; n++ {
		q := step(rest)
		if q == 9 {
			nines++
			continue
		}
		carry, nine := uint32(0), byte(9)
		if q == 10 {
			carry, nine, q = 1, 0, 0
		}
		if n > 0 {
			sum.Byte(byte(held + carry))
		}
		for ; nines > 0; nines-- {
			sum.Byte(nine)
		}
		held = q
	}
	sum.Print()
}

// step takes the next digit, perhaps 10, out of the remainders.
func step(rest []uint32) uint32 {
	var q uint32
	for i := uint32(len(rest)); i > 1; i-- {
		x, d := 10*rest[i-1]+q*i, 2*i-1
		q = x / d
		rest[i-1] = x - q*d
	}
	x := 10*rest[0] + q
	rest[0] = x % 10
	return x / 10
}
