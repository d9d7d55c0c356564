package main

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sample has a figure within its ceiling, one above it, and one without.
func sample(factor float64) *Report {
	r := &Report{Machine: "a machine", Binary: "weft"}
	for _, value := range []float64{3, 1, 2} {
		r.Add("job", "complete", "s", 4, factor*value)
		r.Add("memory", "all", "MB", 150, factor*100*value)
		r.Add("job", "CPU", "CPU s", 0, factor*value)
	}
	return r
}

// words are the lines of a table with their padding squeezed.
func words(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		out = append(out, strings.Join(strings.Fields(line), " "))
	}
	return out
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	sample(1).Table(&out)
	want := []string{
		"FIGURE MIN MEDIAN MAX CEILING",
		"job",
		"complete 1.00 s 2.00 s 3.00 s 4.00 s PASS",
		"CPU 1.00 CPU s 2.00 CPU s 3.00 CPU s",
		"memory",
		"all 100 MB 200 MB 300 MB 150 MB FAIL",
	}
	if diff := cmp.Diff(want, words(out.String())); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"memory, all: 200 MB"}, sample(1).Over()); diff != "" {
		t.Error(diff)
	}
}

func TestCompare(t *testing.T) {
	after := sample(0.5)
	after.Add("new", "figure", "1/s", 0, 1234)
	var out bytes.Buffer
	Compare(&out, sample(1), after)
	want := []string{
		"complete 2.00 s 1.00 s 0.50 4.00 s PASS",
		"all 200 MB 100 MB 0.50 150 MB PASS",
		"figure - 1234 1/s -",
	}
	lines := words(out.String())
	for _, line := range want {
		if !slices.Contains(lines, line) {
			t.Errorf("no line %q in\n%s", line, out.String())
		}
	}
}

func TestFilesOfRuns(t *testing.T) {
	var files []string
	for i, factor := range []float64{1, 3} {
		files = append(files, filepath.Join(t.TempDir(), "figures.json"))
		if err := sample(factor).write(files[i]); err != nil {
			t.Fatal(err)
		}
	}
	read, err := readReport(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample(1), read); diff != "" {
		t.Error(diff)
	}
	var out bytes.Buffer
	// Six values 1 2 3 3 6 9 have the median 3.
	if code, err := compareFiles(files[0]+","+files[0]+"+"+files[1], &out); code != 0 || err != nil {
		t.Fatal(code, err)
	}
	if line := "complete 2.00 s 3.00 s 1.50 4.00 s PASS"; !slices.Contains(words(out.String()), line) {
		t.Errorf("no line %q in\n%s", line, out.String())
	}
}

func TestQuantile(t *testing.T) {
	for _, test := range []struct {
		values []float64
		q      float64
		want   float64
	}{
		{nil, 0.5, 0},
		{[]float64{7}, 0.99, 7},
		{[]float64{4, 1, 3, 2}, 0.5, 2.5},
		{[]float64{2, 1, 3}, 1, 3},
		{[]float64{2, 1, 3}, 0, 1},
	} {
		if got := quantile(test.values, test.q); got != test.want {
			t.Errorf("quantile(%v, %v) = %v, want %v", test.values, test.q, got, test.want)
		}
	}
}

func TestParseStat(t *testing.T) {
	// The 14th and 15th fields are ticks in user and system mode.
	got, err := parseStat([]byte("42 (a (b) c) S 7 42 42 0 -1 4194560 100 0 0 0 150 25 0 0 20 0 9 0\n"))
	if err != nil || got != (stat{parent: 7, cpu: 1.75}) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"", "1 (x) S", "1 (x) S p 1 1 0 -1 0 1 0 0 0 1 1 0"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestParseMemory(t *testing.T) {
	got := parseMemory([]byte("55-77 ---p 00000000 00:00 0 [rollup]\nRss:  4096 kB\nPss:  2048 kB\nPrivate_Dirty:  512 kB\n"))
	if want := (memory{pss: 2, private: 0.5}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestParse(t *testing.T) {
	for _, bad := range [][]string{{"--only=pods,nothing"}, {"--skip=nothing"}, {"--rounds=0"}, {"--pairs=0"}, {"--guests=("}, {"--unknown"}} {
		if _, err := parse(bad, &bytes.Buffer{}); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
	o, err := parse([]string{"--only=pods,job"}, &bytes.Buffer{})
	if err != nil || !slices.Equal(o.only, []string{"pods", "job"}) {
		t.Errorf("got %v, %v", o, err)
	}
}
