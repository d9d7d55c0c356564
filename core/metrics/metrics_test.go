package metrics

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
)

func TestRate(t *testing.T) {
	begin := time.Unix(1000, 0)
	type sample struct {
		at, started, cpu time.Duration // at and started since begin
	}
	for name, tc := range map[string]struct {
		samples   []sample
		nanocores int64
		window    time.Duration
		unknown   bool
	}{
		"two":                {samples: []sample{{100 * time.Second, 0, time.Second}, {110 * time.Second, 0, 3 * time.Second}}, nanocores: 2e8, window: 10 * time.Second},
		"fresh":              {samples: []sample{{4 * time.Second, 0, time.Second}}, nanocores: 25e7, window: 4 * time.Second},
		"just started":       {samples: []sample{{time.Second / 2, 0, time.Second / 2}}, unknown: true},
		"old, seen once":     {samples: []sample{{100 * time.Second, 0, time.Second}}, unknown: true},
		"restarted":          {samples: []sample{{100 * time.Second, 0, time.Hour}, {110 * time.Second, 105 * time.Second, time.Second}}, nanocores: 2e8, window: 5 * time.Second},
		"restarted just now": {samples: []sample{{100 * time.Second, 0, time.Hour}, {110 * time.Second, 110 * time.Second, 0}}, unknown: true},
		"fell":               {samples: []sample{{100 * time.Second, 0, time.Hour}, {110 * time.Second, 0, time.Second}}, unknown: true},
		"clock back":         {samples: []sample{{100 * time.Second, 0, time.Second}, {50 * time.Second, 0, 2 * time.Second}}, unknown: true},
		"clock back, then on": {samples: []sample{{100 * time.Second, 0, 0}, {50 * time.Second, 0, time.Second}, {60 * time.Second, 0, 2 * time.Second}},
			nanocores: 1e8, window: 10 * time.Second},
		"clock ahead":     {samples: []sample{{100 * time.Second, 0, time.Second}, {2 * time.Hour, 0, 2 * time.Second}}, unknown: true},
		"started later":   {samples: []sample{{100 * time.Second, 200 * time.Second, time.Second}}, unknown: true},
		"told twice":      {samples: []sample{{100 * time.Second, 0, time.Second}, {110 * time.Second, 0, 3 * time.Second}, {110 * time.Second, 0, 3 * time.Second}}, nanocores: 2e8, window: 10 * time.Second},
		"nothing is used": {samples: []sample{{100 * time.Second, 0, time.Second}, {110 * time.Second, 0, time.Second}}, window: 10 * time.Second},
		"none":            {unknown: true},
	} {
		var s series
		for _, p := range tc.samples {
			s.add(begin.Add(p.at), core.Usage{StartedAt: begin.Add(p.started), CPU: p.cpu})
		}
		nanocores, window, ok := s.rate()
		if nanocores != tc.nanocores || window != tc.window || ok == tc.unknown {
			t.Errorf("%s: %d nanocores over %v, %v; want %d over %v, %v", name, nanocores, window, ok, tc.nanocores, tc.window, !tc.unknown)
		}
	}
}

func testPod(name string, containers ...string) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{NodeName: "n1"},
	}
	for _, c := range containers {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: c})
	}
	return p
}

// told is what a node tells of pods whose containers use that much of a core
// since the time started.
func told(started time.Time, share float64, pods ...*corev1.Pod) core.NodeUsage {
	now := time.Now()
	used := core.Usage{StartedAt: started, CPU: time.Duration(share * float64(now.Sub(started))), MemoryBytes: 3 << 20}
	u := core.NodeUsage{Time: now, Node: used}
	for _, p := range pods {
		pod := core.PodUsage{UID: p.UID}
		for i := range p.Spec.Containers {
			pod.Containers = append(pod.Containers, core.ContainerUsage{Name: p.Spec.Containers[i].Name, Usage: used})
		}
		u.Pods = append(u.Pods, pod)
	}
	return u
}

func TestTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table Table
		p, gone := testPod("p", "a", "b"), testPod("gone", "a")
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"zone": "x"}}}
		if table.PodMetrics(p) != nil || table.NodeMetrics(n) != nil {
			t.Error("metrics of nothing")
		}
		started := time.Now()
		time.Sleep(time.Hour)
		table.Put("n1", told(started, 0.2, p, gone))
		if table.PodMetrics(p) != nil || table.NodeMetrics(n) != nil {
			t.Error("one sample of what is old told something")
		}
		time.Sleep(core.UsageInterval)
		// In two parts, a moment apart.
		whole := told(started, 0.2, p, gone)
		part := whole
		part.Pods = nil
		table.Put("n1", part)
		time.Sleep(time.Second)
		table.Put("n1", whole)
		if table.PodMetrics(gone) == nil {
			t.Error("no metrics of a pod that runs")
		}
		for range 2 {
			time.Sleep(core.UsageInterval)
			whole = told(started, 0.2, p)
			table.Put("n1", whole)
		}

		m := table.PodMetrics(p)
		if m == nil {
			t.Fatal("no metrics")
		}
		if m.Name != "p" || m.Namespace != "default" || m.Labels["app"] != "p" || m.Kind != "PodMetrics" || len(m.Containers) != 2 {
			t.Errorf("got %+v", m)
		}
		if cpu, memory := m.Containers[1].Usage.Cpu().String(), m.Containers[1].Usage.Memory().String(); cpu != "200m" && cpu != "200000000n" || memory != "3Mi" {
			t.Errorf("cpu %s, memory %s", cpu, memory)
		}
		if m.Window.Duration != core.UsageInterval || !m.Timestamp.Time.Equal(whole.Time) {
			t.Errorf("at %v over %v", m.Timestamp, m.Window)
		}
		if table.PodMetrics(gone) != nil {
			t.Error("metrics of a pod in which nothing runs any more")
		}
		nm := table.NodeMetrics(n)
		if nm == nil || nm.Labels["zone"] != "x" || nm.Usage.Cpu().MilliValue() != 200 {
			t.Errorf("of the node: %+v", nm)
		}
		time.Sleep(2 * staleAfter)
		if table.PodMetrics(p) != nil || table.NodeMetrics(n) != nil {
			t.Error("what is stale counts")
		}
	})
}

// A node can say nothing of pods that are not its own.
func TestTableOfAnotherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table Table
		p, other := testPod("p", "a"), testPod("p", "a")
		other.UID = "uid-before"
		started := time.Now()
		time.Sleep(5 * time.Second)
		table.Put("n2", told(started, 1, p))
		table.Put("n1", told(started, 1, other))
		if m := table.PodMetrics(p); m != nil {
			t.Errorf("got %+v", m)
		}
		p.Spec.Containers[0].Name = "b" // is not what is told of
		table.Put("n1", told(started, 1, testPod("p", "a")))
		if m := table.PodMetrics(p); m != nil {
			t.Errorf("got %+v", m)
		}
	})
}

func TestTableForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table Table
		started := time.Now()
		table.Put("n2", told(started, 1))
		for i := range 100 {
			table.Put("n1", told(started, 1, testPod(fmt.Sprint(i), "a")))
			time.Sleep(core.UsageInterval)
		}
		if n := len(table.nodes["n1"].pods); n > 8 {
			t.Errorf("%d pods are kept", n)
		}
		if table.nodes["n2"] != nil {
			t.Error("a node that is silent is kept")
		}
	})
}

// BenchmarkTable takes in and tells what 10,000 pods use.
func BenchmarkTable(b *testing.B) {
	var table Table
	started := time.Now().Add(-time.Hour)
	var pods []*corev1.Pod
	for i := range 10000 {
		pods = append(pods, testPod(fmt.Sprint("pod-", i), "main"))
	}
	u := told(started, 0.5, pods...)
	b.Run("put", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			u.Time = u.Time.Add(core.UsageInterval)
			table.Put("n1", u)
		}
	})
	u.Time = u.Time.Add(core.UsageInterval)
	table.Put("n1", u)
	b.Run("list", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for _, p := range pods {
				table.PodMetrics(p)
			}
		}
	})
}
