// Command sha256 hashes a MiB, again and again, each time with the digest
// before it in front.
package main

import (
	"crypto/sha256"

	"github.com/weftrun/weft/examples/src/bench/go/input"
)

func main() {
	rounds := input.Amount()
	buffer := make([]byte, 32+1<<20)
	r := input.Random(1)
	for i := range buffer[32:] {
		buffer[32+i] = byte(r.Next())
	}
	for range rounds {
		digest := sha256.Sum256(buffer)
		copy(buffer, digest[:])
	}
	sum := input.Start
	for _, b := range buffer[:32] {
		sum.Byte(b)
	}
	sum.Print()
}
