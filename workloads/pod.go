package workloads

import (
	"maps"
	"math/rand/v2"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
)

const (
	// maxBase is the longest name before a suffix: a pod's name is also its
	// host name, of at most 63 characters.
	maxBase      = 63 - suffixLength
	suffixLength = 5
	// safeAlphabet has no vowels and no digits that look like letters, so that
	// no name spells a word.
	safeAlphabet = "bcdfghjklmnpqrstvwxz2456789"
	// nameStream keeps names apart from other uses of the same seed.
	nameStream = 0x6e616d65
)

// PodFromTemplate returns a new pod of namespace made by template: its labels,
// annotations, finalizers and spec, copied. It has no name and no owner yet.
func PodFromTemplate(namespace string, template *corev1.PodTemplateSpec) *corev1.Pod {
	return &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace:   namespace,
			Labels:      cloneMap(template.Labels),
			Annotations: cloneMap(template.Annotations),
			Finalizers:  slices.Clone(template.Finalizers),
		},
		Spec: *template.Spec.DeepCopy(),
	}
}

// cloneMap always returns a map that can be written to.
func cloneMap(m map[string]string) map[string]string {
	c := make(map[string]string, len(m)+2)
	maps.Copy(c, m)
	return c
}

// Namer draws the names of new children as the API server does for
// generateName, but from a decision's seed: a decision that is made again
// gives the same names, so creating them again finds them there and doubles
// nothing.
type Namer struct {
	random *rand.Rand
	taken  map[string]struct{}
}

// NewNamer returns a Namer that avoids the names of the children seen and
// those whose creation was refused (a stranger may hold such a name). Draw all
// names of a decision from one Namer.
func NewNamer(seen core.Observation) *Namer {
	n := &Namer{
		random: rand.New(rand.NewPCG(seen.Seed, nameStream)),
		taken:  make(map[string]struct{}, len(seen.Children)+len(seen.Failures)),
	}
	for _, child := range seen.Children {
		n.taken[child.GetName()] = struct{}{}
	}
	for _, f := range seen.Failures {
		if f.Verb == "create" {
			n.taken[f.Name] = struct{}{}
		}
	}
	return n
}

// Name returns a free name that begins with base, usually "<parent>-". A base
// that would make the name too long is cut, as the API server does.
func (n *Namer) Name(base string) string {
	base = base[:min(len(base), maxBase)]
	for {
		name := base + n.suffix()
		if _, taken := n.taken[name]; !taken {
			n.taken[name] = struct{}{}
			return name
		}
	}
}

func (n *Namer) suffix() string {
	var b [suffixLength]byte
	for i := range b {
		b[i] = safeAlphabet[n.random.IntN(len(safeAlphabet))]
	}
	return string(b[:])
}

// DeletePod returns the deletion of pod for reason, which is shown by plan.
func DeletePod(pod *corev1.Pod, reason string) core.Deletion {
	return core.Deletion{Key: core.KeyFor(core.Pods, pod), UID: pod.UID, Reason: reason}
}

// Pods returns the pods among objects, in their order.
func Pods(objects []core.Object) []*corev1.Pod {
	pods := make([]*corev1.Pod, 0, len(objects))
	for _, object := range objects {
		if pod, ok := object.(*corev1.Pod); ok {
			pods = append(pods, pod)
		}
	}
	return pods
}
