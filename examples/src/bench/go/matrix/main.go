// Command matrix multiplies matrices of floating point numbers, all of them
// whole and so small that every sum is exact.
package main

import "github.com/weftrun/weft/examples/src/bench/go/input"

const size = 200

type matrix [size][size]float64

func main() {
	rounds := input.Amount()
	a, b, product := new(matrix), new(matrix), new(matrix)
	r := input.Random(2)
	for i := range size {
		for j := range size {
			a[i][j] = float64(r.Next() % 1009)
			b[i][j] = float64(r.Next() % 1009)
		}
	}
	for range rounds {
		multiply(product, a, b)
		for i := range size {
			for j := range size {
				a[i][j] = float64(uint32(product[i][j]) % 1009)
			}
		}
	}
	sum := input.Start
	for i := range size {
		for j := range size {
			sum.Word(uint64(a[i][j]))
		}
	}
	sum.Print()
}

func multiply(product, a, b *matrix) {
	for i := range size {
		row := &product[i]
		for j := range row {
			row[j] = 0
		}
		for k := range size {
			x, other := a[i][k], &b[k]
			for j := range row {
				row[j] += x * other[j]
			}
		}
	}
}
