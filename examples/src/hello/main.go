// Command hello logs a line at each interval, for ever. It builds for WASI
// (GOOS=wasip1 GOARCH=wasm) and runs natively too.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

func main() {
	message := flag.String("message", "hello", "what each line begins with")
	interval := flag.Duration("interval", time.Second, "time between two lines")
	lines := flag.Int("lines", 0, "end after so many lines; 0: never")
	flag.Parse()
	if *interval <= 0 {
		fmt.Fprintln(os.Stderr, "hello: -interval must be above 0")
		os.Exit(2)
	}
	name := os.Getenv("HOSTNAME")
	if name == "" {
		name = "nowhere"
	}
	if pod := os.Getenv("POD_NAME"); pod != "" && pod != name {
		name += "/" + pod
	}
	for n := 1; ; n++ {
		fmt.Printf("%s from %s: line %d\n", *message, name, n)
		if n == *lines {
			return
		}
		time.Sleep(*interval)
	}
}
