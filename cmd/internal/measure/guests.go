package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/weftrun/weft/wasm/meter"
)

// Ceilings of ratios to unprotected wazero.
const (
	ceilingC       = 1.10 // each program
	ceilingGo      = 1.40 // each program
	ceilingGoMean  = 1.15
	ceilingLoop    = 1.6
	ceilingCompile = 1.10 // time to compile, and size of what it gives
)

// sampleTime is what one process may take. The slowest takes some seconds.
const sampleTime = 2 * time.Minute

// program is a guest, and its native counterpart.
type program struct {
	language, name string
	amount         int // its argument: the same in all languages
}

// programs are built by .ci/bench-programs. Their amounts are such that each
// runs for a tenth of a second to two seconds as a module.
func programs() []program {
	var out []program
	for _, language := range []string{"C", "Go"} {
		for _, p := range []program{
			{name: "spigot", amount: 4000},
			{name: "pidigits", amount: 2500},
			{name: "sha256", amount: 20},
			{name: "json", amount: 12},
			{name: "sort", amount: 4},
			{name: "matrix", amount: 15},
			{name: "regex", amount: 3},
		} {
			p.language = language
			out = append(out, p)
		}
	}
	return append(out, program{language: "wat", name: "loop"})
}

func (p program) String() string { return p.language + " " + p.name }

func (p program) args() []string {
	if p.amount == 0 {
		return []string{p.name}
	}
	return []string{p.name, strconv.Itoa(p.amount)}
}

// base is the path of what was built, without its ending.
func (p program) base(folder string) string {
	return filepath.Join(folder, strings.ToLower(p.language), p.name)
}

func (p program) ceiling() float64 {
	return map[string]float64{"C": ceilingC, "Go": ceilingGo, "wat": ceilingLoop}[p.language]
}

// pairs compares guests on wasm/engine with the same on wazero alone.
type pairs struct {
	*options
	report *Report
	self   string // this program
	node   string // the program; empty: there is none
	// outputs must be the same for a program in all languages and ways.
	outputs map[string]string
}

// measureGuests adds one round's share of the pairs. Each sample is taken by a
// process of its own, with code compiled before, and the two sides take turns
// in going first.
func measureGuests(ctx context.Context, o *options, r *Report) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	p := &pairs{options: o, report: r, self: self, outputs: map[string]string{}}
	if p.node, err = exec.LookPath("node"); err != nil {
		r.Skip("V8", "node is not in PATH")
	}
	ratios := map[string][][]float64{} // by language, program and pair
	for _, guest := range programs() {
		if !o.guests.MatchString(guest.String()) {
			continue
		}
		if _, err := os.Stat(guest.base(o.programs) + ".wasm"); err != nil {
			r.Skip(guest.String(), fmt.Sprintf("%v: .ci/bench-programs builds it, or says what it lacks", err))
			continue
		}
		got, err := p.measure(ctx, guest)
		if err != nil {
			return fmt.Errorf("%v: %w", guest, err)
		}
		ratios[guest.language] = append(ratios[guest.language], got)
	}
	for _, mean := range []struct {
		language string
		ceiling  float64
	}{{"C", 0}, {"Go", ceilingGoMean}} {
		for _, value := range means(ratios[mean.language]) {
			r.Add(group(mean.language), "geometric mean", "x", mean.ceiling, value)
		}
	}
	return nil
}

func group(language string) string { return language + " guests, CPU time metered / stock" }

// means returns the geometric mean of the first values of all lists, of the
// second ones, and so on.
func means(lists [][]float64) []float64 {
	if len(lists) == 0 {
		return nil
	}
	out := make([]float64, len(lists[0]))
	for i := range out {
		sum := 0.0
		for _, list := range lists {
			sum += math.Log(list[i])
		}
		out[i] = math.Exp(sum / float64(len(lists)))
	}
	return out
}

// measure takes all samples of one guest, and returns the ratios of its pairs.
func (p *pairs) measure(ctx context.Context, guest program) ([]float64, error) {
	if err := p.compile(ctx, guest); err != nil {
		return nil, err
	}
	var ratios, plain []float64
	for n := range (p.pairs + p.rounds - 1) / p.rounds {
		first, second := metered, stock
		if n%2 == 1 {
			first, second = second, first
		}
		took := map[string]float64{}
		for _, way := range []string{first, second} {
			s, err := p.run(ctx, guest, way)
			if err != nil {
				return nil, err
			}
			took[way] = s.CPU.Seconds()
		}
		ratios = append(ratios, took[metered]/took[stock])
		plain = append(plain, took[stock])
		p.report.Add(group(guest.language), guest.name, "x", guest.ceiling(), took[metered]/took[stock])
	}
	return ratios, p.others(ctx, guest, quantile(plain, 0.5))
}

// others adds what else there is to compare with.
func (p *pairs) others(ctx context.Context, guest program, base float64) error {
	name := guest.String()
	p.report.Add("guests, CPU time on stock wazero", name, "CPU s", 0, base)
	for _, other := range []struct {
		group string
		take  func(context.Context, program) (*measured, error)
	}{
		{"guests, WithCloseOnContextDone / stock", p.interruptible},
		{"guests, V8 / stock", p.v8},
		{"guests, native / stock", p.native},
	} {
		s, err := other.take(ctx, guest)
		if err != nil {
			return fmt.Errorf("%s: %w", other.group, err)
		}
		if s != nil {
			p.report.Add(other.group, name, "x", 0, s.CPU.Seconds()/base)
		}
	}
	return nil
}

// compile adds the ratios of time and size, and leaves compiled code behind.
func (p *pairs) compile(ctx context.Context, guest program) error {
	name := guest.String()
	took, size := map[string]float64{}, map[string]float64{}
	for _, way := range []string{metered, stock, interruptible} {
		t := p.task(guest, way)
		t.Compile = true
		if _, err := os.Stat(t.Cache); err != nil { // not compiled by an earlier round
			if _, err := p.child(ctx, t); err != nil {
				return err
			}
		}
		var err error
		if size[way], err = bytesUnder(t.Cache); err != nil {
			return err
		}
		if t.Cache = ""; way == interruptible {
			continue
		}
		s, err := p.child(ctx, t)
		if err != nil {
			return err
		}
		took[way] = s.CPU.Seconds()
	}
	p.report.Add("guests, CPU time to compile, metered / stock", name, "x", ceilingCompile, took[metered]/took[stock])
	p.report.Add("guests, machine code, metered / stock", name, "x", ceilingCompile, size[metered]/size[stock])
	module, err := os.ReadFile(guest.base(p.programs) + ".wasm")
	if err != nil {
		return err
	}
	rewritten, _, err := meter.Rewrite(module, meter.Options{})
	if err != nil {
		return err
	}
	p.report.Add("guests, module, metered / stock", name, "x", ceilingCompile, float64(len(rewritten))/float64(len(module)))
	return nil
}

// bytesUnder adds up the files in a folder: of compiled code each has a few
// bytes beside.
func bytesUnder(folder string) (sum float64, err error) {
	err = filepath.WalkDir(folder, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			sum += float64(info.Size())
		}
		return err
	})
	return sum, err
}

func (p *pairs) task(guest program, way string) task {
	base := guest.base(p.programs)
	return task{Way: way, Module: base + ".wasm", Cache: filepath.Join(p.cache, guest.language, guest.name, way), Args: guest.args()}
}

// run takes a sample of a guest at work.
func (p *pairs) run(ctx context.Context, guest program, way string) (measured, error) {
	s, err := p.child(ctx, p.task(guest, way))
	if err == nil {
		err = p.same(guest, way, s.Output)
	}
	return s, err
}

func (p *pairs) child(ctx context.Context, t task) (s measured, err error) {
	arg, err := json.Marshal(t)
	if err != nil {
		return s, err
	}
	out, _, err := execute(ctx, p.self, childCommand, string(arg))
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(out), &s)
}

// same tells whether that is what the program printed before.
func (p *pairs) same(guest program, way, output string) error {
	switch before, ok := p.outputs[guest.name]; {
	case len(output) != 16:
		return fmt.Errorf("%s: %q is no checksum", way, output)
	case ok && before != output:
		return fmt.Errorf("%s: it printed %s, and another one %s", way, output, before)
	}
	p.outputs[guest.name] = output
	return nil
}

func (p *pairs) interruptible(ctx context.Context, guest program) (*measured, error) {
	s, err := p.run(ctx, guest, interruptible)
	return &s, err
}

// v8Script runs a module in node, and prints the time that it took there:
// compiled before, though V8 does more of that while it runs.
const v8Script = `
const [file, ...args] = process.argv.slice(1)
const wasi = new (require('node:wasi').WASI)({version: 'preview1', args})
const imports = {wasi_snapshot_preview1: wasi.wasiImport}
WebAssembly.instantiate(require('node:fs').readFileSync(file), imports).then(({instance}) => {
	const before = process.cpuUsage()
	process.on('exit', () => {
		const took = process.cpuUsage(before)
		console.log(took.user + took.system)
	})
	wasi.start(instance)
})`

func (p *pairs) v8(ctx context.Context, guest program) (*measured, error) {
	if p.node == "" {
		return nil, nil
	}
	args := append([]string{"--no-warnings", "-e", v8Script, guest.base(p.programs) + ".wasm"}, guest.args()...)
	out, _, err := execute(ctx, p.node, args...)
	if err != nil {
		return nil, err
	}
	var s measured
	if _, err := fmt.Sscan(out, &s.Output, (*int64)(&s.CPU)); err != nil {
		return nil, fmt.Errorf("read %q: %w", out, err)
	}
	s.CPU *= time.Duration(time.Microsecond)
	return &s, p.same(guest, "V8", s.Output)
}

func (p *pairs) native(ctx context.Context, guest program) (*measured, error) {
	if guest.language == "wat" {
		return nil, nil
	}
	file := guest.base(p.programs) + ".native"
	if _, err := os.Stat(file); err != nil {
		p.report.Skip("native "+guest.String(), err.Error())
		return nil, nil
	}
	out, took, err := execute(ctx, file, guest.args()[1:]...)
	if err != nil {
		return nil, err
	}
	out = strings.TrimSpace(out)
	return &measured{CPU: took, Output: out}, p.same(guest, "native", out)
}

// execute runs a command to its end, and returns what it printed and its CPU
// time.
func execute(ctx context.Context, name string, args ...string) (out string, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, sampleTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	printed, err := cmd.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return "", 0, fmt.Errorf("run %s: %w", filepath.Base(name), err)
	}
	return string(printed), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}
