// Command sort sorts whole numbers by quicksort, and records by mergesort with
// a function that compares, called through a variable.
package main

import "github.com/weftrun/weft/examples/src/bench/go/input"

const count = 100000

type record struct {
	name   [12]byte
	number uint32
}

func main() {
	rounds := input.Amount()
	numbers := make([]uint32, count)
	records := make([]record, count)
	order, temp := make([]*record, count), make([]*record, count)
	compare := [2]func(a, b *record) int{byName, byNumber}
	r := input.Random(3)
	sum := input.Start
	for round := range rounds {
		for i := range count {
			numbers[i] = r.Next()
			records[i].number = r.Next() % 1000
			for j := range records[i].name {
				records[i].name[j] = 'a'
				if j >= 4 {
					records[i].name[j] += byte(r.Next() % 3)
				}
			}
			order[i] = &records[i]
		}
		quicksort(numbers)
		mergesort(order, temp, compare[round%2])
		for i := 0; i < count; i += 10 {
			sum.Word(uint64(numbers[i]))
			sum.Word(uint64(order[i].number))
		}
	}
	sum.Print()
}

func quicksort(v []uint32) {
	for len(v) > 12 {
		i, j := partition(v)
		if j+1 < len(v)-i {
			quicksort(v[:j+1])
			v = v[i:]
		} else {
			quicksort(v[i:])
			v = v[:j+1]
		}
	}
	for i := 1; i < len(v); i++ {
		x, j := v[i], i
		for ; j > 0 && v[j-1] > x; j-- {
			v[j] = v[j-1]
		}
		v[j] = x
	}
}

// partition moves small numbers to the front, up to j, and great ones to the
// end, from i.
func partition(v []uint32) (i, j int) {
	x, y, z := v[0], v[len(v)/2], v[len(v)-1]
	pivot := max(min(x, y), min(max(x, y), z))
	i, j = 0, len(v)-1
	for i <= j {
		for v[i] < pivot {
			i++
		}
		for v[j] > pivot {
			j--
		}
		if i <= j {
			v[i], v[j] = v[j], v[i]
			i++
			j--
		}
	}
	return i, j
}

func byName(a, b *record) int {
	for i := range a.name {
		if a.name[i] != b.name[i] {
			if a.name[i] < b.name[i] {
				return -1
			}
			return 1
		}
	}
	return byNumber(a, b)
}

func byNumber(a, b *record) int {
	switch {
	case a.number < b.number:
		return -1
	case a.number > b.number:
		return 1
	}
	return 0
}

func mergesort(v, temp []*record, compare func(a, b *record) int) {
	if len(v) < 2 {
		return
	}
	half := len(v) / 2
	mergesort(v[:half], temp, compare)
	mergesort(v[half:], temp, compare)
	copy(temp, v[:half])
	i, j, to := 0, half, 0
	for ; i < half && j < len(v); to++ {
		if compare(v[j], temp[i]) < 0 {
			v[to] = v[j]
			j++
		} else {
			v[to] = temp[i]
			i++
		}
	}
	for ; i < half; i++ {
		v[to] = temp[i]
		to++
	}
}
