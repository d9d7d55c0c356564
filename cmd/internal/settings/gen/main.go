// Command gen writes the documented settings file.
package main

import (
	"log"
	"os"

	"github.com/weftrun/weft/cmd/internal/settings"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: gen FILE")
	}
	if err := os.WriteFile(os.Args[1], []byte(settings.Document()), 0o644); err != nil {
		log.Fatal(err)
	}
}
