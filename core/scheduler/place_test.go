package scheduler

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func testNode(name, cpu, memory string, pods int64, change ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}},
		Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
			corev1.ResourcePods: *resource.NewQuantity(pods, resource.DecimalSI),
		}},
	}
	for _, f := range change {
		f(n)
	}
	return n
}

func tainted(key, value string, effect corev1.TaintEffect) func(*corev1.Node) {
	return func(n *corev1.Node) {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Value: value, Effect: effect})
	}
}

func testPod(name, cpu, memory string, change ...func(*corev1.Pod)) *corev1.Pod {
	requests := corev1.ResourceList{}
	if cpu != "" {
		requests[corev1.ResourceCPU] = resource.MustParse(cpu)
	}
	if memory != "" {
		requests[corev1.ResourceMemory] = resource.MustParse(memory)
	}
	p := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name)},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Resources: corev1.ResourceRequirements{Requests: requests}}}},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func stateOf(nodes []*corev1.Node, pods ...*corev1.Pod) *State {
	s := NewState(nil)
	for _, n := range nodes {
		s.SetNode(n)
	}
	for _, p := range pods {
		s.SetPod(p)
	}
	return s
}

func on(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }

func TestPlaceSaysWhy(t *testing.T) {
	three := []*corev1.Node{
		testNode("a", "1", "1Gi", 10, tainted("k", "v", corev1.TaintEffectNoSchedule)),
		testNode("b", "1", "1Gi", 10), testNode("c", "1", "1Gi", 10),
	}
	for name, test := range map[string]struct {
		nodes []*corev1.Node
		bound []*corev1.Pod
		pod   *corev1.Pod
		want  string
	}{
		"none":          {nil, nil, testPod("p", "", ""), "no nodes available to schedule pods"},
		"taint and cpu": {three, nil, testPod("p", "2", ""), "0/3 nodes are available: 1 node(s) had untolerated taint {k: v}, 2 Insufficient cpu."},
		"two reasons":   {three[1:], nil, testPod("p", "2", "2Gi"), "0/2 nodes are available: 2 Insufficient cpu, 2 Insufficient memory."},
		"cordoned": {[]*corev1.Node{testNode("a", "1", "1Gi", 1, func(n *corev1.Node) { n.Spec.Unschedulable = true })}, nil, testPod("p", "", ""),
			"0/1 nodes are available: 1 node(s) were unschedulable."},
		"full": {[]*corev1.Node{testNode("a", "1", "1Gi", 1)}, []*corev1.Pod{testPod("o", "", "", on("a"))}, testPod("p", "", ""),
			"0/1 nodes are available: 1 Too many pods."},
		"selector": {three[1:], nil, testPod("p", "", "", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} }),
			"0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."},
		"extended": {three[2:], nil, testPod("p", "", "", func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests["weft.run/gpu"] = resource.MustParse("1")
		}), "0/1 nodes are available: 1 Insufficient weft.run/gpu."},
		"port": {three[2:], []*corev1.Pod{testPod("o", "", "", on("c"), withPort(80))}, testPod("p", "", "", withPort(80)),
			"0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."},
		"bound ones count": {three[2:], []*corev1.Pod{testPod("o", "800m", "", on("c"))}, testPod("p", "300m", ""),
			"0/1 nodes are available: 1 Insufficient cpu."},
		"init containers count": {three[2:], nil, testPod("p", "100m", "", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3")}}}}
		}), "0/1 nodes are available: 1 Insufficient cpu."},
	} {
		t.Run(name, func(t *testing.T) {
			got := Place([]*corev1.Pod{test.pod}, stateOf(test.nodes, test.bound...))
			if got[0].Node != "" || got[0].Message != test.want {
				t.Errorf("node %q\n got: %s\nwant: %s", got[0].Node, got[0].Message, test.want)
			}
		})
	}
}

func withPort(port int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: port}} }
}

func TestPlaceChooses(t *testing.T) {
	labelled := func(key, value string) func(*corev1.Node) {
		return func(n *corev1.Node) { n.Labels[key] = value }
	}
	affinity := func(op corev1.NodeSelectorOperator, values ...string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "size", Operator: op, Values: values}}}},
			}}}
		}
	}
	nodes := []*corev1.Node{
		testNode("a", "4", "4Gi", 10, labelled("size", "1")),
		testNode("b", "8", "8Gi", 10, labelled("size", "5")),
		testNode("c", "4", "4Gi", 10, tainted("x", "", corev1.TaintEffectNoExecute)),
		testNode("d", "64", "64Gi", 10, labelled("size", "9"), tainted("y", "", corev1.TaintEffectPreferNoSchedule)),
	}
	for name, test := range map[string]struct {
		change func(*corev1.Pod)
		want   string
	}{
		"most room that is not to be avoided": {func(*corev1.Pod) {}, "b"},
		"in":                                  {affinity(corev1.NodeSelectorOpIn, "1", "2"), "a"},
		"greater":                             {affinity(corev1.NodeSelectorOpGt, "6"), "d"},
		"less":                                {affinity(corev1.NodeSelectorOpLt, "3"), "a"},
		"not there, tolerated": {func(p *corev1.Pod) {
			affinity(corev1.NodeSelectorOpDoesNotExist)(p)
			p.Spec.Tolerations = []corev1.Toleration{{Key: "x", Operator: corev1.TolerationOpExists}}
		}, "c"},
	} {
		t.Run(name, func(t *testing.T) {
			got := Place([]*corev1.Pod{testPod("p", "1", "1Gi", test.change)}, stateOf(nodes))
			if got[0].Node != test.want {
				t.Errorf("got %+v, want %s", got[0], test.want)
			}
		})
	}
}

func TestPlaceSpreadsRepeatsItselfAndChangesNothing(t *testing.T) {
	nodes := []*corev1.Node{testNode("a", "10", "10Gi", 100), testNode("b", "10", "10Gi", 100), testNode("c", "10", "10Gi", 100)}
	yes := true
	var pods []*corev1.Pod
	for i := range 30 {
		pods = append(pods, testPod(fmt.Sprint(i), "", "", func(p *corev1.Pod) {
			p.OwnerReferences = []metav1.OwnerReference{{UID: "rs", Controller: &yes}}
		}))
	}
	s := stateOf(nodes)
	first := Place(pods, s)
	count := map[string]int{}
	for _, p := range first {
		count[p.Node]++
	}
	if diff := cmp.Diff(map[string]int{"a": 10, "b": 10, "c": 10}, count); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(first, Place(pods, s)); diff != "" {
		t.Errorf("placed otherwise the second time: %s", diff)
	}
}

// No node is ever given more than it has, whatever the pods ask for, and no
// pod waits that would still fit.
func TestPlaceNeverOverfills(t *testing.T) {
	nodes := []*corev1.Node{testNode("a", "3", "3Gi", 7), testNode("b", "5", "2Gi", 9)}
	var pods []*corev1.Pod
	for i := range 40 {
		pods = append(pods, testPod(fmt.Sprint(i), fmt.Sprintf("%dm", i*37%700), fmt.Sprintf("%dMi", i*53%400)))
	}
	s := stateOf(nodes)
	var waiting []*corev1.Pod
	for _, p := range Place(pods, s) {
		if p.Node == "" {
			waiting = append(waiting, p.Pod)
			continue
		}
		s.assume(p.Pod, p.Node)
	}
	for _, n := range s.nodes {
		if r := n.usage.requested; r.cpu > n.allocatable.cpu || r.memory > n.allocatable.memory || r.pods > n.allocatable.pods {
			t.Errorf("%s has %+v of %+v", n.object.Name, r, n.allocatable)
		}
	}
	for _, p := range Place(waiting, s) {
		if p.Node != "" {
			t.Errorf("%s could have been placed", p.Pod.Name)
		}
	}
}

func TestPlaceHighPriorityFirst(t *testing.T) {
	high := int32(5)
	pods := []*corev1.Pod{
		testPod("early", "1", "", func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(time.Unix(1, 0)) }),
		testPod("late", "1", "", func(p *corev1.Pod) { p.CreationTimestamp, p.Spec.Priority = metav1.NewTime(time.Unix(2, 0)), &high }),
	}
	got := Place(pods, stateOf([]*corev1.Node{testNode("a", "1", "1Gi", 9)}))
	if got[0].Pod.Name != "late" || got[0].Node != "a" || got[1].Node != "" {
		t.Errorf("got %+v", got)
	}
}

func TestStateReturnsToWhatItWas(t *testing.T) {
	s := stateOf([]*corev1.Node{testNode("a", "4", "4Gi", 10)})
	pod := testPod("p", "1", "1Gi", on("a"), withPort(80))
	pod.Spec.Containers[0].Resources.Requests["weft.run/gpu"] = resource.MustParse("1")
	s.SetPod(pod)
	s.RemoveNode("a")
	s.SetNode(testNode("a", "4", "4Gi", 10))
	if got := s.nodes[0].usage.requested.cpu; got != 1000 {
		t.Errorf("a node that comes back has %d in use", got)
	}
	done := pod.DeepCopy()
	done.Status.Phase = corev1.PodSucceeded
	if !s.SetPod(done) {
		t.Error("a pod that ended frees room")
	}
	u := s.nodes[0].usage
	if r := u.requested; r.cpu != 0 || r.memory != 0 || r.pods != 0 || r.extended["weft.run/gpu"] != 0 || len(u.ports) != 0 || len(s.pods) != 0 {
		t.Errorf("left: %+v", u)
	}
}

func benchmarkPlace(b *testing.B, podCount, nodeCount int) {
	var nodes []*corev1.Node
	for i := range nodeCount {
		nodes = append(nodes, testNode(fmt.Sprintf("node-%03d", i), "1000", "1000Gi", 100000))
	}
	var pods []*corev1.Pod
	for i := range podCount {
		pods = append(pods, testPod(fmt.Sprintf("pod-%05d", i), "10m", "16Mi"))
	}
	s := stateOf(nodes)
	b.ReportAllocs()
	for b.Loop() {
		if got := Place(pods, s); got[0].Node == "" {
			b.Fatal(got[0].Message)
		}
	}
}

func BenchmarkPlace1000On100(b *testing.B)  { benchmarkPlace(b, 1000, 100) }
func BenchmarkPlace10000On5(b *testing.B)   { benchmarkPlace(b, 10000, 5) }
func BenchmarkPlace1000On5000(b *testing.B) { benchmarkPlace(b, 1000, 5000) }

// A pod whose node goes while it is being bound, and that is then not bound,
// must count nowhere when the node is back.
func TestStateForgetsWhatWasOnlyAssumed(t *testing.T) {
	s := stateOf([]*corev1.Node{testNode("a", "4", "4Gi", 10)})
	pod := testPod("p", "1", "1Gi")
	s.assume(pod, "a")
	s.RemoveNode("a")
	s.SetPod(pod) // it is bound nowhere
	s.SetNode(testNode("a", "4", "4Gi", 10))
	if got := s.nodes[0].usage.requested.cpu; got != 0 {
		t.Errorf("the node has %d in use", got)
	}
}
