package meter_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"

	"github.com/weftrun/weft/wasm/meter"
)

// slice is the budget that a test's host gives: little, so that it is asked often.
const slice = 5000

// outcome is what can be seen of a run.
type outcome struct {
	Err     string
	Output  string
	Results []uint64
	Memory  string // its size and digest
	Globals []uint64
}

// play is a runtime with a host, for original and metered modules alike.
type play struct {
	rt      wazero.Runtime
	refills int
	most    int // refills before the guest is ended; 0: any number
	budget  uint64
	// gap is by how much the global g0 fell between two refills, at most, last
	// what it was, and first what it began with.
	watch            bool
	gap, last, first uint64
}

// look notes how far g0 fell since the last look.
func (p *play) look(g0 uint64) {
	if fell := p.last - g0; p.last > g0 {
		p.gap = max(p.gap, fell)
	}
	p.last = g0
}

// features are those that the engine runs metered modules with.
const features = api.CoreFeaturesV2 | experimental.CoreFeaturesTailCall | experimental.CoreFeaturesExtendedConst

var errEnded = sys.NewExitError(sys.ExitCodeContextCanceled)

func newPlay(tb testing.TB) *play {
	tb.Helper()
	return newPlayOn(tb, wazero.NewRuntimeConfigCompiler())
}

func newPlayOn(tb testing.TB, rc wazero.RuntimeConfig) *play {
	tb.Helper()
	p := &play{budget: slice}
	ctx := tb.Context()
	p.rt = wazero.NewRuntimeWithConfig(ctx, rc.WithMemoryLimitPages(1024).WithCoreFeatures(features))
	tb.Cleanup(func() {
		if err := p.rt.Close(context.WithoutCancel(ctx)); err != nil {
			tb.Error(err)
		}
	})
	refill := func(_ context.Context, mod api.Module, stack []uint64) {
		if p.refills++; p.most > 0 && p.refills > p.most {
			panic(errEnded)
		}
		if p.watch {
			p.look(mod.ExportedGlobal("g0").Get())
		}
		stack[0] = p.budget
	}
	_, err := p.rt.NewHostModuleBuilder(meter.ImportModule).NewFunctionBuilder().
		WithGoModuleFunction(api.GoModuleFunc(refill), nil, []api.ValueType{api.ValueTypeI64}).Export(meter.ImportName).
		Instantiate(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	wasi_snapshot_preview1.MustInstantiate(ctx, p.rt)
	return p
}

// run instantiates a module and calls the function, with arguments.
func (p *play) run(ctx context.Context, module []byte, function string, args ...uint64) (o outcome, err error) {
	code, err := p.rt.CompileModule(ctx, module)
	if err != nil {
		return o, err
	}
	defer code.Close(ctx)
	var out bytes.Buffer
	config := wazero.NewModuleConfig().WithName("").WithStartFunctions().
		WithStdout(&out).WithStderr(&out).WithArgs("guest", "3000")
	mod, err := p.rt.InstantiateModule(ctx, code, config)
	if err != nil {
		return outcome{Err: kind(err), Output: out.String()}, nil
	}
	defer mod.Close(ctx)
	if g0 := mod.ExportedGlobal("g0"); g0 != nil {
		p.last, p.first = g0.Get(), g0.Get()
	}
	if f := mod.ExportedFunction(function); f != nil {
		o.Results, err = f.Call(ctx, args...)
	}
	o.Err, o.Output = kind(err), out.String()
	for _, name := range []string{"m", "memory"} {
		if m := mod.ExportedMemory(name); m != nil {
			view, _ := m.Read(0, m.Size())
			o.Memory = fmt.Sprintf("%d %x", len(view), sha256.Sum256(view))
		}
	}
	for n := 0; ; n++ {
		g := mod.ExportedGlobal(fmt.Sprintf("g%d", n))
		if g == nil {
			return o, nil
		}
		o.Globals = append(o.Globals, g.Get())
	}
}

// kind is the first line of an error: the stacks differ by the helpers.
func kind(err error) string {
	if err == nil {
		return ""
	}
	line, trace, _ := strings.Cut(err.Error(), "\n")
	if strings.HasPrefix(trace, "wasm stack trace:\n\t."+meter.StackOverflow+"(") {
		return meter.StackOverflow // as the engine says it
	}
	if strings.HasSuffix(line, " not instantiated") || strings.Contains(line, " is not exported in module ") {
		return "an import is missing" // of several the engine names any one
	}
	return line
}

func rewrite(tb testing.TB, module []byte, o meter.Options) []byte {
	tb.Helper()
	out, info, err := meter.Rewrite(module, o)
	if err != nil {
		tb.Fatal(err)
	}
	if info.Functions > 0 && !info.Metered {
		tb.Fatal("it has functions and is not metered")
	}
	return out
}

// assemble makes a module of its text, with wabt.
func assemble(tb testing.TB, text string) []byte {
	tb.Helper()
	tool, err := exec.LookPath("wat2wasm")
	if err != nil {
		tb.Skip("wat2wasm (wabt) is not installed")
	}
	dir := tb.TempDir()
	in, out := filepath.Join(dir, "m.wat"), filepath.Join(dir, "m.wasm")
	if err := os.WriteFile(in, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	if msg, err := exec.CommandContext(tb.Context(), tool, "--enable-tail-call", "--enable-extended-const", "--debug-names", "-o", out, in).CombinedOutput(); err != nil {
		tb.Fatalf("%v\n%s", err, msg)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// validate asks wabt as well, where it is.
func validate(tb testing.TB, module []byte) {
	tb.Helper()
	if tool, err := exec.LookPath("wasm-validate"); err == nil {
		if err := wabt(tb, tool, module); err != nil {
			tb.Errorf("wabt finds the output invalid: %v", err)
		}
	}
}

// wabt asks wabt's validator.
func wabt(tb testing.TB, tool string, module []byte) error {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "m.wasm")
	if err := os.WriteFile(path, module, 0o600); err != nil {
		tb.Fatal(err)
	}
	msg, err := exec.CommandContext(tb.Context(), tool, "--enable-tail-call", "--enable-extended-const", path).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, msg)
	}
	return nil
}

func isUnsupported(err error) bool { return errors.Is(err, meter.ErrUnsupported) }
