// Package cli is Weft's command line: kubectl's own commands, with Weft's
// kubeconfig as the default and TOML manifests added, beside Weft's own. It
// must not run any part of a cluster.
package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/kubectl/pkg/cmd"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"github.com/weftrun/weft/cmd/internal/usage"
)

// Config says where the command line finds its cluster.
type Config struct {
	// Data is Weft's folder; its kubeconfig is the default, and kubectl's
	// caches lie in it.
	Data string
	// Commands are Weft's own, added to kubectl's. One of the same name takes
	// the place of kubectl's.
	Commands []*cobra.Command
	// Streams are the process's own: kubectl reads os.Stdin in places.
	Streams genericiooptions.IOStreams

	ignored   string // the user's KUBECONFIG
	elsewhere bool   // flags name the cluster
}

// Run runs one command line (without the program's name) and returns the exit
// code. It may also end the process, as kubectl does on errors. It sets
// environment variables of this process and is to be called once.
func Run(c Config, args []string) int {
	c.ignored = os.Getenv("KUBECONFIG")
	c.elsewhere = slices.ContainsFunc(args, namesCluster)
	if err := environment(c.Data); err != nil {
		fmt.Fprintf(c.Streams.ErrOut, "error: %v\n", err)
		return 1
	}
	if cmd.GetLogVerbosity(args) == "0" {
		// What client-go logs of a server that does not answer, once a try, says
		// less than the error that ends the command.
		utilruntime.ErrorHandlers = nil
	}
	temp := &folder{}
	defer temp.remove()
	cmdutil.BehaviorOnFatal(func(message string, code int) {
		c.tell(temp, message)
		temp.remove()
		os.Exit(code)
	})
	err := c.command(args, temp).Execute()
	switch {
	case err != nil:
		c.tell(temp, "error: "+err.Error())
		return 1
	case len(temp.leftOut) > 0:
		c.tell(temp, "")
		return 1
	}
	return 0
}

// namesCluster tells whether an argument is the flag for another cluster.
func namesCluster(arg string) bool {
	name, _, _ := strings.Cut(arg, "=")
	return name == "--kubeconfig" || name == "--server" || name == "-s"
}

// tell says what went wrong: first of manifests that were left out, then of the
// others.
func (c Config) tell(temp *folder, message string) {
	for _, err := range temp.leftOut {
		fmt.Fprintf(c.Streams.ErrOut, "error: %v\n", err)
	}
	if message != "" {
		fmt.Fprint(c.Streams.ErrOut, c.explain(temp.restore(message)))
	}
}

// environment points kubectl to Weft's folder. kubectl reads these variables
// in several places; flags still override them. A KUBECONFIG for another
// cluster is left out on purpose: "weft delete" must not reach it by accident.
func environment(data string) error {
	for name, value := range map[string]string{
		"KUBECONFIG":     Kubeconfig(data),
		"KUBECACHEDIR":   filepath.Join(data, "cache"),
		"KUBECTL_KUBERC": "false",
	} {
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// Kubeconfig is the path of the kubeconfig in Weft's folder.
func Kubeconfig(data string) string { return filepath.Join(data, "kubeconfig") }

func (c Config) command(args []string, temp *folder) *cobra.Command {
	flags := genericclioptions.NewConfigFlags(true).WithDeprecatedPasswordFlag().
		WithDiscoveryBurst(300).WithDiscoveryQPS(50).WithWarningPrinter(c.Streams)
	root := cmd.NewKubectlCommand(cmd.KubectlOptions{
		Arguments: append([]string{"weft"}, args...), ConfigFlags: flags, IOStreams: c.Streams,
	})
	root.SilenceErrors = true
	root.SilenceUsage = true
	root.SetArgs(args)
	own := append(c.Commands, push(flags, c.Streams), backup(flags, c.Streams, c.Data), plan(flags, c.Streams), versionCommand(flags, c.Streams))
	for _, own := range append(own, absentCommands()...) {
		usage.Tell(own)
		for _, theirs := range root.Commands() {
			if theirs.Name() == own.Name() {
				root.RemoveCommand(theirs)
			}
		}
		root.AddCommand(own)
	}
	present(root)
	adapt(root, flags)
	readTOML(root, c.Streams.In, temp)
	return root
}

// explain adds what to do when there is no cluster to talk to.
func (c Config) explain(message string) string {
	message = strings.TrimRight(message, "\n") + "\n"
	if c.elsewhere {
		return message
	}
	_, err := os.Stat(Kubeconfig(c.Data))
	switch {
	case errors.Is(err, fs.ErrNotExist) && strings.Contains(message, "localhost:8080"):
		message = fmt.Sprintf("error: no cluster keeps its data in %s: start one with \"weft up\" or \"weft core\", or set WEFT_DATA or --kubeconfig\n", c.Data)
	case strings.Contains(message, "connection refused"), strings.Contains(message, "was refused"):
		message += fmt.Sprintf("The cluster of %s does not answer: is \"weft up\" or \"weft core\" running?\n", c.Data)
	default:
		return message
	}
	if c.ignored != "" && c.ignored != Kubeconfig(c.Data) {
		message += fmt.Sprintf("The variable KUBECONFIG (%s) is not used: --kubeconfig chooses another cluster.\n", c.ignored)
	}
	return message
}
