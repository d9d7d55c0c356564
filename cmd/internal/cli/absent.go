package cli

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"
)

// absent are kubectl's commands that need what Weft does not have yet. The
// README's "What is not there yet" lists them.
var absent = map[string]string{
	"attach":       "a container's standard input and output cannot be attached to: weft logs -f shows the latter",
	"autoscale":    "there are no HorizontalPodAutoscalers: weft scale sets the number of replicas",
	"certificate":  "there are no CertificateSigningRequests",
	"cluster-info": "there are no Services to list: weft get --raw '/readyz?verbose' tells how the core is",
	"cp":           "files cannot be copied to and from a container",
	"debug":        "there are no ephemeral containers: weft describe and weft logs tell of a pod",
	"exec":         "no second command can be run in a container",
	"expose":       "there are no Services",
	"port-forward": "pods have no network",
}

// absentCommands say so at once, whatever they are asked for. The help of weft
// does not list them.
func absentCommands() []*cobra.Command {
	var out []*cobra.Command
	for _, name := range slices.Sorted(maps.Keys(absent)) {
		text := fmt.Sprintf("weft %s is not there yet: %s", name, absent[name])
		out = append(out, &cobra.Command{
			Use: name, Short: "Not there yet", Long: text, Hidden: true, DisableFlagParsing: true,
			RunE: func(*cobra.Command, []string) error { return errors.New(text) },
		})
	}
	return out
}
