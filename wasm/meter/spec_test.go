package meter_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/weftrun/weft/wasm/meter"
)

// script is a part of the standard's test suite, as wabt's wast2json writes it.
type script struct {
	Commands []command `json:"commands"`
}

type command struct {
	Type     string `json:"type"`
	Line     int    `json:"line"`
	Name     string `json:"name"`     // that the script gives a module
	Filename string `json:"filename"` // of a module
	Format   string `json:"module_type"`
	As       string `json:"as"` // by which others import it
	Action   struct {
		Type   string  `json:"type"`
		Module string  `json:"module"`
		Field  string  `json:"field"`
		Args   []value `json:"args"`
	} `json:"action"`
}

type value struct {
	Type  string `json:"type"`
	Value any    `json:"value"` // of a vector its lanes
}

// words are a value as the engine passes it.
func (v value) words(t *testing.T) []uint64 {
	t.Helper()
	number := func(text any, bits int) uint64 {
		s := fmt.Sprint(text)
		n, err := strconv.ParseUint(s, 10, bits)
		if i, signed := strconv.ParseInt(s, 10, bits); err != nil && signed == nil {
			n, err = uint64(i)&(1<<bits-1), nil
		}
		if err != nil {
			t.Fatalf("the argument %v: %v", v, err)
		}
		return n
	}
	switch {
	case v.Value == nil || v.Value == "null":
		return []uint64{0}
	case v.Type == "externref":
		return []uint64{number(v.Value, 32) + 1} // 0 is null
	case v.Type == "v128":
		lanes := v.Value.([]any)
		words, bits := make([]uint64, 2), 128/len(lanes)
		for n, lane := range lanes {
			words[n*bits/64] |= number(lane, bits) << (n * bits % 64)
		}
		return words
	}
	bits, err := strconv.Atoi(v.Type[1:])
	if err != nil {
		t.Fatalf("an argument of the type %s", v.Type)
	}
	return []uint64{number(v.Value, bits)}
}

// stage is where a script plays: once on modules as they are, once metered.
type stage struct {
	*play
	metered bool
	loaded  int // modules that were rewritten
	named   map[string]api.Module
	last    api.Module
}

// load instantiates a module, and returns what went wrong.
func (s *stage) load(t *testing.T, text []byte, c command, as string) string {
	t.Helper()
	if s.metered {
		// An instance is used on after its stack was full, which the metered one is not
		// made for, so that the engine's own bound is met.
		out, _, err := meter.Rewrite(text, meter.Options{Bound: 64, MaxStack: 1 << 60})
		if err == nil {
			text = out
			s.loaded++
		} else if !isUnsupported(err) {
			return "refused"
		}
	}
	mod, err := s.rt.InstantiateWithConfig(t.Context(), text, wazero.NewModuleConfig().WithName(as).WithStartFunctions())
	if err != nil {
		return "refused"
	}
	s.last = mod
	if c.Name != "" {
		s.named[c.Name] = mod
	}
	return ""
}

// act performs a command's action and returns what came of it.
func (s *stage) act(t *testing.T, c command) (o outcome) {
	t.Helper()
	mod := s.last
	if c.Action.Module != "" {
		mod = s.named[c.Action.Module]
	}
	if c.Action.Type == "get" {
		o.Globals = []uint64{mod.ExportedGlobal(c.Action.Field).Get()}
		return o
	}
	var args []uint64
	for _, v := range c.Action.Args {
		args = append(args, v.words(t)...)
	}
	results, err := mod.ExportedFunction(c.Action.Field).Call(t.Context(), args...)
	o.Results, o.Err = results, kind(err)
	return o
}

// TestSpecification plays the test suite of WebAssembly's standard, which the engine has among its
// own files: metered modules, whose host is asked at each check, do what the same do as they are.
func TestSpecification(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "internal", "integration_test", "spectest")
	base, err := os.ReadFile(filepath.Join(dir, "testdata", "spectest.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	modules, calls := 0, 0
	for _, part := range []string{"v2", "tail-call", "extended-const"} {
		scripts, err := filepath.Glob(filepath.Join(dir, part, "testdata", "*.json"))
		if err != nil || len(scripts) == 0 {
			t.Fatalf("%s: %v, %d scripts", part, err, len(scripts))
		}
		for _, path := range scripts {
			t.Run(part+"/"+strings.TrimSuffix(filepath.Base(path), ".json"), func(t *testing.T) {
				loaded, called := perform(t, path, base)
				modules, calls = modules+loaded, calls+called
			})
		}
	}
	if t.Logf("%d modules were metered, %d functions called", modules, calls); modules < 4000 || calls < 48_000 {
		t.Error("these are too few")
	}
}

// perform plays one script, and returns how many modules it metered, and functions called.
func perform(t *testing.T, path string, base []byte) (modules, calls int) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var s script
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	stages := [2]*stage{}
	for n := range stages {
		p := newPlay(t)
		p.budget = 0
		stages[n] = &stage{play: p, metered: n == 1, named: map[string]api.Module{}}
		if _, err := p.rt.InstantiateWithConfig(context.Background(), base, wazero.NewModuleConfig().WithName("spectest")); err != nil {
			t.Fatal(err)
		}
	}
	for n, c := range s.Commands {
		var got [2]any
		for i, stage := range stages {
			switch c.Type {
			case "module", "assert_invalid", "assert_malformed", "assert_unlinkable", "assert_uninstantiable":
				if c.Format == "text" {
					continue
				}
				module, err := os.ReadFile(filepath.Join(filepath.Dir(path), c.Filename))
				if err != nil {
					t.Fatal(err)
				}
				as := ""
				if next := n + 1; c.Type == "module" && next < len(s.Commands) && s.Commands[next].Type == "register" {
					as = s.Commands[next].As
				}
				got[i] = stage.load(t, module, c, as)
			case "assert_return", "assert_trap", "assert_exhaustion", "action":
				got[i] = stage.act(t, c)
				calls += i // once for both
			}
		}
		if diff := cmp.Diff(got[0], got[1]); diff != "" {
			t.Errorf("line %d, %s: as it is -, metered +:\n%s", c.Line, c.Type, diff)
		}
	}
	return stages[1].loaded, calls
}
