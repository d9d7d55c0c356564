package meter_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tetratelabs/wazero"

	"github.com/weftrun/weft/wasm/meter"
)

// TestOpcodes has every instruction once: lengths of immediates that were taken
// for others would not leave a valid module.
func TestOpcodes(t *testing.T) {
	module, err := os.ReadFile("testdata/opcodes.wasm")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("testdata/opcodes.wat")
	if err != nil {
		t.Fatal(err)
	}
	same(t, newPlay(t), module, meter.Options{}, "_start")
	_, info, err := meter.Rewrite(module, meter.Options{})
	if err != nil {
		t.Fatal(err)
	}
	// Two for each line, one line with a single one, and if, its condition and ends.
	if want := 2*bytes.Count(text, []byte("  unreachable ")) + 1 + 5; info.Instrs != want {
		t.Errorf("read %d instructions, want %d", info.Instrs, want)
	}
}

// differ runs a generated module both ways.
func differ(t *testing.T, p *play, seed uint64) outcome {
	t.Helper()
	module := generate(seed)
	want, err := p.run(t.Context(), module, "f", seed&0xffff, seed>>48)
	if err != nil {
		t.Fatalf("seed %d: the generator's module is invalid: %v", seed, err)
	}
	out, _, err := meter.Rewrite(module, meter.Options{Bound: int64(1 + seed%300)})
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	got, err := p.run(t.Context(), out, "f", seed&0xffff, seed>>48)
	if err != nil {
		t.Fatalf("seed %d: metered: %v", seed, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("seed %d: metered differs:\n%s", seed, diff)
	}
	return want
}

func TestGenerated(t *testing.T) {
	p := newPlay(t)
	n := uint64(300)
	if testing.Short() {
		n = 100
	}
	ends := map[string]int{}
	for seed := range n {
		ends[differ(t, p, seed*0x9e3779b97f4a7c15).Err]++
	}
	t.Logf("%d refills; ends: %v", p.refills, ends)
}

// unchecked runs a metered module whose every check calls the host, and looks at
// how much the module counted down in between: it does so in each function and
// each round of a loop, which weighs 7 at least.
func unchecked(t *testing.T, p *play, seed uint64) {
	t.Helper()
	bound := int64(1 + seed%200)
	out, _, err := meter.Rewrite(generate(seed), meter.Options{Bound: bound})
	if err != nil {
		t.Fatal(err)
	}
	p.budget, p.watch, p.gap, p.last = 0, true, 0, genFuel
	o, err := p.run(t.Context(), out, "f", seed&0xffff, seed>>48)
	if err != nil {
		t.Fatal(err)
	}
	if len(o.Globals) > 0 {
		p.look(o.Globals[0])
	}
	if most := uint64(18*bound/7 + 2); p.gap > most {
		t.Errorf("seed %d: %d rounds or calls without a check, with a bound of %d", seed, p.gap, bound)
	}
}

func TestNothingRunsUnchecked(t *testing.T) {
	p := newPlay(t)
	for seed := range uint64(200) {
		unchecked(t, p, seed*0xd1342543de82ef95)
	}
}

// TestAllIsPaid: what a module is charged in all is no less than what it counts
// down, whatever path it takes.
func TestAllIsPaid(t *testing.T) {
	const budget, bound = 1024, 64
	p := newPlay(t)
	p.budget = budget
	counted := uint64(0)
	for n := range uint64(400) {
		seed := n * 0xd1342543de82ef95
		out, _, err := meter.Rewrite(generate(seed), meter.Options{Bound: bound})
		if err != nil {
			t.Fatal(err)
		}
		p.refills = 0
		o, err := p.run(t.Context(), out, "f", seed&0xffff, seed>>48)
		if err != nil {
			t.Fatal(err)
		}
		if len(o.Globals) == 0 {
			continue
		}
		// What is owed when a budget ends is forgotten, which is a check's weight, and
		// what has no check is free.
		used, paid := genFuel-o.Globals[0], uint64(p.refills)*(budget+8*bound)
		if counted += used; paid+budget < 7*used {
			t.Errorf("seed %d: paid %d for %d rounds or calls", seed, paid, used)
		}
	}
	if counted < 500_000 {
		t.Errorf("only %d rounds and calls", counted)
	}
}

// kept returns the seeds that an hour of FuzzGenerated has found to be worth
// keeping: all of them for a fuzzer, some for a test.
func kept(f *testing.F) (seeds []uint64) {
	f.Helper()
	text, err := os.ReadFile("testdata/generated.txt")
	if err != nil {
		f.Fatal(err)
	}
	every := 20
	if on := flag.Lookup("test.fuzz"); on != nil && on.Value.String() != "" {
		every = 1
	}
	for i, word := range strings.Fields(string(text)) {
		seed, err := strconv.ParseUint(word, 10, 64)
		if err != nil {
			f.Fatal(err)
		}
		if i%every == 0 {
			seeds = append(seeds, seed)
		}
	}
	return seeds
}

func FuzzGenerated(f *testing.F) {
	for _, seed := range kept(f) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		p := newPlay(t)
		differ(t, p, seed)
		unchecked(t, p, seed)
	})
}

// FuzzMutated feeds what resembles modules. The pass must not panic, must leave
// a valid module valid, and must not make one valid: an index that was one of
// nothing could then be one of what was added.
func FuzzMutated(f *testing.F) {
	for _, module := range corpus(f) {
		f.Add(module)
	}
	f.Fuzz(func(t *testing.T, module []byte) {
		if len(module) > 1<<16 {
			return
		}
		out, info, err := meter.Rewrite(module, meter.Options{})
		if err != nil || !info.Metered {
			if err == nil && !bytes.Equal(out, module) {
				t.Error("a module without code was changed")
			}
			if errors.Is(err, meter.ErrMalformed) && strings.Contains(err.Error(), "does not exist") && !great(module) && valid(t, module) == nil {
				t.Errorf("a valid module was taken for a malformed one: %v", err)
			}
			return
		}
		if most := meter.DefaultMaxGrowth*len(module) + 4<<10; len(out) > most {
			t.Errorf("it grew from %d to %d bytes", len(module), len(out))
		}
		before, after := valid(t, module), valid(t, out)
		if (before == nil) != (after == nil) {
			t.Errorf("the original: %v; metered: %v", before, after)
		}
	})
}

// great reports whether a module may hold a number of more than two bytes. The engine allocates
// what a list claims to hold before it sees that it ends, and of what the pass refused
// nobody has read the rest.
func great(module []byte) bool {
	for n := 1; n < len(module); n++ {
		if module[n-1] >= 0x80 && module[n] >= 0x80 {
			return true
		}
	}
	return false
}

// corpus returns small modules of all sorts.
func corpus(tb testing.TB) (modules [][]byte) {
	tb.Helper()
	for _, glob := range []string{
		"testdata/opcodes.wasm", "testdata/hostile/*.wasm", "testdata/checks/*.wasm",
		"../wasmtest/modules/*.wasm", "../engine/testdata/*.wasm",
	} {
		paths, err := filepath.Glob(glob)
		if err != nil || len(paths) == 0 {
			tb.Fatalf("%s: no modules: %v", glob, err)
		}
		for _, path := range paths {
			b, err := os.ReadFile(path)
			if err != nil {
				tb.Fatal(err)
			}
			modules = append(modules, b)
		}
	}
	for seed := range uint64(40) {
		modules = append(modules, generate(seed))
	}
	return modules
}

// FuzzRun runs what resembles modules, and is valid, both ways. The original may
// never end, so it is interruptible.
func FuzzRun(f *testing.F) {
	for _, module := range corpus(f) {
		f.Add(module, uint64(3), uint64(5))
	}
	f.Fuzz(func(t *testing.T, module []byte, a, b uint64) {
		if len(module) > 1<<14 {
			return
		}
		out, info, err := meter.Rewrite(module, meter.Options{})
		if err != nil || !info.Metered || valid(t, module) != nil {
			return
		}
		compare(t, module, out, a, b)
	})
}

// compare runs both for a bounded time each.
func compare(t *testing.T, module, out []byte, args ...uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	original := newPlayOn(t, wazero.NewRuntimeConfigCompiler().WithCloseOnContextDone(true))
	metered := newPlay(t)
	metered.most = 3000
	for _, function := range []string{"f", "_start", "run"} {
		want, err := original.run(ctx, module, function, args...)
		if err != nil {
			return // it cannot be linked
		}
		got, err := metered.run(t.Context(), out, function, args...)
		if err != nil {
			t.Fatalf("metered: %v", err)
		}
		if ctx.Err() != nil || metered.refills > metered.most ||
			want.Err == meter.StackOverflow || got.Err == meter.StackOverflow {
			return // they end in different places
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%s: metered differs:\n%s", function, diff)
		}
	}
}

// valid asks the engine whether a module is valid, without its custom sections,
// which do not survive.
func valid(t *testing.T, module []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the compiler panics: %v", r)
		}
	}()
	ctx := context.WithoutCancel(t.Context())
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(features))
	defer rt.Close(ctx)
	_, err = rt.CompileModule(ctx, withoutCustom(module))
	return err
}

func withoutCustom(module []byte) []byte {
	out := append([]byte(nil), module[:min(8, len(module))]...)
	for rest := module[len(out):]; len(rest) > 0; {
		size, n := binary.Uvarint(rest[1:])
		if n <= 0 || n > 5 || size > uint64(len(rest)-1-n) {
			return module
		}
		end := 1 + n + int(size)
		if rest[0] != 0 {
			out = append(out, rest[:end]...)
		}
		rest = rest[end:]
	}
	return out
}
