// Command weft is all of Weft in one binary: the core, nodes, the plugin
// process of the built-in kinds, and the command line.
package main

import (
	"errors"
	"fmt"
	"os"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/weftrun/weft/cmd/internal/cli"
	"github.com/weftrun/weft/cmd/internal/commands"
	_ "github.com/weftrun/weft/cmd/internal/english" // saves each process 4 MB
	_ "github.com/weftrun/weft/cmd/internal/guard"   // goes no further if this is a plugin's guard
	"github.com/weftrun/weft/cmd/internal/settings"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if daemon, ok := commands.Daemon(args); ok {
		if err := daemon.Execute(); err != nil {
			fmt.Fprintf(os.Stderr, "weft %s: %v\n", args[0], err)
			if coded, ok := errors.AsType[interface {
				error
				ExitCode() int
			}](err); ok {
				return coded.ExitCode()
			}
			return 1
		}
		return 0
	}
	data, err := settings.DataFolder("")
	if err != nil {
		fmt.Fprintf(os.Stderr, "weft: %v\n", err)
		return 1
	}
	return cli.Run(cli.Config{
		Data: data, Commands: commands.All(),
		Streams: genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr},
	}, args)
}
