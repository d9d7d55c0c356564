package scheduler

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
)

// State is what placement knows of nodes: what each offers and what the pods
// bound to it take. It is not safe for concurrent use; Place does not change
// it.
type State struct {
	nodes []*node // by name
	index map[string]int
	pods  map[types.UID]bound
	// loose holds the pods bound to nodes that are not there.
	loose map[string]map[types.UID]*corev1.Pod
}

// node is one node. The object is shared; usage belongs to the State.
type node struct {
	object      *corev1.Node
	allocatable amounts
	usage       usage
}

// usage is what bound pods take of a node.
type usage struct {
	requested amounts
	// scored is requested with a default for containers that ask for
	// nothing, so that these spread too.
	scored amounts
	ports  []hostPort
	// owners counts the pods of each controller.
	owners map[types.UID]int32
}

// bound is a pod on a node.
type bound struct {
	node  string
	pod   *corev1.Pod
	needs needs
}

// needs is what placement reads of a pod, parsed once.
type needs struct {
	requests amounts
	scored   amounts
	ports    []hostPort
	owner    types.UID
}

// What a pod without requests counts as when nodes are compared, as in
// Kubernetes: a tenth of a CPU and 200 MiB.
const (
	defaultCPU    = 100
	defaultMemory = 200 << 20
)

func needsOf(pod *corev1.Pod) needs {
	n := needs{requests: requestsOf(pod), ports: portsOf(pod)}
	n.scored = amounts{cpu: cmp.Or(n.requests.cpu, defaultCPU), memory: cmp.Or(n.requests.memory, defaultMemory)}
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
		n.owner = owner.UID
	}
	return n
}

// NewState returns the state of a snapshot; nil gives an empty one.
func NewState(snapshot core.Snapshot) *State {
	s := &State{index: map[string]int{}, pods: map[types.UID]bound{}, loose: map[string]map[types.UID]*corev1.Pod{}}
	if snapshot == nil {
		return s
	}
	for _, o := range snapshot.List(core.Nodes, "") {
		if n, ok := o.(*corev1.Node); ok {
			s.SetNode(n)
		}
	}
	for _, o := range snapshot.List(core.Pods, "") {
		if pod, ok := o.(*corev1.Pod); ok {
			s.SetPod(pod)
		}
	}
	return s
}

// SetNode adds or replaces a node. It returns whether anything that matters
// to placement has changed.
func (s *State) SetNode(object *corev1.Node) bool {
	if i, ok := s.index[object.Name]; ok {
		old := s.nodes[i]
		changed := !sameNode(old.object, object)
		old.object = object
		if changed {
			old.allocatable = parse(object.Status.Allocatable)
		}
		return changed
	}
	n := &node{object: object, allocatable: parse(object.Status.Allocatable)}
	at, _ := slices.BinarySearchFunc(s.nodes, object.Name, func(n *node, name string) int { return cmp.Compare(n.object.Name, name) })
	s.nodes = slices.Insert(s.nodes, at, n)
	s.reindex(at)
	pods := s.loose[object.Name]
	delete(s.loose, object.Name)
	for _, pod := range pods {
		s.assume(pod, object.Name)
	}
	return true
}

func sameNode(a, b *corev1.Node) bool {
	return a.Spec.Unschedulable == b.Spec.Unschedulable && maps.Equal(a.Labels, b.Labels) &&
		slices.EqualFunc(a.Spec.Taints, b.Spec.Taints, func(x, y corev1.Taint) bool {
			return x.Key == y.Key && x.Value == y.Value && x.Effect == y.Effect
		}) && equality.Semantic.DeepEqual(a.Status.Allocatable, b.Status.Allocatable)
}

func (s *State) reindex(from int) {
	for i := from; i < len(s.nodes); i++ {
		s.index[s.nodes[i].object.Name] = i
	}
}

// RemoveNode forgets a node. The pods on it count again if it comes back.
func (s *State) RemoveNode(name string) {
	i, ok := s.index[name]
	if !ok {
		return
	}
	s.nodes = slices.Delete(s.nodes, i, i+1)
	delete(s.index, name)
	s.reindex(i)
	for uid, b := range s.pods {
		if b.node == name {
			delete(s.pods, uid)
			s.loosen(name, b.pod)
		}
	}
}

// SetPod counts a pod where it is bound; one that has ended or is not bound
// counts nowhere. It returns whether room became free.
func (s *State) SetPod(pod *corev1.Pod) (freed bool) {
	name := pod.Spec.NodeName
	if name == "" || ended(pod) {
		return s.RemovePod(pod)
	}
	if was, ok := s.pods[pod.UID]; ok {
		if was.node == name {
			return false // requests of a bound pod do not change
		}
		s.take(was, pod.UID)
	}
	return s.assume(pod, name)
}

// assume counts a pod on a node; no room becomes free by that.
func (s *State) assume(pod *corev1.Pod, name string) (freed bool) {
	i, ok := s.index[name]
	if !ok {
		s.loosen(name, pod)
		return false
	}
	b := bound{node: name, pod: pod, needs: needsOf(pod)}
	s.pods[pod.UID] = b
	s.nodes[i].usage.add(&b.needs)
	return false
}

func (s *State) loosen(name string, pod *corev1.Pod) {
	if s.loose[name] == nil {
		s.loose[name] = map[types.UID]*corev1.Pod{}
	}
	s.loose[name][pod.UID] = pod
}

// RemovePod forgets a pod. It returns whether room became free.
func (s *State) RemovePod(pod *corev1.Pod) bool {
	// One that was only assumed to be bound does not say where.
	for name, on := range s.loose {
		if delete(on, pod.UID); len(on) == 0 {
			delete(s.loose, name)
		}
	}
	b, ok := s.pods[pod.UID]
	if ok {
		s.take(b, pod.UID)
	}
	return ok
}

func (s *State) take(b bound, uid types.UID) {
	delete(s.pods, uid)
	if i, ok := s.index[b.node]; ok {
		s.nodes[i].usage.remove(&b.needs)
	}
}

func (s *State) names() []string {
	names := make([]string, len(s.nodes))
	for i, n := range s.nodes {
		names[i] = n.object.Name
	}
	return names
}

// Nodes returns how many nodes there are.
func (s *State) Nodes() int { return len(s.nodes) }

func (u *usage) add(n *needs) {
	u.requested.add(&n.requests)
	u.scored.add(&n.scored)
	u.ports = append(u.ports, n.ports...)
	if n.owner != "" {
		if u.owners == nil {
			u.owners = map[types.UID]int32{}
		}
		u.owners[n.owner]++
	}
}

func (u *usage) remove(n *needs) {
	u.requested.sub(&n.requests)
	u.scored.sub(&n.scored)
	for _, port := range n.ports {
		if i := slices.Index(u.ports, port); i >= 0 {
			u.ports = slices.Delete(u.ports, i, i+1)
		}
	}
	if n.owner == "" {
		return
	}
	if u.owners[n.owner]--; u.owners[n.owner] <= 0 {
		delete(u.owners, n.owner)
	}
}

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}
