package executor

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftrun/weft/wasm"
)

func manyUsages(pods int) wasm.Usages {
	u := wasm.Usages{Time: time.Unix(1700000000, 7), Processes: []wasm.ProcessUsage{
		{Name: "executor", StartedAt: time.Unix(1600000000, 0), Usage: wasm.Usage{CPU: time.Hour, MemoryBytes: 1 << 30}},
	}}
	for i := range pods {
		u.Instances = append(u.Instances, wasm.InstanceUsage{
			Sandbox: fmt.Sprintf("5a8f2c1e-93a4-4b7e-8a51-%012d", i), ID: "main.0", StartedAt: time.Unix(1650000000, int64(i)),
			Usage: wasm.Usage{CPU: time.Duration(i) * time.Millisecond, MemoryBytes: int64(i) << 16, Throttled: time.Duration(i)},
		})
	}
	return u
}

func TestUsagesCodec(t *testing.T) {
	want := manyUsages(3)
	second := want.Instances[2]
	second.ID = "sidecar.4"
	want.Instances = append(want.Instances, second)
	got, err := parseUsages(appendUsages(nil, want))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	whole := appendUsages(nil, want)
	for cut := range whole {
		if got, err := parseUsages(whole[:cut]); err == nil && len(got.Instances) >= len(want.Instances) {
			t.Errorf("cut to %d bytes: no error", cut)
		}
	}
}

func TestUsagesRefused(t *testing.T) {
	negative := wasm.Usages{Instances: []wasm.InstanceUsage{{Sandbox: "s", ID: "i", Usage: wasm.Usage{CPU: -1}}}}
	nowhere := wasm.Usages{Instances: []wasm.InstanceUsage{{ID: "i"}}}
	for name, tc := range map[string]struct {
		in   []byte
		want string
	}{
		"empty":           {nil, "cut off"},
		"few numbers":     {[]byte{0, 1, 0}, "at least 4"},
		"large count":     {[]byte{0, 4, 0xff, 0xff, 0xff, 0x7f}, "cut off"},
		"negative":        {appendUsages(nil, negative), "negative"},
		"too many":        {appendUsages(nil, manyUsages(maxUsages+1)), "more than 200000"},
		"without sandbox": {appendUsages(nil, nowhere), "without a sandbox"},
	} {
		if _, err := parseUsages(tc.in); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
}

// A newer executor may say more of each entry than this agent knows.
func TestUsagesOfNewer(t *testing.T) {
	const more = "\x00\x05\x00" + "\x01s\x01i" + "\x02\x04\x06\x08\x0a" + "\x00\x01j" + "\x02\x04\x06\x08\x0a"
	got, err := parseUsages([]byte(more))
	if err != nil {
		t.Fatal(err)
	}
	used := wasm.Usage{CPU: 2, MemoryBytes: 3, Throttled: 4}
	want := []wasm.InstanceUsage{
		{Sandbox: "s", ID: "i", StartedAt: time.Unix(0, 1), Usage: used}, {Sandbox: "s", ID: "j", StartedAt: time.Unix(0, 1), Usage: used},
	}
	if diff := cmp.Diff(want, got.Instances); diff != "" {
		t.Error(diff)
	}
}

// A child that a guest took over may say anything.
func FuzzParseUsages(f *testing.F) {
	f.Add(appendUsages(nil, manyUsages(2)))
	f.Add([]byte{0, 4, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		u, err := parseUsages(in)
		if err != nil {
			return
		}
		again, err := parseUsages(appendUsages(nil, u))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(u, again); diff != "" {
			t.Error(diff)
		}
	})
}

// BenchmarkUsages is one answer about 10,000 instances, without the wire.
func BenchmarkUsages(b *testing.B) {
	u := manyUsages(10000)
	var buffer []byte
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buffer = appendUsages(nil, u)
		}
		b.ReportMetric(float64(len(buffer)), "bytes")
	})
	buffer = appendUsages(nil, u)
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := parseUsages(buffer); err != nil {
				b.Fatal(err)
			}
		}
	})
}
