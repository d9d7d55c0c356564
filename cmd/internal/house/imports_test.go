package house

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/weftrun/weft/"

// rule says what the packages under a folder may import of ours.
type rule struct {
	under   string // a folder; "/" at its end means sub-packages only
	allowed []string
	reason  string
}

// The first rule that fits a package holds.
var rules = []rule{
	{"bus", nil, "a root says what, without knowing anyone"},
	{"core", nil, "a root says what, without knowing anyone"},
	{"wasm", nil, "a root says what, without knowing anyone"},
	{"bus/", []string{"bus/", "bus"}, "carriers know the contract and nothing of Kubernetes or wasm"},
	{"core/coretest/", []string{"core", "core/", "bus", "bus/"}, "a cluster in memory joins what the core is made of, for tests alone"},
	{"core/", []string{"core", "bus"}, "parts of the core meet through the core's contracts, so that each can be read and tested alone"},
	{"plugins/", []string{"core", "plugins", "plugins/"}, "a plugin and its host know controllers, and not who applies what they decide"},
	{"plugins", []string{"core", "plugins/wire"}, "a plugin author needs the contract and the wire, nothing else"},
	{"workloads/", []string{"core", "workloads"}, "a kind is a pure function of what it sees; kinds never know kinds"},
	{"workloads", []string{"core"}, "what kinds share knows the contract alone"},
	{"wasm/node", []string{"wasm", "wasm/", "core"}, "the agent joins workers to the core's contract"},
	{"wasm/network", []string{"wasm", "wasm/", "core"}, "the network joins workers to the core's contract"},
	{"wasm/", []string{"wasm", "wasm/"}, "what runs guests must not know Kubernetes"},
	{"cmd/", []string{"bus", "bus/", "core", "core/", "plugins", "plugins/", "workloads", "workloads/", "wasm", "wasm/", "cmd/"}, "cmd alone introduces everyone to each other"},
	{"examples/", []string{"core", "plugins", "plugins/", "bus"}, "examples show what strangers can use"},
}

func fits(name, under string) bool {
	if folder, sub := strings.CutSuffix(under, "/"); sub {
		return strings.HasPrefix(name, folder+"/")
	}
	return name == under || (strings.Contains(under, "/") && strings.HasPrefix(name, under+"/"))
}

// within tells whether name is in a part of what importer belongs to: a
// package may always import its own sub-packages and siblings under internal.
func within(importer, name string) bool {
	top := strings.Join(strings.SplitN(importer, "/", 3)[:min(2, strings.Count(importer, "/")+1)], "/")
	return strings.Contains(top, "/") && strings.HasPrefix(name, top+"/") || strings.Contains(name, "/internal/")
}

func TestImports(t *testing.T) {
	cmd := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, module+"...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	packages := 0
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		name := strings.TrimPrefix(fields[0], module)
		packages++
		for _, r := range rules {
			if !fits(name, r.under) {
				continue
			}
			for _, imported := range fields[1:] {
				ours, ok := strings.CutPrefix(imported, module)
				if ok && !permitted(name, ours, r.allowed) {
					t.Errorf("%s must not import %s: %s", name, ours, r.reason)
				}
			}
			break
		}
	}
	if packages < 10 {
		t.Errorf("only %d packages were listed", packages)
	}
}

func permitted(importer, name string, allowed []string) bool {
	for _, a := range allowed {
		if folder, sub := strings.CutSuffix(a, "/"); sub && strings.HasPrefix(name, folder+"/") || a == name {
			return true
		}
	}
	return within(importer, name)
}
