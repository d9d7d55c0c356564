// Command measure starts the real binary, uses it as a client of the API
// would, and says how long things take, what they cost in CPU and memory, and
// whether that is within the ceilings. It must not reach into any part of
// Weft: what it cannot see through the API or the operating system does not
// count. The guests alone are another matter: what metering costs is seen by
// running the same module on wasm/engine and on wazero alone.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the command line's.
type options struct {
	binary   string // the program to measure
	modules  string // folder of the example modules
	hostile  string // folder of modules that compute for ever
	rounds   int    // each on a new folder
	only     []string
	skip     []string
	save     string // file for the figures
	baseline string // file with figures to compare to
	compare  string // two files to compare, measuring nothing
	profiles string // folder for profiles; empty for none
	strict   bool
	keepLogs bool

	pods, replicas, completions, objects int
	creates                              int

	churnDays float64       // whose volume is written
	churnTime time.Duration // at most
	sockets   bool          // the processes listen on debug sockets

	programs string // folder of the guests to compare
	guests   *regexp.Regexp
	cache    string // folder of their compiled code, temporary
	pairs    int    // of each, in all rounds
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var code int
	var err error
	children := map[string]func(context.Context, string, io.Writer) error{childCommand: child, crowdCommand: crowdChild}
	if len(os.Args) == 3 && children[os.Args[1]] != nil {
		if err = children[os.Args[1]](ctx, os.Args[2], os.Stdout); err != nil {
			code = 1
		}
	} else {
		code, err = run(ctx, os.Args[1:], os.Stdout)
	}
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "measure: %v\n", err)
	}
	os.Exit(code)
}

func parse(args []string, out io.Writer) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("measure", flag.ContinueOnError)
	f.SetOutput(out)
	var only, skip string
	f.StringVar(&o.binary, "binary", "bin/weft", "the program to measure")
	f.StringVar(&o.modules, "modules", "examples/modules", "folder of the example modules")
	f.StringVar(&o.hostile, "hostile", "wasm/meter/testdata/hostile", "folder of the modules that compute for ever")
	f.IntVar(&o.rounds, "rounds", 3, "rounds, each on a new folder")
	f.StringVar(&only, "only", "", "phases to run, of "+strings.Join(names(), ",")+" (default: all)")
	f.StringVar(&skip, "skip", "", "phases to leave out")
	f.StringVar(&o.save, "json", "", "file to write the figures to")
	f.StringVar(&o.baseline, "baseline", "", "file with the figures of an earlier run, for a column of ratios")
	f.StringVar(&o.compare, "compare", "", "BEFORE,AFTER: compare two lists of files joined by +, and measure nothing")
	f.StringVar(&o.profiles, "profiles", "", "folder to write profiles of all processes to at work")
	f.BoolVar(&o.strict, "strict", false, "exit with 1 if a figure is above its ceiling")
	f.BoolVar(&o.keepLogs, "logs", false, "let the processes' logs through")
	f.IntVar(&o.pods, "pods", 100, "pods to start one after the other")
	f.IntVar(&o.replicas, "replicas", 1000, "replicas of the Deployment")
	f.IntVar(&o.completions, "completions", 1000, "completions of the Job, a tenth of them at a time")
	f.IntVar(&o.objects, "objects", 10000, "objects to list")
	f.IntVar(&o.creates, "creates", 8000, "objects to create for each rate, at most")
	f.Float64Var(&o.churnDays, "churn", 1, "days whose volume of writes is written")
	f.DurationVar(&o.churnTime, "churn-time", 90*time.Second, "how long that may take")
	f.StringVar(&o.programs, "programs", "bin/bench", "folder of the guests to compare, which .ci/bench-programs builds")
	guests := f.String("guests", "", "regular expression: which guests to compare, such as ^Go or json")
	f.IntVar(&o.pairs, "pairs", 15, "pairs of each guest metered and not, in all rounds")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	var err error
	if o.guests, err = regexp.Compile(*guests); err != nil {
		return nil, fmt.Errorf("guests: %w", err)
	}
	if o.only, err = phases("only", only); err != nil {
		return nil, err
	}
	if o.skip, err = phases("skip", skip); err != nil {
		return nil, err
	}
	for name, n := range map[string]int{ // at most a million, so that an int32 holds them
		"rounds": o.rounds, "pods": o.pods, "replicas": o.replicas, "completions": o.completions, "objects": o.objects, "creates": o.creates, "pairs": o.pairs,
	} {
		if n < 1 || n > 1e6 {
			return nil, fmt.Errorf("%s: %d is not from 1 to 1000000", name, n)
		}
	}
	if o.churnDays <= 0 || o.churnDays > 1000 || o.churnTime < 5*time.Second {
		return nil, fmt.Errorf("churn: %g days in %s are not from 0 to 1000 in 5s at least", o.churnDays, o.churnTime)
	}
	return o, nil
}

// phases reads a list of them.
func phases(option, list string) ([]string, error) {
	if list == "" {
		return nil, nil
	}
	out := strings.Split(list, ",")
	for _, name := range out {
		if !slices.Contains(names(), name) {
			return nil, fmt.Errorf("%s: %q is not one of %s", option, name, strings.Join(names(), ", "))
		}
	}
	return out, nil
}

func run(ctx context.Context, args []string, out io.Writer) (code int, err error) {
	o, err := parse(args, out)
	if errors.Is(err, flag.ErrHelp) {
		return 0, nil
	}
	if err != nil {
		return 2, err
	}
	if o.compare != "" {
		return compareFiles(o.compare, out)
	}
	var before *Report
	if o.baseline != "" {
		if before, err = readReport(o.baseline); err != nil {
			return 2, err
		}
	}
	if o.binary, err = filepath.Abs(o.binary); err != nil {
		return 2, err
	}
	if o.modules, err = filepath.Abs(o.modules); err != nil {
		return 2, err
	}
	if o.cache, err = os.MkdirTemp("", "measure-cache-"); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.cache)) }()
	report := newReport(o.binary)
	fmt.Fprintln(out, report.Machine)
	if err := rounds(ctx, o, report, out); err != nil {
		report.Table(out) // what there is of minutes of work
		return 1, err
	}
	fmt.Fprintln(out)
	if before == nil {
		report.Table(out)
	} else {
		Compare(out, before, report)
	}
	if o.save != "" {
		if err := report.write(o.save); err != nil {
			return 1, err
		}
	}
	if over := report.Over(); o.strict && len(over) > 0 {
		return 1, fmt.Errorf("above their ceilings: %s", strings.Join(over, "; "))
	}
	return 0, nil
}

func rounds(ctx context.Context, o *options, report *Report, out io.Writer) error {
	for round := range o.rounds {
		for _, p := range plans {
			if len(o.only) > 0 && !slices.Contains(o.only, p.name) || slices.Contains(o.skip, p.name) {
				continue
			}
			if err := p.run(ctx, o, report); err != nil {
				return fmt.Errorf("round %d: %s: %w", round+1, p.name, err)
			}
			fmt.Fprintf(out, "round %d of %d: %s measured\n", round+1, o.rounds, p.name)
		}
	}
	return nil
}

func compareFiles(files string, out io.Writer) (int, error) {
	before, after, ok := strings.Cut(files, ",")
	if !ok {
		return 2, fmt.Errorf("compare: %q: BEFORE,AFTER is wanted", files)
	}
	var reports [2]*Report
	for i, list := range []string{before, after} {
		for file := range strings.SplitSeq(list, "+") {
			r, err := readReport(file)
			if err != nil {
				return 2, err
			}
			reports[i] = reports[i].join(r)
		}
	}
	Compare(out, reports[0], reports[1])
	return 0, nil
}
