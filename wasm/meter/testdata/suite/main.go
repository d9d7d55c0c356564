// Command suite computes something, again and again, and prints a digest of the
// results: programs for measuring and comparing.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

func main() {
	works := map[string]func(seed uint64) []byte{
		"sha256": hash, "sort": sorting, "json": encoding, "regexp": match,
		"matrix": matrix, "goroutines": goroutines,
	}
	names, rounds := []string{"sha256", "sort", "json", "regexp", "matrix", "goroutines"}, 1
	if len(os.Args) == 3 {
		names = os.Args[1:2]
		var err error
		if rounds, err = strconv.Atoi(os.Args[2]); err != nil || works[names[0]] == nil {
			fmt.Fprintln(os.Stderr, "usage: suite NAME ROUNDS")
			os.Exit(2)
		}
	}
	for _, name := range names {
		sum := fnv.New64a()
		for seed := range rounds {
			sum.Write(works[name](uint64(seed)))
		}
		fmt.Printf("%s %x\n", name, sum.Sum64())
	}
}

func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }

func hash(seed uint64) []byte {
	sum := sha256.Sum256(fmt.Append(nil, seed))
	block := bytes.Repeat(sum[:], 1<<12)
	sum = sha256.Sum256(block)
	return sum[:]
}

func sorting(seed uint64) []byte {
	r := random(seed)
	list := make([]int, 20_000)
	for i := range list {
		list[i] = r.IntN(1 << 30)
	}
	slices.Sort(list)
	return fmt.Append(nil, list[0], list[len(list)/2])
}

type record struct {
	Name   string
	Tags   []string
	Score  float64
	Nested map[string]int
}

func encoding(seed uint64) []byte {
	r := random(seed)
	var list []record
	for range 100 {
		list = append(list, record{
			Name: strconv.Itoa(r.IntN(1000)), Tags: []string{"a", "b\n"}, Score: r.Float64(),
			Nested: map[string]int{"x": r.IntN(9), "y": 2},
		})
	}
	b, err := json.Marshal(list)
	if err != nil {
		panic(err)
	}
	var back []record
	if err := json.Unmarshal(b, &back); err != nil {
		panic(err)
	}
	return fmt.Append(nil, len(back), back[3])
}

var pattern = regexp.MustCompile(`(\w+)@([a-z]+\.)+(com|org)`)

func match(seed uint64) []byte {
	text := strings.Repeat("lorem ipsum "+strconv.FormatUint(seed, 10)+"@mail.example.org dolor sit amet, ", 100)
	return []byte(strings.Join(pattern.FindAllString(text, -1), " "))
}

func matrix(seed uint64) []byte {
	const n = 80
	r := random(seed)
	var a, b, c [n][n]float64
	for i := range n {
		for j := range n {
			a[i][j], b[i][j] = r.Float64(), r.Float64()
		}
	}
	for i := range n {
		for j := range n {
			for k := range n {
				c[i][j] += a[i][k] * b[k][j]
			}
		}
	}
	return fmt.Append(nil, c[3][5], c[n-1][n-1])
}

func goroutines(seed uint64) []byte {
	var wg sync.WaitGroup
	results := make(chan uint64)
	for i := range uint64(200) {
		wg.Go(func() {
			for j := range uint64(20) {
				results <- seed + i*j
			}
		})
	}
	go func() { wg.Wait(); close(results) }()
	var sum uint64
	for v := range results {
		sum += v
	}
	return fmt.Append(nil, sum)
}
