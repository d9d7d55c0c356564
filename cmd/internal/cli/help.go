package cli

import (
	"maps"
	"regexp"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/kubectl/pkg/util/templates"
)

const (
	short = "weft runs a Kubernetes-compatible cluster whose pods are WebAssembly modules"
	long  = short + `.

Start a cluster with "weft up examples/", then look at it from another terminal
with "weft get pods". Manifests may be TOML, YAML or JSON, with one schema.
The cluster's data lies in $WEFT_DATA (default: ~/.weft), its kubeconfig too:
stock kubectl works with it as well.`
)

// groups orders the root's help. Commands in no group follow as others.
var groups = []struct {
	title    string
	commands []string
}{
	{"Run a Cluster:", []string{"up", "core", "node", "plugin", "credentials", "nats-config", "backup", "restore"}},
	{"Modules and Plans:", []string{"push", "plan"}},
	{"Work with Objects:", []string{"apply", "create", "get", "describe", "explain", "edit", "delete", "run", "set", "patch", "replace", "label", "annotate", "diff", "wait", "kustomize"}},
	{"Follow What Happens:", []string{"logs", "events", "top", "proxy", "auth"}},
	{"Roll Out and Scale:", []string{"rollout", "scale"}},
	{"Look After Nodes:", []string{"cordon", "uncordon", "drain", "taint"}},
	{"Know the API and the Client:", []string{"api-resources", "api-versions", "config", "version", "completion"}},
}

// hidden are commands that the root's help does not list.
var hidden = []string{"options", "alpha", "kuberc", "executor", "help"}

// present makes the help of kubectl's root and commands that of weft.
func present(root *cobra.Command) {
	root.Use, root.Short, root.Long, root.Example = "weft", short, long, ""
	byName := map[string]*cobra.Command{}
	for _, c := range root.Commands() {
		byName[c.Name()] = c
	}
	var shown templates.CommandGroups
	for _, group := range groups {
		var commands []*cobra.Command
		for _, name := range group.commands {
			if c := byName[name]; c != nil {
				commands = append(commands, c)
			}
		}
		shown = append(shown, templates.CommandGroup{Message: group.title, Commands: commands})
	}
	for _, c := range root.Commands() {
		rename(c)
	}
	templates.ActsAsRootCommand(root, slices.AppendSeq(slices.Clone(hidden), maps.Keys(absent)), shown...)
}

// kubectl as a word of its own, not as a part of an annotation, a field
// manager or an address.
var kubectl = regexp.MustCompile(`(^|[^/.\w-])kubectl($|\.\s|\.$|[^-.\w/])`)

func ourName(text string) string { return kubectl.ReplaceAllString(text, "${1}weft${2}") }

func rename(c *cobra.Command) {
	c.Short, c.Long, c.Example = ourName(c.Short), ourName(c.Long), ourName(c.Example)
	c.Flags().VisitAll(func(f *pflag.Flag) { f.Usage = ourName(f.Usage) })
	for _, sub := range c.Commands() {
		rename(sub)
	}
}
