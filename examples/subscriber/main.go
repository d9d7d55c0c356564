// Command subscriber prints what changes in a cluster, one line a change, and
// misses nothing: it is a pattern for tools that follow Weft over NATS, and
// needs nothing of Weft but an address and an observer's credentials. It must
// not import anything of Weft.
//
//	go run ./examples/subscriber
//	go run ./examples/subscriber -pattern 'weft.v1.event.core.pods.default.*'
//	go run ./examples/subscriber -drop 5     # lose each fifth message, and see it come back
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/nats-io/nats.go"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "subscriber:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	folder := os.Getenv("WEFT_DATA")
	if folder == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return err
		}
		folder = filepath.Join(home, ".weft")
	}
	flags := flag.NewFlagSet("subscriber", flag.ContinueOnError)
	url := flags.String("url", "", "URL of the NATS server (default: what the file nats/url of the data folder says)")
	creds := flags.String("creds", filepath.Join(folder, "nats", "observer.creds"), "file with the credentials")
	name := flags.String("name", "observer", "name that the credentials are for")
	pattern := flags.String("pattern", "weft.v1.event.>", "what to subscribe to; it must cover whole namespaces")
	drop := flags.Int("drop", 0, "ignore each `n`th message, to see a gap mended")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if *url == "" {
		text, err := os.ReadFile(filepath.Join(folder, "nats", "url"))
		if err != nil {
			return fmt.Errorf("find the cluster (does it run?): %w", err)
		}
		*url = strings.TrimSpace(string(text))
	}
	s, err := newSubscriber(*name, *pattern, os.Stdout)
	if err != nil {
		return err
	}
	s.drop = *drop
	return s.run(ctx, *url, nats.UserCredentials(*creds))
}
