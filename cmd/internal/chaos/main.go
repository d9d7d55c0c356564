// Command chaos runs a cluster of real processes while clients write and watch,
// does bad things to one process after the other, and checks after each that
// nothing is lost, nothing runs twice and nothing is left behind. Its last line
// is the verdict, and so is its exit code. It must not know more of a cluster
// than its users do: command lines, the API, /proc and the debug sockets.
//
//	chaos -weft bin/weft -modules examples/modules -faults 200 -seed 1
//
// The cluster is a core with its embedded NATS server and two nodes, or, with
// -outside, two cores and two nodes on three NATS servers.
//
// A seed repeats the faults and what clients do; how the processes interleave
// is the machine's.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

// options are the command line's.
type options struct {
	weft, modules, data string
	faults              int
	seed                uint64
	deployments         int // of replicas each
	replicas            int32
	jobs                int
	outside, keep       bool
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == serveNATS {
		if err := runNATS(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.StringVar(&o.weft, "weft", "bin/weft", "the binary")
	flag.StringVar(&o.modules, "modules", "examples/modules", "folder of park.wasm and done.wasm")
	flag.StringVar(&o.data, "data", "", "folder for everything (default: a temporary one)")
	flag.IntVar(&o.faults, "faults", 200, "how many bad things to do")
	flag.Uint64Var(&o.seed, "seed", 0, "repeats a run (default: drawn)")
	flag.IntVar(&o.deployments, "deployments", 8, "Deployments at a time")
	replicas := flag.Int("replicas", 25, "pods of each, at most")
	flag.IntVar(&o.jobs, "jobs", 20, "Jobs at a time")
	flag.BoolVar(&o.outside, "outside", false, "two cores on three NATS servers, not one with its own")
	flag.BoolVar(&o.keep, "keep", false, "leave the folder, with the logs, also when all is well")
	flag.Parse()
	o.replicas = int32(*replicas) //nolint:gosec // a person gave it
	if o.seed == 0 {
		o.seed = rand.Uint64N(1 << 32)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	begin := time.Now()
	done, err := run(ctx, &o)
	took := time.Since(begin).Round(time.Second)
	if err != nil {
		fmt.Printf("the logs are in %s\nFAIL after %d faults and %s, seed %d: %s\n", o.data, done, took, o.seed, strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
	fmt.Printf("PASS: %d faults in %s, seed %d\n", done, took, o.seed)
}

// run does it all, and returns how many faults there were.
func run(ctx context.Context, o *options) (done int, err error) {
	if o.data == "" {
		if o.data, err = os.MkdirTemp("", "weft-chaos-"); err != nil {
			return 0, err
		}
	}
	for _, path := range []*string{&o.weft, &o.modules, &o.data} {
		if *path, err = filepath.Abs(*path); err != nil {
			return 0, err
		}
	}
	c, err := newCluster(o)
	if err != nil {
		return 0, err
	}
	defer func() {
		if left := c.close(); err == nil {
			err = left
		}
		if err == nil && !o.keep {
			err = os.RemoveAll(o.data)
		}
	}()
	if err := c.start(ctx); err != nil {
		return 0, err
	}
	users, err := newUsers(ctx, c, o)
	if err != nil {
		return 0, err
	}
	if err := users.settle(ctx); err != nil {
		return 0, fmt.Errorf("before any fault: %w", err)
	}
	r := rand.New(rand.NewPCG(o.seed, 1))
	for done < o.faults && ctx.Err() == nil {
		done++
		if err := users.suffer(ctx, r, done); err != nil {
			return done, err
		}
	}
	if ctx.Err() != nil {
		return done, ctx.Err()
	}
	return done, users.finish(ctx)
}

// suffer lets clients work while the n-th bad thing happens, and then checks
// everything.
func (u *users) suffer(ctx context.Context, r *rand.Rand, n int) error {
	u.work(ctx)
	pause(ctx, r, 500, 2000)
	what := u.c.fault(ctx, r)
	pause(ctx, r, 200, 1000)
	u.rest()
	begin := time.Now()
	if err := u.settle(ctx); err != nil {
		return fmt.Errorf("after %s: %w", what, err)
	}
	took := time.Since(begin)
	if err := u.audit(ctx); err != nil {
		return fmt.Errorf("after %s: %w", what, err)
	}
	fmt.Printf("%3d %s: well after %s, %d operations linear\n", n, what, took.Round(10*time.Millisecond), u.history.Len())
	return nil
}

// pause lets so many milliseconds pass.
func pause(ctx context.Context, r *rand.Rand, least, most int) {
	wait(ctx, time.Duration(least+r.IntN(most-least))*time.Millisecond)
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
