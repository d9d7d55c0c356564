package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/yaml"
)

// versions is what "weft version" prints.
type versions struct {
	Weft   string        `json:"weftVersion"`
	Client string        `json:"clientVersion"`
	Go     string        `json:"goVersion"`
	Server *version.Info `json:"serverVersion,omitempty"`
}

// versionCommand takes the place of kubectl's, whose own version is set only
// by the linker.
func versionCommand(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	var clientOnly bool
	var output string
	c := &cobra.Command{
		Use:     "version",
		Short:   "Print the versions of weft, of the Kubernetes client in it, and of the server",
		Example: "  weft version\n  weft version --client -o json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if output != "" && output != "yaml" && output != "json" {
				return fmt.Errorf("--output %q is not one of yaml, json", output)
			}
			found := ownVersions()
			var serverErr error
			if !clientOnly {
				found.Server, serverErr = serverVersion(flags)
			}
			if err := printVersions(streams.Out, found, output); err != nil {
				return err
			}
			return serverErr
		},
	}
	c.Flags().BoolVar(&clientOnly, "client", false, "ask no server")
	c.Flags().StringVarP(&output, "output", "o", "", "yaml, json, or empty for people")
	return c
}

func serverVersion(flags *genericclioptions.ConfigFlags) (*version.Info, error) {
	client, err := flags.ToDiscoveryClient()
	if err != nil {
		return nil, err
	}
	client.Invalidate()
	return client.ServerVersion()
}

// ownVersions reads what the Go tool wrote into the binary.
func ownVersions() versions {
	found := versions{Weft: "unknown", Client: "unknown"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return found
	}
	found.Go = info.GoVersion
	found.Weft = info.Main.Version
	if found.Weft == "" || found.Weft == "(devel)" {
		found.Weft = "devel"
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				found.Weft += "+" + setting.Value[:min(12, len(setting.Value))]
			}
		}
	}
	for _, module := range info.Deps {
		if module.Path == "k8s.io/kubectl" {
			// The libraries of Kubernetes 1.x are published as 0.x.
			found.Client = strings.Replace(module.Version, "v0.", "v1.", 1)
		}
	}
	return found
}

func printVersions(out io.Writer, found versions, format string) error {
	var data []byte
	var err error
	switch format {
	case "json":
		data, err = json.MarshalIndent(found, "", "  ")
		data = append(data, '\n')
	case "yaml":
		data, err = yaml.Marshal(found)
	default:
		text := fmt.Sprintf("Weft Version: %s\nClient Version: %s\n", found.Weft, found.Client)
		if found.Server != nil {
			text += fmt.Sprintf("Server Version: %s\n", found.Server.GitVersion)
		}
		data = []byte(text)
	}
	if err != nil {
		return fmt.Errorf("encode versions: %w", err)
	}
	_, err = out.Write(data)
	return err
}
