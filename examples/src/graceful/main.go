// Command graceful works until it is asked to stop, then finishes what it has
// begun. It builds for WASI (GOOS=wasip1 GOARCH=wasm) and runs natively too,
// where it is stopped by SIGTERM.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"
)

func main() {
	finish := flag.Duration("finish", time.Second, "how long it takes to finish once asked to stop")
	code := flag.Int("code", 0, "exit code after that")
	flag.Parse()
	ctx, cancel := stopping()
	defer cancel()
	fmt.Println("working")
	for n := 1; ; n++ {
		select {
		case <-time.After(time.Second):
			fmt.Println("done:", n)
		case <-ctx.Done():
			fmt.Println("asked to stop: finishing")
			time.Sleep(*finish)
			fmt.Println("finished")
			os.Exit(*code)
		}
	}
}

// stopping returns a context that ends when the program is asked to stop.
func stopping() (context.Context, context.CancelFunc) {
	path := os.Getenv("WEFT_STOP_FILE")
	if path == "" {
		return signals(context.Background())
	}
	// Opened here, not in the goroutine: from now on the program listens.
	file, err := os.Open(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, "graceful: it will not hear when it should stop:", err)
		return context.WithCancel(context.Background())
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = file.Read(make([]byte, 16)) // waits until then
		cancel()
	}()
	return ctx, cancel
}
