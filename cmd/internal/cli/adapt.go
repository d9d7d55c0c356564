package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericclioptions"
)

// before runs a step ahead of what a command does.
func before(c *cobra.Command, step func(c *cobra.Command, args []string) error) {
	first, plain := c.PreRunE, c.PreRun
	c.PreRun = nil
	c.PreRunE = func(c *cobra.Command, args []string) error {
		if err := step(c, args); err != nil {
			return err
		}
		if first != nil {
			return first(c, args)
		}
		if plain != nil {
			plain(c, args)
		}
		return nil
	}
}

// adapt teaches kubectl's commands what they refuse of Weft's.
func adapt(root *cobra.Command, flags *genericclioptions.ConfigFlags) {
	for _, c := range root.Commands() {
		switch c.Name() {
		case "run":
			before(c, runFile)
		case "apply":
			before(c, func(c *cobra.Command, _ []string) error { return pruneServed(c, flags) })
		}
	}
}

// runFile lets "run" take image file:NAME, which is no image reference to
// kubectl: it runs under another name that an override sets right. A path alone
// is refused with what to write in its place.
func runFile(c *cobra.Command, args []string) error {
	flag := c.Flags().Lookup("image")
	if flag == nil || len(args) == 0 {
		return nil
	}
	image := flag.Value.String()
	if !strings.HasPrefix(image, "file:") {
		return notPath(image)
	}
	if c.Flags().Changed("overrides") {
		return errors.New("--overrides cannot be used with --image=file:NAME: apply a manifest instead")
	}
	override, err := json.Marshal(map[string]any{"spec": map[string]any{
		"containers": []any{map[string]any{"name": args[0], "image": image}},
	}})
	if err != nil {
		return fmt.Errorf("override the image: %w", err)
	}
	for _, flag := range [][2]string{{"image", "file"}, {"override-type", "strategic"}, {"overrides", string(override)}} {
		if err := c.Flags().Set(flag[0], flag[1]); err != nil {
			return fmt.Errorf("set --%s: %w", flag[0], err)
		}
	}
	return nil
}

func notPath(image string) error {
	if !strings.HasPrefix(image, "/") && !strings.HasPrefix(image, ".") && !strings.HasSuffix(image, ".wasm") {
		return nil
	}
	path, err := filepath.Abs(image)
	if err != nil {
		return fmt.Errorf("--image %q: %w", image, err)
	}
	return fmt.Errorf("--image %q is a path and no image: write file://%s for a file of the node, file:NAME for one in its module folders, or what \"weft push %s\" prints", image, path, image)
}

// prunable is what "apply --prune" looks at by default.
var prunable = []schema.GroupVersionKind{
	{Version: "v1", Kind: "ConfigMap"}, {Version: "v1", Kind: "Endpoints"}, {Version: "v1", Kind: "PersistentVolumeClaim"},
	{Version: "v1", Kind: "Pod"}, {Version: "v1", Kind: "ReplicationController"}, {Version: "v1", Kind: "Secret"},
	{Version: "v1", Kind: "Service"}, {Group: "batch", Version: "v1", Kind: "Job"}, {Group: "batch", Version: "v1", Kind: "CronJob"},
	{Group: "networking.k8s.io", Version: "v1", Kind: "Ingress"}, {Group: "apps", Version: "v1", Kind: "DaemonSet"},
	{Group: "apps", Version: "v1", Kind: "Deployment"}, {Group: "apps", Version: "v1", Kind: "ReplicaSet"},
	{Group: "apps", Version: "v1", Kind: "StatefulSet"},
}

var prunableEverywhere = []schema.GroupVersionKind{
	{Version: "v1", Kind: "Namespace"}, {Version: "v1", Kind: "PersistentVolume"},
}

// pruneServed names the kinds to prune that the server has: kubectl's own list
// ends in an error at the first that it lacks.
func pruneServed(c *cobra.Command, flags *genericclioptions.ConfigFlags) error {
	if on, err := c.Flags().GetBool("prune"); err != nil || !on {
		return nil
	}
	for _, name := range []string{"prune-allowlist", "applyset"} {
		if c.Flags().Changed(name) {
			return nil
		}
	}
	mapper, err := flags.ToRESTMapper()
	if err != nil {
		return err
	}
	kinds := prunable
	if !c.Flags().Changed("namespace") {
		kinds = append(append([]schema.GroupVersionKind{}, prunable...), prunableEverywhere...)
	}
	for _, kind := range kinds {
		_, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
		if meta.IsNoMatchError(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look up %s: %w", kind.Kind, err)
		}
		group := kind.Group
		if group == "" {
			group = "core"
		}
		if err := c.Flags().Set("prune-allowlist", group+"/"+kind.Version+"/"+kind.Kind); err != nil {
			return fmt.Errorf("set --prune-allowlist: %w", err)
		}
	}
	return nil
}
