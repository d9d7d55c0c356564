package nodelink

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
)

// What a node says of its use must not bring the core down, nor get past the
// limits.
func FuzzParseUsage(f *testing.F) {
	f.Add([]byte(`{"epoch":1,"time":"2026-01-02T03:04:05Z","node":{"cpu":1,"memory":2},"pods":[{"uid":"a","containers":[{"name":"c","startedAt":"2026-01-02T03:04:05Z","cpu":3,"memory":4,"throttled":5}]}]}`))
	f.Add([]byte(`{"time":"2026-01-02T03:04:05Z","pods":[{"containers":[{"cpu":-1}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		u, err := parseUsage(data)
		if err != nil {
			return
		}
		for i := range u.Pods {
			for j := range u.Pods[i].Containers {
				if c := &u.Pods[i].Containers[j]; c.CPU < 0 || c.MemoryBytes < 0 || c.Throttled < 0 {
					t.Errorf("a negative number: %+v", c)
				}
			}
		}
		if u.Time.IsZero() || len(u.Pods) > usagePodsMax {
			t.Errorf("at %v, %d pods", u.Time, len(u.Pods))
		}
	})
}

// BenchmarkUsageCodec is what one node's 10,000 pods cost the bus and the core
// at each interval, without the table.
func BenchmarkUsageCodec(b *testing.B) {
	var u usage
	u.Time = time.Now()
	for i := range usagePodsMax {
		u.Pods = append(u.Pods, core.PodUsage{UID: types.UID(fmt.Sprintf("5a8f2c1e-93a4-4b7e-8a51-%012d", i)), Containers: []core.ContainerUsage{
			{Name: "main", Usage: core.Usage{StartedAt: u.Time, CPU: 123456789, MemoryBytes: 12345678}},
		}})
	}
	data, err := json.Marshal(u)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for range 10 {
				if _, err := json.Marshal(u); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(10*len(data)), "bytes")
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for range 10 {
				if _, err := parseUsage(data); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
