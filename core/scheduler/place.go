package scheduler

import (
	"cmp"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Placement says where a pod goes, or why nowhere.
type Placement struct {
	Pod *corev1.Pod
	// Node is empty if the pod must wait.
	Node string
	// Message tells why, in Kubernetes' words.
	Message string
}

// enough is how many suitable nodes are compared at most; the search begins
// at another node for each pod.
const enough = 128

// Place chooses nodes for pods: those of higher priority first, then those
// that wait longer. Each takes room from the next. It is a pure function: the
// same arguments give the same placements, in the order in which they were
// decided. Pods that are gated, bound or ended must not be among them.
func Place(pods []*corev1.Pod, state *State) []Placement {
	pods = slices.Clone(pods)
	slices.SortFunc(pods, before)
	p := newPlacer(state)
	result := make([]Placement, 0, len(pods))
	for _, pod := range pods {
		result = append(result, p.place(pod))
	}
	return result
}

func before(a, b *corev1.Pod) int {
	return cmp.Or(
		-cmp.Compare(priority(a), priority(b)),
		a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
		cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name),
	)
}

func priority(pod *corev1.Pod) int32 {
	if pod.Spec.Priority == nil {
		return 0
	}
	return *pod.Spec.Priority
}

// placer holds the room that is left while pods are placed one by one.
type placer struct {
	state *State
	room  []usage // of each node; its map and ports are copied when first changed
	owned []bool  // whether they are
	// scratch, used anew for each pod
	candidates []candidate
}

// candidate is a suitable node with what its score is made of.
type candidate struct {
	at             int
	free           int64 // 0 to 100
	avoided        int64
	preferred      int64
	siblings, pods int64
}

func newPlacer(s *State) *placer {
	p := &placer{state: s, room: make([]usage, len(s.nodes)), owned: make([]bool, len(s.nodes))}
	for i, n := range s.nodes {
		p.room[i] = n.usage
	}
	return p
}

func (p *placer) place(pod *corev1.Pod) Placement {
	if len(p.state.nodes) == 0 {
		return Placement{Pod: pod, Message: "no nodes available to schedule pods"}
	}
	need, seed := needsOf(pod), seedOf(pod)
	p.candidates = p.candidates[:0]
	count := len(p.state.nodes)
	start := int(seed % uint64(count))
	for i := 0; i < count && len(p.candidates) < enough; i++ {
		if at := (start + i) % count; p.fits(pod, &need, at) {
			p.candidates = append(p.candidates, p.weigh(pod, &need, at))
		}
	}
	if len(p.candidates) == 0 {
		return Placement{Pod: pod, Message: p.explain(pod, &need)}
	}
	at := p.best(seed)
	p.use(at, &need)
	return Placement{Pod: pod, Node: p.state.nodes[at].object.Name}
}

// fits is the quick form of why.
func (p *placer) fits(pod *corev1.Pod, need *needs, at int) bool {
	n, room := p.state.nodes[at], &p.room[at]
	return room.fits(&n.allocatable, &need.requests) && allows(pod, n.object) && room.portsFree(need.ports)
}

// allows tells whether the node takes the pod as far as it does not depend on
// room.
func allows(pod *corev1.Pod, object *corev1.Node) bool {
	if object.Spec.Unschedulable && !tolerates(pod.Spec.Tolerations, &unschedulable) {
		return false
	}
	return (len(object.Spec.Taints) == 0 || untolerated(pod.Spec.Tolerations, object.Spec.Taints) == nil) && matchesNode(&pod.Spec, object)
}

var unschedulable = corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}

func (u *usage) fits(allocatable, r *amounts) bool {
	if u.requested.pods+1 > allocatable.pods ||
		(r.cpu > 0 && r.cpu > allocatable.cpu-u.requested.cpu) ||
		(r.memory > 0 && r.memory > allocatable.memory-u.requested.memory) ||
		(r.ephemeral > 0 && r.ephemeral > allocatable.ephemeral-u.requested.ephemeral) {
		return false
	}
	for name, n := range r.extended {
		if n > 0 && n > allocatable.extended[name]-u.requested.extended[name] {
			return false
		}
	}
	return true
}

func (u *usage) portsFree(ports []hostPort) bool {
	for _, port := range ports {
		if slices.ContainsFunc(u.ports, port.clashes) {
			return false
		}
	}
	return true
}

func (p *placer) weigh(pod *corev1.Pod, need *needs, at int) candidate {
	n, room := p.state.nodes[at], &p.room[at]
	return candidate{
		at:        at,
		free:      (free(n.allocatable.cpu, room.scored.cpu+need.scored.cpu) + free(n.allocatable.memory, room.scored.memory+need.scored.memory)) / 2,
		avoided:   avoided(pod.Spec.Tolerations, n.object.Spec.Taints),
		preferred: preference(&pod.Spec, n.object),
		siblings:  int64(room.owners[need.owner]),
		pods:      room.requested.pods,
	}
}

// free is the share of what would be left, from 0 to 100.
func free(allocatable, used int64) int64 {
	if allocatable <= 0 || used >= allocatable {
		return 0
	}
	return (allocatable - used) * 100 / allocatable
}

// Weights of what makes a node better, those of Kubernetes where it has them.
const (
	weightFree      = 1
	weightSiblings  = 2
	weightPreferred = 2
	weightAvoided   = 3
)

// best returns the node of the candidate with the highest score; among equals
// the one with fewest pods, then the one that the seed favours.
func (p *placer) best(seed uint64) int {
	var most candidate
	for i := range p.candidates {
		c := &p.candidates[i]
		most.avoided, most.preferred = max(most.avoided, c.avoided), max(most.preferred, c.preferred)
		most.siblings = max(most.siblings, c.siblings)
	}
	chosen, high, luck := -1, int64(-1), uint64(0)
	for i := range p.candidates {
		c := &p.candidates[i]
		score := weightFree*c.free + weightSiblings*inverse(c.siblings, most.siblings) +
			weightAvoided*inverse(c.avoided, most.avoided) + weightPreferred*share(c.preferred, most.preferred)
		l := mix(seed + uint64(c.at))
		better := score > high
		if score == high {
			fewer := cmp.Compare(c.pods, p.candidates[chosen].pods)
			better = fewer < 0 || (fewer == 0 && l > luck)
		}
		if better {
			chosen, high, luck = i, score, l
		}
	}
	return p.candidates[chosen].at
}

func share(n, most int64) int64 {
	if most == 0 {
		return 0
	}
	return 100 * n / most
}

func inverse(n, most int64) int64 {
	if most == 0 {
		return 100
	}
	return 100 - 100*n/most
}

func (p *placer) use(at int, need *needs) {
	room := &p.room[at]
	if !p.owned[at] {
		p.owned[at] = true
		room.owners, room.ports = maps.Clone(room.owners), slices.Clone(room.ports)
	}
	room.add(need)
}

// explain says why no node will do, as Kubernetes does: the reasons with the
// number of nodes, ordered as text.
func (p *placer) explain(pod *corev1.Pod, need *needs) string {
	reasons := map[string]int{}
	for at := range p.state.nodes {
		for _, reason := range p.why(pod, need, at) {
			reasons[reason]++
		}
	}
	lines := make([]string, 0, len(reasons))
	for reason, n := range reasons {
		lines = append(lines, strconv.Itoa(n)+" "+reason)
	}
	slices.Sort(lines)
	return "0/" + strconv.Itoa(len(p.state.nodes)) + " nodes are available: " + strings.Join(lines, ", ") + "."
}

// why returns what the first filter that refuses the node has against it.
func (p *placer) why(pod *corev1.Pod, need *needs, at int) []string {
	n, room := p.state.nodes[at], &p.room[at]
	if n.object.Spec.Unschedulable && !tolerates(pod.Spec.Tolerations, &unschedulable) {
		return []string{"node(s) were unschedulable"}
	}
	if taint := untolerated(pod.Spec.Tolerations, n.object.Spec.Taints); taint != nil {
		return []string{"node(s) had untolerated taint {" + taint.Key + ": " + taint.Value + "}"}
	}
	if !matchesNode(&pod.Spec, n.object) {
		return []string{"node(s) didn't match Pod's node affinity/selector"}
	}
	if !room.portsFree(need.ports) {
		return []string{"node(s) didn't have free ports for the requested pod ports"}
	}
	return room.lacks(&n.allocatable, &need.requests)
}

func (u *usage) lacks(allocatable, r *amounts) (reasons []string) {
	if u.requested.pods+1 > allocatable.pods {
		reasons = append(reasons, "Too many pods")
	}
	if r.cpu > 0 && r.cpu > allocatable.cpu-u.requested.cpu {
		reasons = append(reasons, "Insufficient cpu")
	}
	if r.memory > 0 && r.memory > allocatable.memory-u.requested.memory {
		reasons = append(reasons, "Insufficient memory")
	}
	if r.ephemeral > 0 && r.ephemeral > allocatable.ephemeral-u.requested.ephemeral {
		reasons = append(reasons, "Insufficient ephemeral-storage")
	}
	for _, name := range slices.Sorted(maps.Keys(r.extended)) {
		if r.extended[name] > 0 && r.extended[name] > allocatable.extended[name]-u.requested.extended[name] {
			reasons = append(reasons, "Insufficient "+name)
		}
	}
	return reasons
}

// seedOf makes a pod's ties fall differently from another's, and always the
// same way.
func seedOf(pod *corev1.Pod) uint64 {
	id := string(pod.UID)
	if id == "" {
		id = types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}.String()
	}
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(id)) // a hash's Write returns no error
	return sum.Sum64()
}

// mix spreads the bits of x.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return x
}
