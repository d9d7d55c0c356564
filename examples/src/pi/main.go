// Command pi prints the first digits of pi: as many as its first argument
// says, 2,000 without one. It builds for WASI (GOOS=wasip1 GOARCH=wasm) and
// runs natively too.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
)

const (
	defaultDigits = 2000
	maxDigits     = 1_000_000
	lineWidth     = 100
)

func main() {
	digits := defaultDigits
	if len(os.Args) > 1 {
		n, err := strconv.Atoi(os.Args[1])
		if err != nil || n < 1 || n > maxDigits {
			fmt.Fprintf(os.Stderr, "pi: %q must be a number of digits between 1 and %d\n", os.Args[1], maxDigits)
			os.Exit(2)
		}
		digits = n
	}
	out := bufio.NewWriter(os.Stdout)
	text := Digits(digits)
	for len(text) > lineWidth {
		_, _ = out.WriteString(text[:lineWidth] + "\n") // Flush returns the error
		text = text[lineWidth:]
	}
	_, _ = out.WriteString(text + "\n") // Flush returns the error
	if err := out.Flush(); err != nil {
		os.Exit(1)
	}
}
