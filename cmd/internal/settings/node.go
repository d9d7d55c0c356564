package settings

import (
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
)

var effects = []corev1.TaintEffect{
	corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute,
}

// ParseTaints reads taints in kubectl's form, key=value:Effect or key:Effect.
func ParseTaints(texts []string) ([]corev1.Taint, error) {
	var taints []corev1.Taint
	for _, text := range texts {
		rest, effect, ok := strings.Cut(text, ":")
		key, value, _ := strings.Cut(rest, "=")
		if !ok || !slices.Contains(effects, corev1.TaintEffect(effect)) {
			return nil, fmt.Errorf("%q: key=value:Effect is wanted, with an effect of %v", text, effects)
		}
		if problems := validation.IsQualifiedName(key); len(problems) > 0 {
			return nil, fmt.Errorf("%q: key: %s", text, problems[0])
		}
		if problems := validation.IsValidLabelValue(value); len(problems) > 0 {
			return nil, fmt.Errorf("%q: value: %s", text, problems[0])
		}
		taints = append(taints, corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)})
	}
	return taints, nil
}

// maxExecutors is more than a machine has use for.
const maxExecutors = 256

// NoMemoryCap is the executor_memory, or a plugin's memory, that caps nothing.
const NoMemoryCap = "none"

func (n *Node) validate(bad report) {
	if problems := validation.IsDNS1123Subdomain(n.Name); len(problems) > 0 {
		bad("node.name", "%q: %s", n.Name, problems[0])
	}
	for _, key := range slices.Sorted(maps.Keys(n.Labels)) {
		if problems := validation.IsQualifiedName(key); len(problems) > 0 {
			bad("node.labels."+key, "the key: %s", problems[0])
		}
		if problems := validation.IsValidLabelValue(n.Labels[key]); len(problems) > 0 {
			bad("node.labels."+key, "%q: %s", n.Labels[key], problems[0])
		}
	}
	if _, err := ParseTaints(n.Taints); err != nil {
		bad("node.taints", "%v", err)
	}
	quantity(bad, "node.cpu", n.CPU, "4 or 500m")
	quantity(bad, "node.memory", n.Memory, "2Gi")
	quantity(bad, "node.compiled_limit", n.CompiledLimit, "4Gi")
	if n.Pods <= 0 {
		bad("node.pods", "%d must be positive", n.Pods)
	}
	n.validateExecutors(bad)
}

func (n *Node) validateExecutors(bad report) {
	if n.Executors < 1 || n.Executors > maxExecutors {
		bad("node.executors", "%d is not from 1 to %d", n.Executors, maxExecutors)
	}
	if q, err := resource.ParseQuantity(n.ExecutorMemory); n.ExecutorMemory != NoMemoryCap && (err != nil || q.Value() < minExecutorMemory) {
		bad("node.executor_memory", "%q is neither %s nor a quantity of 64Mi at least", n.ExecutorMemory, NoMemoryCap)
	}
	if g := n.ExecutorCgroup; g != "" && (!path.IsAbs(g) || path.Clean(g) != g) {
		bad("node.executor_cgroup", "%q is no clean path that begins with a slash, such as /weft.slice", g)
	}
}

// minExecutorMemory is in bytes: with less none would start.
const minExecutorMemory = 64 << 20

// mostMemory is the machine's memory less what is to be left to the rest of it.
func mostMemory() string {
	q, err := resource.ParseQuantity(machineMemory())
	if err != nil {
		return NoMemoryCap
	}
	return fmt.Sprintf("%dMi", max(q.Value()/10*9, minExecutorMemory)>>20)
}

// machineMemory reads the machine's memory, or assumes 1 GiB where it cannot.
func machineMemory() string {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return "1Gi"
	}
	for line := range strings.Lines(string(data)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "MemTotal: %d kB", &kib); err == nil {
			return fmt.Sprintf("%dKi", kib)
		}
	}
	return "1Gi"
}
