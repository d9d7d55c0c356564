// Command json parses a JSON document into a tree and prints it again, with the
// members of each object in the order of their names. Numbers are whole.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"github.com/weftrun/weft/examples/src/bench/go/input"
)

const records = 500

var words = [8]string{`alpha`, `beta`, `gam\"ma`, `del\tta`, `eps\u00e9ilon`, `zeta`, `et\\a`, `th\neta`}

func main() {
	rounds := input.Amount()
	in := document()
	sum := input.Start
	for range rounds {
		var v any
		err := json.Unmarshal(in, &v)
		var out []byte
		if err == nil {
			out, err = json.Marshal(v)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "json:", err)
			os.Exit(1)
		}
		for _, b := range out {
			sum.Byte(b)
		}
	}
	sum.Print()
}

func document() []byte {
	var b []byte
	r := input.Random(4)
	put := func(text string) { b = append(b, text...) }
	number := func(n int64) { b = strconv.AppendInt(b, n, 10) }
	word := func() { put(words[r.Next()%8]) }
	put("[")
	for i := range records {
		if i > 0 {
			put(",")
		}
		put("\n  {\"name\": \"")
		word()
		put(" ")
		word()
		put(`", "id": `)
		number(int64(i))
		put(`, "balance": `)
		number(int64(r.Next()) - 1<<31)
		put(`, "tags": [`)
		for t := range r.Next() % 6 {
			if t > 0 {
				put(", ")
			}
			put(`"`)
			word()
			put(`"`)
		}
		put(`], "at": {"y": `)
		number(int64(r.Next() % 1000))
		put(`, "x": `)
		number(int64(r.Next() % 1000))
		put(`, "path": [[1, 2], [], [3]]}, "active": `)
		put(strconv.FormatBool(r.Next()%2 == 1))
		put(`, "parent": null}`)
	}
	put("\n]\n")
	return b
}
