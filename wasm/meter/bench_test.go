package meter_test

import (
	"context"
	"io/fs"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/weftrun/weft/wasm/meter"
	"github.com/weftrun/weft/wasm/wasmtest"
)

const suite = "github.com/weftrun/weft/wasm/meter/testdata/suite"

// runner runs one program in one way.
type runner struct {
	name    string
	rt      wazero.Runtime
	code    wazero.CompiledModule
	took    []time.Duration
	refills int
	yielded time.Time
}

func newRunner(b *testing.B, name string, module []byte, rc wazero.RuntimeConfig) *runner {
	b.Helper()
	ctx := b.Context()
	r := &runner{name: name, rt: wazero.NewRuntimeWithConfig(ctx, rc)}
	b.Cleanup(func() { r.rt.Close(context.WithoutCancel(ctx)) })
	wasi_snapshot_preview1.MustInstantiate(ctx, r.rt)
	refill := func(_ context.Context, stack []uint64) {
		r.refills++
		if now := time.Now(); now.Sub(r.yielded) > time.Millisecond { // as the engine does
			r.yielded = now
			runtime.Gosched()
		}
		stack[0] = 512 << 10
	}
	_, err := r.rt.NewHostModuleBuilder(meter.ImportModule).NewFunctionBuilder().
		WithGoFunction(api.GoFunc(refill), nil, []api.ValueType{api.ValueTypeI64}).Export(meter.ImportName).
		Instantiate(ctx)
	if err != nil {
		b.Fatal(err)
	}
	begin := time.Now()
	if r.code, err = r.rt.CompileModule(ctx, module); err != nil {
		b.Fatal(err)
	}
	b.Logf("%s: compiled in %v", name, time.Since(begin).Round(time.Millisecond))
	return r
}

// cpu returns the CPU time of this process.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (r *runner) run(b *testing.B, args ...string) {
	before := cpu(b)
	config := wazero.NewModuleConfig().WithName("").WithArgs(args...).WithSysWalltime().WithSysNanotime()
	mod, err := r.rt.InstantiateModule(b.Context(), r.code, config)
	if err != nil && kind(err) != "module closed with exit_code(0)" {
		b.Fatal(err)
	}
	if mod != nil {
		mod.Close(b.Context())
	}
	r.took = append(r.took, cpu(b)-before)
}

// BenchmarkPrograms compares the CPU time of Go programs: as they are, metered,
// and interruptible by the engine. One iteration runs all three in turn, and the
// figures are medians.
func BenchmarkPrograms(b *testing.B) {
	for _, tc := range []struct {
		name, pkg string
		args      []string
	}{
		{"pi", "github.com/weftrun/weft/examples/src/pi", []string{"pi", "20000"}},
		{"sha256", suite, []string{"suite", "sha256", "40"}},
		{"sort", suite, []string{"suite", "sort", "40"}},
		{"json", suite, []string{"suite", "json", "40"}},
		{"regexp", suite, []string{"suite", "regexp", "20"}},
		{"matrix", suite, []string{"suite", "matrix", "20"}},
		{"goroutines", suite, []string{"suite", "goroutines", "20"}},
	} {
		b.Run(tc.name, func(b *testing.B) {
			module := wasmtest.BuildGo(b, tc.pkg)
			metered := rewrite(b, module, meter.Options{})
			all := []*runner{
				newRunner(b, "plain", module, wazero.NewRuntimeConfigCompiler()),
				newRunner(b, "metered", metered, wazero.NewRuntimeConfigCompiler()),
				newRunner(b, "interruptible", module, wazero.NewRuntimeConfigCompiler().WithCloseOnContextDone(true)),
			}
			for b.Loop() {
				for _, r := range all {
					r.run(b, tc.args...)
				}
			}
			base := median(all[0].took)
			b.ReportMetric(float64(base.Microseconds())/1000, "plain-ms")
			for _, r := range all[1:] {
				b.ReportMetric(float64(median(r.took))/float64(base), r.name+"-x")
			}
			m := all[1]
			b.ReportMetric(float64(m.refills/len(m.took)), "refills")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}

// BenchmarkCompile compares the CPU time of compiling, and the size of the code,
// with those of the original. The time to rewrite is in that of the metered one.
func BenchmarkCompile(b *testing.B) {
	for _, pkg := range []string{"github.com/weftrun/weft/examples/src/pi", suite} {
		b.Run(path.Base(pkg), func(b *testing.B) {
			module := wasmtest.BuildGo(b, pkg)
			var took [2][]time.Duration
			var size [2]int64
			for b.Loop() {
				for n := range took {
					spent, bytes := compile(b, module, n == 1)
					took[n], size[n] = append(took[n], spent), bytes
				}
			}
			b.ReportMetric(float64(median(took[0]).Milliseconds()), "plain-ms")
			b.ReportMetric(float64(median(took[1]))/float64(median(took[0])), "metered-x")
			b.ReportMetric(float64(size[1])/float64(size[0]), "size-x")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// compile returns how long it took, and the size of what the engine keeps.
func compile(b *testing.B, module []byte, metered bool) (spent time.Duration, size int64) {
	b.Helper()
	dir := b.TempDir()
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer cache.Close(b.Context())
	rt := wazero.NewRuntimeWithConfig(b.Context(), wazero.NewRuntimeConfigCompiler().WithCompilationCache(cache))
	defer rt.Close(b.Context())
	runtime.GC()
	before := cpu(b)
	if metered {
		module = rewrite(b, module, meter.Options{})
	}
	if _, err := rt.CompileModule(b.Context(), module); err != nil {
		b.Fatal(err)
	}
	spent = cpu(b) - before
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			info, statErr := d.Info()
			size, err = size+info.Size(), statErr
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return spent, size
}
