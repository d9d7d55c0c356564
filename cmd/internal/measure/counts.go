package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// buckets are how many values of a histogram are at most as great as each
// bound.
type buckets struct {
	bounds []float64 // ascending, the last is infinite
	counts []float64 // cumulative
}

// parseHistogram reads the buckets of a histogram from Prometheus' text format,
// those of all series together that have the labels.
func parseHistogram(text io.Reader, name string, labels ...string) (buckets, error) {
	sums := map[float64]float64{}
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		line, ok := strings.CutPrefix(lines.Text(), name+"_bucket{")
		if !ok || slices.ContainsFunc(labels, func(label string) bool { return !strings.Contains(line, label) }) {
			continue
		}
		_, rest, _ := strings.Cut(line, `le="`)
		le, rest, _ := strings.Cut(rest, `"`)
		_, value, _ := strings.Cut(rest, "} ")
		bound, err := strconv.ParseFloat(le, 64)
		if err != nil {
			return buckets{}, fmt.Errorf("read %s: %w", name, err)
		}
		count, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return buckets{}, fmt.Errorf("read %s: %w", name, err)
		}
		sums[bound] += count
	}
	var b buckets
	for bound := range sums {
		b.bounds = append(b.bounds, bound)
	}
	slices.Sort(b.bounds)
	for _, bound := range b.bounds {
		b.counts = append(b.counts, sums[bound])
	}
	return b, lines.Err()
}

// count returns how many values there are.
func (b buckets) count() float64 {
	if len(b.counts) == 0 {
		return 0
	}
	return b.counts[len(b.counts)-1]
}

// since returns what came after an earlier state of the same histogram.
func (b buckets) since(before buckets) buckets {
	if len(before.bounds) == 0 {
		return b
	}
	out := buckets{bounds: b.bounds, counts: slices.Clone(b.counts)}
	for i := range out.counts {
		out.counts[i] -= before.counts[i]
	}
	return out
}

// quantile returns the q-th quantile, taking values to lie evenly within their
// bucket; zero of none.
func (b buckets) quantile(q float64) float64 {
	rank := q * b.count()
	for i, count := range b.counts {
		if count == 0 || count < rank {
			continue
		}
		low, below := 0.0, 0.0
		if i > 0 {
			low, below = b.bounds[i-1], b.counts[i-1]
		}
		if math.IsInf(b.bounds[i], 1) {
			return low
		}
		return low + (b.bounds[i]-low)*(rank-below)/max(count-below, 1)
	}
	return 0
}

// asker asks a process of a cluster on its debug socket.
type asker struct {
	client *http.Client
	socket string
}

func newAsker(socket string) *asker { return &asker{onSocket(socket), socket} }

// metrics returns what the process counts, as text.
func (a *asker) metrics(ctx context.Context) (text string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://weft/metrics", nil)
	if err != nil {
		return "", err
	}
	answer, err := a.client.Do(request)
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", a.socket, err)
	}
	defer func() { _ = answer.Body.Close() }() // only read
	data, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", answer.Status)
	}
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", a.socket, err)
	}
	return string(data), nil
}

func (a *asker) close() { a.client.CloseIdleConnections() }
