// Command crash ends badly after a while: with the exit code in -code, or by a
// trap with -trap. It builds for WASI (GOOS=wasip1 GOARCH=wasm) and runs
// natively too.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

func main() {
	code := flag.Int("code", 1, "exit code, 0 to 255")
	after := flag.Duration("after", 0, "how long to run first")
	trap := flag.Bool("trap", false, "trap instead of exiting")
	flag.Parse()
	if *code < 0 || *code > 255 {
		fmt.Fprintln(os.Stderr, "crash: -code must be between 0 and 255")
		os.Exit(2)
	}
	fmt.Printf("crash: up, %s to go\n", *after)
	time.Sleep(*after)
	if *trap {
		fmt.Println("crash: trap")
		trapNow()
	}
	fmt.Printf("crash: exit with code %d\n", *code)
	os.Exit(*code)
}
