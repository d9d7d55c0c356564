package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// Figure is one thing measured, several times.
type Figure struct {
	Group  string    `json:"group"`
	Name   string    `json:"name"`
	Unit   string    `json:"unit"` // ms, s, CPU s, KiB, MB, x (a ratio), % or 1/s; of a rate more is better
	Values []float64 `json:"values"`
	// Ceiling is what the median must stay below, or of a rate reach; zero is
	// none.
	Ceiling float64 `json:"ceiling,omitempty"`
}

// Report is all that one run measured, in the order of measuring.
type Report struct {
	Machine string    `json:"machine"`
	Binary  string    `json:"binary"`
	Figures []*Figure `json:"figures"`
	// Skipped says what was not measured, and why.
	Skipped []string `json:"skipped,omitempty"`
}

func newReport(binary string) *Report {
	load := "unknown"
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		load = strings.Join(strings.Fields(string(data))[:3], " ")
	}
	return &Report{
		Binary: filepath.Base(binary),
		Machine: fmt.Sprintf("%d cores, %s, %s/%s, load at start %s",
			runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH, load),
	}
}

// Add adds a value to a figure, which comes to be with its first value.
func (r *Report) Add(group, name, unit string, ceiling, value float64) {
	for _, f := range r.Figures {
		if f.Group == group && f.Name == name {
			f.Values = append(f.Values, value)
			return
		}
	}
	// Beside the figures of its group, for the table.
	at := len(r.Figures)
	for i, f := range r.Figures {
		if f.Group == group {
			at = i + 1
		}
	}
	r.Figures = slices.Insert(r.Figures, at, &Figure{Group: group, Name: name, Unit: unit, Ceiling: ceiling, Values: []float64{value}})
}

// Skip notes that something is not measured, once.
func (r *Report) Skip(what, why string) {
	if line := what + ": " + why; !slices.Contains(r.Skipped, line) {
		r.Skipped = append(r.Skipped, line)
	}
}

func (r *Report) printSkipped(out io.Writer) {
	for _, line := range r.Skipped {
		fmt.Fprintf(out, "SKIPPED %s\n", line)
	}
}

// Over names the figures whose median is above their ceiling.
func (r *Report) Over() []string {
	var over []string
	for _, f := range r.Figures {
		if f.verdict() == "FAIL" {
			over = append(over, fmt.Sprintf("%s, %s: %s", f.Group, f.Name, f.format(f.median())))
		}
	}
	return over
}

// Table prints the figures.
func (r *Report) Table(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "FIGURE\tMIN\tMEDIAN\tMAX\tCEILING\t")
	group := ""
	for _, f := range r.Figures {
		if f.Group != group {
			group = f.Group
			fmt.Fprintf(w, "%s\t\t\t\t\t\n", group)
		}
		ceiling := ""
		if f.Ceiling > 0 {
			ceiling = f.format(f.Ceiling)
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%s\n", f.Name,
			f.format(slices.Min(f.Values)), f.format(f.median()), f.format(slices.Max(f.Values)), ceiling, f.verdict())
	}
	_ = w.Flush() // to a terminal
	r.printSkipped(out)
}

// Compare prints the medians of two runs side by side.
func Compare(out io.Writer, before, after *Report) {
	fmt.Fprintf(out, "before: %s (%s)\nafter:  %s (%s)\n\n", before.Binary, before.Machine, after.Binary, after.Machine)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "FIGURE\tBEFORE\tAFTER\tRATIO\tCEILING\t")
	group := ""
	for _, f := range after.Figures {
		if f.Group != group {
			group = f.Group
			fmt.Fprintf(w, "%s\t\t\t\t\t\n", group)
		}
		was, ratio, ceiling := "-", "-", ""
		if old := before.find(f); old != nil {
			was = old.format(old.median())
			if old.median() != 0 {
				ratio = fmt.Sprintf("%.2f", f.median()/old.median())
			}
		}
		if f.Ceiling > 0 {
			ceiling = f.format(f.Ceiling)
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%s\n", f.Name, was, f.format(f.median()), ratio, ceiling, f.verdict())
	}
	_ = w.Flush() // to a terminal
	after.printSkipped(out)
}

func (r *Report) find(like *Figure) *Figure {
	for _, f := range r.Figures {
		if f.Group == like.Group && f.Name == like.Name && f.Unit == like.Unit {
			return f
		}
	}
	return nil
}

// join adds another run's values to r, which may be nil.
func (r *Report) join(other *Report) *Report {
	if r == nil {
		return other
	}
	for _, f := range other.Figures {
		for _, value := range f.Values {
			r.Add(f.Group, f.Name, f.Unit, f.Ceiling, value)
		}
	}
	return r
}

func (r *Report) write(file string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode figures: %w", err)
	}
	if err := os.WriteFile(file, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write figures: %w", err)
	}
	return nil
}

func readReport(file string) (*Report, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read figures: %w", err)
	}
	r := &Report{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("read figures in %s: %w", file, err)
	}
	for _, f := range r.Figures {
		if f == nil || len(f.Values) == 0 {
			return nil, fmt.Errorf("read figures in %s: a figure has no values", file)
		}
	}
	return r, nil
}

func (f *Figure) median() float64 { return quantile(f.Values, 0.5) }

func (f *Figure) verdict() string {
	switch {
	case f.Ceiling == 0:
		return ""
	case f.Unit == "1/s" && f.median() >= f.Ceiling, f.Unit != "1/s" && f.median() < f.Ceiling:
		return "PASS"
	}
	return "FAIL"
}

func (f *Figure) format(value float64) string {
	digits := 2 - int(math.Floor(math.Log10(max(math.Abs(value), 0.01))))
	return fmt.Sprintf("%.*f %s", min(max(digits, 0), 3), value, f.Unit)
}

// quantile returns the q-th quantile of values, between the two nearest; zero
// of none.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	at := q * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}
