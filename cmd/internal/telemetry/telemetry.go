// Package telemetry counts how long things take in a process, and writes that
// down as Prometheus reads it. It must not know what is counted: names, labels
// and the functions that count are handed out by those who assemble processes.
package telemetry

import (
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxSeries bounds the sets of label values of one histogram, so that names
// which users choose cannot fill the memory. What comes later is counted under
// "other".
const maxSeries = 200

// bounds are the upper bounds of all buckets but the last, which has none: two
// for each power of two, from 0.1 ms to 39 s; in seconds.
var bounds = func() []float64 {
	var out []float64
	for d := 100 * time.Microsecond; d < 30*time.Second; d *= 2 {
		out = append(out, d.Seconds(), (d + d/2).Seconds())
	}
	return out
}()

// Set is the histograms and counters of one process, and what Prometheus' own libraries
// tell of each: process_* and go_*. Its methods may be called concurrently.
type Set struct {
	registry *prometheus.Registry
	handler  http.Handler
}

// New returns a set without any.
func New() *Set {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &Set{registry: r, handler: promhttp.HandlerFor(r, promhttp.HandlerOpts{})}
}

// Labels are the values of a histogram's labels, in their order; those beyond
// its labels are empty.
type Labels [2]string

// Histogram counts durations by their length. Its methods may be called
// concurrently.
type Histogram struct {
	vec    *prometheus.HistogramVec
	labels int

	// series is replaced and never changed, so that counting takes no lock.
	series atomic.Pointer[map[Labels]prometheus.Observer]
	adding sync.Mutex
}

// Histogram adds a histogram, with two labels at most. The name should be that
// which Kubernetes gives to the same, and end in _seconds. It panics if the
// set has one of that name.
func (s *Set) Histogram(name, help string, labels ...string) *Histogram {
	h := &Histogram{
		vec:    prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: bounds}, labels),
		labels: len(labels),
	}
	h.series.Store(&map[Labels]prometheus.Observer{})
	s.registry.MustRegister(h.vec)
	return h
}

// Observe counts one duration. It allocates nothing but for label values that
// it has not met.
func (h *Histogram) Observe(took time.Duration, values Labels) {
	one := (*h.series.Load())[values]
	if one == nil {
		one = h.add(values)
	}
	one.Observe(took.Seconds())
}

func (h *Histogram) add(values Labels) prometheus.Observer {
	h.adding.Lock()
	defer h.adding.Unlock()
	known := *h.series.Load()
	if len(known) >= maxSeries {
		for i := range h.labels {
			values[i] = "other"
		}
	}
	if one := known[values]; one != nil {
		return one
	}
	one := h.vec.WithLabelValues(values[:h.labels]...)
	more := maps.Clone(known)
	more[values] = one
	h.series.Store(&more)
	return one
}

// Counter adds a counter, and returns what raises it by one, which may be called
// concurrently. It panics if the set has something of that name.
func (s *Set) Counter(name, help string) (inc func()) {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	s.registry.MustRegister(c)
	return c.Inc
}

// ServeHTTP answers with all that is counted, in Prometheus' text format or the
// one that the client asks for.
func (s *Set) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }
