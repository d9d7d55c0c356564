package settings

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/resource"
)

// minPluginMemory is in bytes: with less not even the built-in one would serve.
const minPluginMemory = 64 << 20

// MemoryLimit returns the bytes that a plugin's process may hold, or 0 for no
// limit.
func (p *Plugins) MemoryLimit() (int64, error) {
	if p.Memory == NoMemoryCap {
		return 0, nil
	}
	q, err := resource.ParseQuantity(p.Memory)
	if err != nil || q.Value() < minPluginMemory {
		return 0, fmt.Errorf("%q is neither %s nor a quantity of 64Mi at least", p.Memory, NoMemoryCap)
	}
	return q.Value(), nil
}
