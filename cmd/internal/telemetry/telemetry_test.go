package telemetry

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// lines are those of a set's text that hold a word.
func lines(s *Set, word string) []string {
	answer := httptest.NewRecorder()
	s.ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	var out []string
	for line := range strings.Lines(answer.Body.String()) {
		if strings.Contains(line, word) {
			out = append(out, strings.TrimSuffix(line, "\n"))
		}
	}
	return out
}

func TestText(t *testing.T) {
	s := New()
	h := s.Histogram("request_duration_seconds", "How long a request takes.", "operation", "type")
	h.Observe(100*time.Microsecond, Labels{"create", "pods"})
	h.Observe(101*time.Microsecond, Labels{"create", "pods"})
	h.Observe(time.Hour, Labels{"create", "pods"})
	h.Observe(time.Second, Labels{"delete", "a\"b\\c\nd"})
	s.Histogram("sync_duration_seconds", "How long a sync takes.").Observe(250*time.Millisecond, Labels{})
	for _, c := range []struct {
		word string
		want []string
	}{
		{"# HELP request", []string{"# HELP request_duration_seconds How long a request takes."}},
		{"# TYPE sync", []string{"# TYPE sync_duration_seconds histogram"}},
		{`pods",le="0.0001"`, []string{`request_duration_seconds_bucket{operation="create",type="pods",le="0.0001"} 1`}},
		{`pods",le="0.00015"`, []string{`request_duration_seconds_bucket{operation="create",type="pods",le="0.00015"} 2`}},
		{`pods",le="+Inf"`, []string{`request_duration_seconds_bucket{operation="create",type="pods",le="+Inf"} 3`}},
		{"request_duration_seconds_count", []string{
			`request_duration_seconds_count{operation="create",type="pods"} 3`,
			`request_duration_seconds_count{operation="delete",type="a\"b\\c\nd"} 1`,
		}},
		{"sync_duration_seconds_sum", []string{`sync_duration_seconds_sum 0.25`}},
		{"sync_duration_seconds_count", []string{`sync_duration_seconds_count 1`}},
	} {
		if diff := cmp.Diff(c.want, lines(s, c.word)); diff != "" {
			t.Errorf("%s: %s", c.word, diff)
		}
	}
}

func TestSeriesAreBounded(t *testing.T) {
	s := New()
	h := s.Histogram("h_seconds", "H.", "name")
	var tasks sync.WaitGroup
	const tasksCount, each = 4, 500
	for task := range tasksCount {
		tasks.Go(func() {
			for i := range each {
				h.Observe(time.Millisecond, Labels{fmt.Sprint(task, "-", i)})
			}
		})
	}
	tasks.Wait()
	total, counts := 0, lines(s, "h_seconds_count")
	for _, line := range counts {
		var n int
		if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ' '):], &n); err != nil {
			t.Fatal(err)
		}
		total += n
	}
	if total != tasksCount*each || len(counts) > maxSeries+1 {
		t.Errorf("%d series count %d", len(counts), total)
	}
}

func BenchmarkObserve(b *testing.B) {
	s := New()
	h := s.Histogram("h_seconds", "H.", "operation", "type")
	b.ReportAllocs()
	for b.Loop() {
		h.Observe(3*time.Millisecond, Labels{"create", "pods"})
	}
}
