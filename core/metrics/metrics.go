// Package metrics keeps what nodes say that they and their pods use, the two
// newest samples of each, and makes of it what the API metrics.k8s.io answers.
// It must not ask nodes, and keeps nothing durably.
package metrics

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/weftrun/weft/core"
)

// How old a sample may be.
const (
	// staleAfter is when what a node said does not count any more.
	staleAfter = time.Minute
	// missed is for how long a node tells of others until it is clear that it
	// left a pod out: a sample comes in parts.
	missed = core.UsageInterval * 3 / 2
	// forgetAfter is when a node that says nothing is forgotten.
	forgetAfter = 10 * time.Minute
)

// podsMax bounds the pods that one node can have kept.
const podsMax = 200_000

// Table holds what is used. Its zero value is empty, and its methods may be
// called concurrently.
type Table struct {
	mu    sync.RWMutex // guards what follows
	nodes map[string]*node
}

type node struct {
	own  series
	seen time.Time // by this process's clock, as are the others
	pods map[types.UID]*pod
}

type pod struct {
	seen       time.Time
	containers []container
}

type container struct {
	name string
	series
}

// Put takes in what a node uses, or a part of that.
func (t *Table) Put(name string, u core.NodeUsage) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.nodes[name]
	if n == nil {
		if t.nodes == nil {
			t.nodes = map[string]*node{}
		}
		n = &node{pods: map[types.UID]*pod{}}
		t.nodes[name] = n
	}
	if !n.own.last.time.Equal(u.Time) { // the first part
		t.forget(n, now)
	}
	n.seen = now
	n.own.add(u.Time, u.Node)
	for i := range u.Pods {
		n.put(&u.Pods[i], u.Time, now)
	}
}

// forget drops what was not heard of for long.
func (t *Table) forget(n *node, now time.Time) {
	for uid, p := range n.pods {
		if now.Sub(p.seen) > staleAfter {
			delete(n.pods, uid)
		}
	}
	for name, other := range t.nodes {
		if other != n && now.Sub(other.seen) > forgetAfter {
			delete(t.nodes, name)
		}
	}
}

func (n *node) put(u *core.PodUsage, at, now time.Time) {
	p := n.pods[u.UID]
	if p == nil {
		if len(n.pods) >= podsMax {
			return
		}
		p = &pod{}
		n.pods[u.UID] = p
	}
	p.seen = now
	containers := make([]container, 0, len(u.Containers))
	for i := range u.Containers {
		c := container{name: u.Containers[i].Name}
		for j := range p.containers {
			if p.containers[j].name == c.name {
				c.series = p.containers[j].series
			}
		}
		c.add(at, u.Containers[i].Usage)
		containers = append(containers, c)
	}
	p.containers = containers
}

// PodMetrics returns what the containers of a pod use, nil if that is not
// known yet, or not of each that runs. The caller owns it.
func (t *Table) PodMetrics(p *corev1.Pod) *metricsv1beta1.PodMetrics {
	now := time.Now()
	t.mu.RLock()
	defer t.mu.RUnlock()
	used := t.pod(p, now)
	if used == nil {
		return nil
	}
	m := &metricsv1beta1.PodMetrics{
		TypeMeta: metav1.TypeMeta{APIVersion: metricsv1beta1.SchemeGroupVersion.String(), Kind: "PodMetrics"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: p.Namespace, Name: p.Name, Labels: p.Labels, CreationTimestamp: metav1.NewTime(now),
		},
	}
	for i := range used.containers {
		c := &used.containers[i]
		if !declares(p, c.name) {
			continue
		}
		cpu, window, ok := c.rate()
		if !ok {
			return nil
		}
		m.Containers = append(m.Containers, metricsv1beta1.ContainerMetrics{Name: c.name, Usage: resources(cpu, c.last.used.MemoryBytes)})
		m.Timestamp = metav1.NewTime(c.last.time)
		m.Window.Duration = max(m.Window.Duration, window)
	}
	if len(m.Containers) == 0 {
		return nil
	}
	return m
}

// pod returns what is kept of a pod, if that is fresh. The caller holds the
// lock. What another node says of the pod does not count.
func (t *Table) pod(p *corev1.Pod, now time.Time) *pod {
	n := t.nodes[p.Spec.NodeName]
	if n == nil {
		return nil
	}
	used := n.pods[p.UID]
	// A pod in which nothing runs any more is in no sample that followed.
	if used == nil || now.Sub(used.seen) > staleAfter || n.seen.Sub(used.seen) > missed {
		return nil
	}
	return used
}

func declares(p *corev1.Pod, name string) bool {
	for _, list := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return true
			}
		}
	}
	return false
}

// NodeMetrics returns what a node's processes use, nil if that is not known.
// The caller owns it.
func (t *Table) NodeMetrics(o *corev1.Node) *metricsv1beta1.NodeMetrics {
	now := time.Now()
	t.mu.RLock()
	defer t.mu.RUnlock()
	n := t.nodes[o.Name]
	if n == nil || now.Sub(n.seen) > staleAfter {
		return nil
	}
	cpu, window, ok := n.own.rate()
	if !ok {
		return nil
	}
	return &metricsv1beta1.NodeMetrics{
		TypeMeta:   metav1.TypeMeta{APIVersion: metricsv1beta1.SchemeGroupVersion.String(), Kind: "NodeMetrics"},
		ObjectMeta: metav1.ObjectMeta{Name: o.Name, Labels: o.Labels, CreationTimestamp: metav1.NewTime(now)},
		Timestamp:  metav1.NewTime(n.own.last.time), Window: metav1.Duration{Duration: window},
		Usage: resources(cpu, n.own.last.used.MemoryBytes),
	}
}

// resources are quantities as Kubernetes' metrics-server writes them.
func resources(nanocores, memory int64) corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewScaledQuantity(nanocores, resource.Nano),
		corev1.ResourceMemory: *resource.NewQuantity(memory, resource.BinarySI),
	}
}
