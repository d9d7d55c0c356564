package main

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const counted = `# HELP a_seconds A.
# TYPE a_seconds histogram
a_seconds_bucket{operation="create",type="pods",le="0.1"} 2
a_seconds_bucket{operation="create",type="pods",le="0.2"} 4
a_seconds_bucket{operation="create",type="pods",le="+Inf"} 5
a_seconds_sum{operation="create",type="pods"} 3
a_seconds_count{operation="create",type="pods"} 5
a_seconds_bucket{operation="update",type="nodes",le="0.1"} 10
a_seconds_bucket{operation="update",type="nodes",le="0.2"} 10
a_seconds_bucket{operation="update",type="nodes",le="+Inf"} 10
a_seconds_more_bucket{le="+Inf"} 7
`

func TestParseHistogram(t *testing.T) {
	for _, c := range []struct {
		name   string
		labels []string
		want   []float64
	}{
		{"a_seconds", nil, []float64{12, 14, 15}},
		{"a_seconds", []string{`type="pods"`}, []float64{2, 4, 5}},
		{"a_seconds", []string{`type="pods"`, `operation="update"`}, nil},
		{"b_seconds", nil, nil},
	} {
		b, err := parseHistogram(strings.NewReader(counted), c.name, c.labels...)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, b.counts); diff != "" {
			t.Errorf("%s %q: %s", c.name, c.labels, diff)
		}
	}
	if _, err := parseHistogram(strings.NewReader(`a_seconds_bucket{le="much"} 1`), "a_seconds"); err == nil {
		t.Error("a bound that is no number was read")
	}
}

func TestHistogramQuantile(t *testing.T) {
	b := buckets{bounds: []float64{1, 2, 4, math.Inf(1)}, counts: []float64{0, 10, 20, 21}}
	for q, want := range map[float64]float64{0: 1, 0.25: 1.525, 0.5: 2.1, 1: 4} {
		if got := b.quantile(q); math.Abs(got-want) > 1e-9 {
			t.Errorf("quantile %g is %g, want %g", q, got, want)
		}
	}
	later := buckets{bounds: b.bounds, counts: []float64{4, 14, 24, 25}}
	if got := later.since(b).quantile(1); got != 1 {
		t.Errorf("the greatest of what came since is %g, want 1", got)
	}
	if got := (buckets{}).quantile(0.5); got != 0 {
		t.Errorf("the median of none is %g", got)
	}
}
