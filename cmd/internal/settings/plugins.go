package settings

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
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

// BuiltinKinds are those that Weft's own plugin process can serve.
var BuiltinKinds = []string{"deployment", "job", "replicaset"}

// BuiltinPlugin is the name of that process.
const BuiltinPlugin = "builtin"

func (p *Plugins) validate(bad report) {
	for i, kind := range p.Builtin {
		key := fmt.Sprintf("plugins.builtin[%d]", i)
		if !slices.Contains(BuiltinKinds, kind) {
			bad(key, "%q is not one of %s", kind, strings.Join(BuiltinKinds, ", "))
		} else if slices.Contains(p.Builtin[:i], kind) {
			bad(key, "%q is there twice", kind)
		}
	}
	if p.DecideTimeout <= 0 {
		bad("plugins.decide_timeout", "%s must be positive", p.DecideTimeout)
	}
	if _, err := p.MemoryLimit(); err != nil {
		bad("plugins.memory", "%v", err)
	}
	names := map[string]bool{}
	for i, plugin := range p.Run {
		key := fmt.Sprintf("plugins.run[%d]", i)
		switch {
		case plugin.Name == BuiltinPlugin:
			bad(key+".name", "%q is the plugin of the built-in kinds", plugin.Name)
		case names[plugin.Name]:
			bad(key+".name", "there are two plugins called %q", plugin.Name)
		}
		names[plugin.Name] = plugin.Name != ""
		plugin.validate(bad, key)
	}
}

func (p *Plugin) validate(bad report, key string) {
	if p.Name == "" || p.Command == "" {
		bad(key, "name and command are required")
	}
	for i, variable := range p.Env {
		if name, _, ok := strings.Cut(variable, "="); !ok || name == "" || strings.ContainsRune(variable, 0) {
			bad(fmt.Sprintf("%s.env[%d]", key, i), "%q is not of the form NAME=value", variable)
		}
	}
	for i, kind := range p.Kinds {
		k := schema.ParseGroupResource(kind)
		if len(validation.IsDNS1123Label(k.Resource)) > 0 || len(validation.IsDNS1123Subdomain(k.Group)) > 0 {
			bad(fmt.Sprintf("%s.kinds[%d]", key, i), "%q is not of the form resource.group, such as jobs.batch", kind)
		}
	}
}
