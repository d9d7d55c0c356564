package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const sources = "../../../examples/src/bench"

// TestChild runs the one program that is in the repository as a module in all
// ways, and twice with the same compiled code.
func TestChild(t *testing.T) {
	cache := t.TempDir()
	for _, way := range []string{metered, stock, stock} {
		arg, err := json.Marshal(task{
			Way: way, Module: filepath.Join(sources, "wat/loop.wasm"), Cache: filepath.Join(cache, way), Args: []string{"loop"},
		})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := child(t.Context(), string(arg), &out); err != nil {
			t.Fatal(way, err)
		}
		var got measured
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if got.Output != "5889421dc24e6100" || got.CPU <= 0 {
			t.Errorf("%s: got %+v", way, got)
		}
		if size, err := bytesUnder(cache); err != nil || size == 0 {
			t.Errorf("%s: %v bytes of compiled code, %v", way, size, err)
		}
	}
	if err := child(t.Context(), `{"Way":"stock","Module":"none.wasm"}`, &bytes.Buffer{}); err == nil {
		t.Error("a module that is not there was run")
	}
	if err := child(t.Context(), `{`, &bytes.Buffer{}); err == nil {
		t.Error("a broken task was taken")
	}
}

// TestSources tells whether each program is there in both languages.
func TestSources(t *testing.T) {
	for _, p := range programs() {
		file := filepath.Join(sources, strings.ToLower(p.language), p.name) + map[string]string{"C": ".c", "Go": "/main.go", "wat": ".wat"}[p.language]
		if _, err := os.Stat(file); err != nil {
			t.Errorf("%v: %v", p, err)
		}
	}
}

func TestMeans(t *testing.T) {
	got := means([][]float64{{1, 2}, {4, 2}})
	if len(got) != 2 || got[0] < 1.999 || got[0] > 2.001 || got[1] < 1.999 || got[1] > 2.001 {
		t.Errorf("got %v", got)
	}
	if got := means(nil); got != nil {
		t.Errorf("of nothing: %v", got)
	}
}

func TestSame(t *testing.T) {
	p := &pairs{outputs: map[string]string{}}
	const one, other = "0123456789abcdef", "0123456789abcdee"
	guest := program{language: "C", name: "sort"}
	if err := p.same(guest, stock, one); err != nil {
		t.Error(err)
	}
	if err := p.same(program{language: "Go", name: "sort"}, "native", one); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{other, "", "panic: x"} {
		if err := p.same(guest, metered, bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestSkipped(t *testing.T) {
	o, err := parse([]string{"--only=guests", "--programs=" + t.TempDir(), "--guests=^C sort"}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	r := newReport("weft")
	for range 2 {
		if err := measureGuests(t.Context(), o, r); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	r.Table(&out)
	lines := slices.DeleteFunc(words(out.String()), func(line string) bool { return !strings.HasPrefix(line, "SKIPPED C sort: ") })
	if diff := cmp.Diff(1, len(lines)); diff != "" {
		t.Errorf("%s in\n%s", diff, out.String())
	}
}
