package scheduler

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
)

// amounts holds quantities of resources as plain numbers: CPU in thousandths,
// memory and storage in bytes, the rest in units.
type amounts struct {
	cpu, memory, ephemeral int64
	// pods is how many pods.
	pods int64
	// extended holds all other resources; nil when there are none. It is
	// shared and never changed in place.
	extended map[string]int64
}

func (a *amounts) add(b *amounts) { a.combine(b, 1) }
func (a *amounts) sub(b *amounts) { a.combine(b, -1) }

func (a *amounts) combine(b *amounts, sign int64) {
	a.cpu += sign * b.cpu
	a.memory += sign * b.memory
	a.ephemeral += sign * b.ephemeral
	a.pods += sign * b.pods
	if len(b.extended) == 0 {
		return
	}
	sum := make(map[string]int64, len(a.extended)+len(b.extended))
	maps.Copy(sum, a.extended)
	for name, n := range b.extended {
		sum[name] += sign * n
	}
	a.extended = sum
}

// raise makes each amount at least that of b.
func (a *amounts) raise(b *amounts) {
	a.cpu, a.memory, a.ephemeral = max(a.cpu, b.cpu), max(a.memory, b.memory), max(a.ephemeral, b.ephemeral)
	if len(b.extended) == 0 {
		return
	}
	higher := make(map[string]int64, len(a.extended)+len(b.extended))
	maps.Copy(higher, a.extended)
	for name, n := range b.extended {
		higher[name] = max(higher[name], n)
	}
	a.extended = higher
}

func parse(list corev1.ResourceList) amounts {
	var a amounts
	for name, quantity := range list {
		switch name {
		case corev1.ResourceCPU:
			a.cpu = quantity.MilliValue()
		case corev1.ResourceMemory:
			a.memory = quantity.Value()
		case corev1.ResourceEphemeralStorage:
			a.ephemeral = quantity.Value()
		case corev1.ResourcePods:
			a.pods = quantity.Value()
		default:
			if a.extended == nil {
				a.extended = map[string]int64{}
			}
			a.extended[string(name)] = quantity.Value()
		}
	}
	return a
}

// requestsOf is what a pod takes of a node: what its containers ask for
// together, or more while one of its init containers runs, and its overhead.
// Init containers that go on running (sidecars) count with the containers,
// and with the init containers after them. Requests of the pod as a whole
// replace the sum.
func requestsOf(pod *corev1.Pod) amounts {
	var total, sidecars, initial amounts
	for i := range pod.Spec.Containers {
		a := parse(pod.Spec.Containers[i].Resources.Requests)
		total.add(&a)
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		a := parse(c.Resources.Requests)
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			total.add(&a)
			sidecars.add(&a)
			initial.raise(&sidecars)
			continue
		}
		a.add(&sidecars)
		initial.raise(&a)
	}
	total.raise(&initial)
	if whole := pod.Spec.Resources; whole != nil {
		if _, ok := whole.Requests[corev1.ResourceCPU]; ok {
			total.cpu = whole.Requests.Cpu().MilliValue()
		}
		if _, ok := whole.Requests[corev1.ResourceMemory]; ok {
			total.memory = whole.Requests.Memory().Value()
		}
	}
	if len(pod.Spec.Overhead) > 0 {
		a := parse(pod.Spec.Overhead)
		total.add(&a)
	}
	total.pods = 1
	return total
}

// hostPort is a port of the node that a pod asks for.
type hostPort struct {
	protocol corev1.Protocol
	ip       string
	port     int32
}

// clashes tells whether two pods cannot have both.
func (p hostPort) clashes(o hostPort) bool {
	return p.port == o.port && p.protocol == o.protocol && (p.ip == o.ip || p.ip == anyAddress || o.ip == anyAddress)
}

const anyAddress = "0.0.0.0"

func portsOf(pod *corev1.Pod) []hostPort {
	var ports []hostPort
	for i := range pod.Spec.Containers {
		for _, p := range pod.Spec.Containers[i].Ports {
			if p.HostPort == 0 {
				continue
			}
			port := hostPort{protocol: p.Protocol, ip: p.HostIP, port: p.HostPort}
			if port.protocol == "" {
				port.protocol = corev1.ProtocolTCP
			}
			if port.ip == "" {
				port.ip = anyAddress
			}
			ports = append(ports, port)
		}
	}
	return ports
}
