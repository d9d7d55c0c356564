// Command regex searches lines for regular expressions.
package main

import (
	"regexp"

	"github.com/weftrun/weft/examples/src/bench/go/input"
)

const (
	lines   = 2000
	longest = 160
)

var patterns = [3]string{
	`([a-z0-9._]+)@(([a-z]+)\.)+(com|org|net)`,
	`[0-9]+-[0-9]+-[0-9]+T([0-9]|:)+Z`,
	`(error|warning): [^:]*: (time ?out|refused)`,
}

var words = [16]string{
	"alice@", "example.", "com ", "2026-", "11-", "25T", "10:42:07", "Z ", "error: ",
	"warning: ", "dial: ", "timeout ", "time out ", "refused ", "net ", "a.b_c ",
}

func main() {
	rounds := input.Amount()
	r := input.Random(5)
	var text [lines][]byte
	for i := range text {
		for len(text[i]) < longest-16 {
			text[i] = append(text[i], words[r.Next()%16]...)
		}
	}
	sum := input.Start
	for range rounds {
		for _, pattern := range patterns {
			re := regexp.MustCompile(pattern)
			for _, line := range text {
				if at := re.FindIndex(line); at != nil {
					sum.Word(uint64(at[0])<<32 | uint64(at[1]))
				}
			}
		}
	}
	sum.Print()
}
