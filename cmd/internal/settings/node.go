package settings

import (
	"fmt"
	"os"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
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
		taints = append(taints, corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)})
	}
	return taints, nil
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
