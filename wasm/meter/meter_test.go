package meter_test

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weftrun/weft/wasm/meter"
	"github.com/weftrun/weft/wasm/wasmtest"
)

// same runs the original and the rewritten module and compares all that shows.
func same(t *testing.T, p *play, module []byte, o meter.Options, function string, args ...uint64) {
	t.Helper()
	metered := rewrite(t, module, o)
	validate(t, metered)
	want, err := p.run(t.Context(), module, function, args...)
	if err != nil {
		t.Fatalf("the original: %v", err)
	}
	got, err := p.run(t.Context(), metered, function, args...)
	if err != nil {
		t.Fatalf("metered: %v", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metered differs:\n%s", diff)
	}
}

func TestHandWritten(t *testing.T) {
	paths, err := filepath.Glob("../wasmtest/modules/*.wasm")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no modules: %v", err)
	}
	for _, file := range paths {
		name := strings.TrimSuffix(filepath.Base(file), ".wasm")
		t.Run(name, func(t *testing.T) {
			switch name {
			case "spin", "startspin":
				t.Skip("never ends; see TestHostile")
			case "park", "foreign":
				t.Skip("waits, or cannot be linked")
			}
			module, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			same(t, newPlay(t), module, meter.Options{}, "_start")
		})
	}
}

func TestGoPrograms(t *testing.T) {
	const examples = "github.com/weftrun/weft/examples/src/"
	for _, pkg := range []string{examples + "pi", examples + "crash", suite} {
		t.Run(path.Base(pkg), func(t *testing.T) {
			module := wasmtest.BuildGo(t, pkg)
			p := newPlay(t)
			same(t, p, module, meter.Options{}, "_start")
			if p.refills == 0 {
				t.Error("the host was never asked")
			}
			out, info, err := meter.Rewrite(module, meter.Options{})
			t.Logf("%+v, %d to %d bytes (%.1f%%), %v", info, len(module), len(out), 100*float64(len(out))/float64(len(module))-100, err)
		})
	}
}

func TestRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"global": {`(module (import "weft:meter" "refill" (func (result i64))) (func))`, "weft:meter"},
		"table":  {`(module (table 2000000 funcref) (func))`, "tables of 2000000 entries"},
		"loops":  {"(module (func (local" + strings.Repeat(" i32", 3000) + ")" + strings.Repeat("(loop (br 0))", 1000) + "))", "1000 loops, and 3000 locals and parameters"},
		"locals": {"(module (func (local" + strings.Repeat(" i32", 50_001) + ")))", "50001 locals"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := meter.Rewrite(assemble(t, tc.text), meter.Options{})
			if !isUnsupported(err) || !strings.Contains(fmt.Sprint(err), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// What makes the engine's compiler panic must at least not break the pass.
func TestBrokenModules(t *testing.T) {
	paths, err := filepath.Glob("../engine/testdata/*.wasm")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no modules: %v", err)
	}
	for _, file := range paths {
		module, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, info, err := meter.Rewrite(module, meter.Options{})
		t.Logf("%s: %+v, %v", filepath.Base(file), info, err)
	}
}

func BenchmarkRewrite(b *testing.B) {
	module := wasmtest.BuildGo(b, "github.com/weftrun/weft/examples/src/pi")
	b.SetBytes(int64(len(module)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := meter.Rewrite(module, meter.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
