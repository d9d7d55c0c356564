// Command sweep is a plugin that brings a kind of its own: a Sweep runs a
// module once for each value of a list. Everything that decides is in
// controller.go, and it only decides; the core watches, calls, applies and
// retries.
package main

import (
	"fmt"
	"os"

	"github.com/weftrun/weft/plugins"
)

func main() {
	controller, err := New()
	if err == nil {
		err = plugins.Serve(controller)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sweep:", err)
		os.Exit(1)
	}
}
