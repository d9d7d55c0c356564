package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/resource"
)

// plan shows what applying manifests would lead to.
func plan(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	var files resource.FilenameOptions
	var output string
	c := &cobra.Command{
		Use:   "plan -f FILENAME",
		Short: "Show what the controllers would create, change and delete, and change nothing",
		Long: `Show what would come of applying manifests: not only the objects themselves, but
all that the controllers would then create, change and delete, until they come
to rest. Nothing is changed. Nodes and time stand still meanwhile: of a rollout
that waits for pods to be ready, the first step is shown.`,
		Example: "  weft plan -f examples/hello.toml",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if output != "" && output != "json" {
				return fmt.Errorf("--output %q is not one of json", output)
			}
			if len(files.Filenames) == 0 {
				return errors.New("must specify at least one file with -f")
			}
			report, err := askPlan(c, flags, &files)
			if err != nil {
				return err
			}
			if output == "json" {
				_, err := streams.Out.Write(report)
				return err
			}
			return printPlan(streams.Out, report)
		},
	}
	c.Flags().StringSliceVarP(&files.Filenames, "filename", "f", nil, "files, folders or - with the manifests")
	c.Flags().BoolVarP(&files.Recursive, "recursive", "R", false, "look into folders within folders")
	c.Flags().StringVarP(&output, "output", "o", "", "json, or empty for people")
	return c
}

func askPlan(c *cobra.Command, flags *genericclioptions.ConfigFlags, files *resource.FilenameOptions) ([]byte, error) {
	namespace, enforce, err := flags.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return nil, err
	}
	infos, err := resource.NewBuilder(flags).Unstructured().ContinueOnError().NamespaceParam(namespace).DefaultNamespace().
		FilenameParam(enforce, files).Flatten().Do().Infos()
	if err != nil {
		return nil, err
	}
	list := unstructured.UnstructuredList{Object: map[string]any{"apiVersion": "v1", "kind": "List"}}
	for _, info := range infos {
		object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(info.Object)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", info.Name, err)
		}
		list.Items = append(list.Items, unstructured.Unstructured{Object: object})
	}
	body, err := list.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("encode manifests: %w", err)
	}
	client, err := restClient(flags)
	if err != nil {
		return nil, err
	}
	report, err := answer(client.Post().AbsPath("/weft/v1/plan").SetHeader("Content-Type", "application/json").Body(body).Do(c.Context()))
	if err != nil {
		return nil, errors.New(inFile(err.Error(), infos))
	}
	return report, nil
}

var numbered = regexp.MustCompile(`^items\[(\d+)\]`)

// inFile names the file of an object that the server names by its number.
func inFile(message string, infos []*resource.Info) string {
	match := numbered.FindStringSubmatch(message)
	if match == nil {
		return message
	}
	if i, err := strconv.Atoi(match[1]); err == nil && i < len(infos) {
		rest := strings.TrimPrefix(message, match[0])
		return infos[i].Source + ": " + strings.TrimLeft(rest, ".: ")
	}
	return message
}

// planReport is the server's answer.
type planReport struct {
	Changes []struct {
		Verb, Group, Resource, Namespace, Name string
		Before, After                          map[string]any
	}
	Unfinished bool
}

var signs = map[string]string{"create": "+", "update": "~", "delete": "-"}

func printPlan(out io.Writer, data []byte) error {
	var report planReport
	if err := json.Unmarshal(data, &report); err != nil {
		return fmt.Errorf("decode the plan: %w", err)
	}
	counts := map[string]int{}
	var text strings.Builder
	for _, c := range report.Changes {
		counts[c.Verb]++
		name := c.Name
		if c.Namespace != "" {
			name = c.Namespace + "/" + name
		}
		kind := c.Resource
		if c.Group != "" {
			kind += "." + c.Group
		}
		fmt.Fprintf(&text, "%s %s %s %s\n", signs[c.Verb], c.Verb, kind, name)
		if c.Verb != "update" {
			continue
		}
		lines := differences(c.Before, c.After)
		for _, line := range lines {
			fmt.Fprintf(&text, "    %s\n", line)
		}
		if len(lines) == 0 {
			text.WriteString("    only its status\n")
		}
	}
	if report.Unfinished {
		text.WriteString("... the controllers would go on; the plan was cut off here\n")
	}
	fmt.Fprintf(&text, "\n%d to create, %d to change, %d to delete. Nothing was changed.\n", counts["create"], counts["update"], counts["delete"])
	_, err := io.WriteString(out, text.String())
	return err
}

// bookkeeping is what changes with every write, or follows from the rest.
var bookkeeping = []string{
	"status",
	"metadata.managedFields", "metadata.resourceVersion", "metadata.generation", "metadata.uid", "metadata.creationTimestamp",
	"metadata.annotations.kubectl.kubernetes.io/last-applied-configuration",
}

// differences lists the fields that differ, each with both values; --output json
// has the status as well.
func differences(before, after map[string]any) []string {
	old, now := map[string]string{}, map[string]string{}
	flatten("", before, old)
	flatten("", after, now)
	paths := slices.Collect(maps.Keys(now))
	for path := range old {
		if _, ok := now[path]; !ok {
			paths = append(paths, path)
		}
	}
	sort.Strings(paths)
	var lines []string
	for _, path := range paths {
		was, had := old[path]
		is, has := now[path]
		if had && has && was == is {
			continue
		}
		if !had {
			was = "(none)"
		}
		if !has {
			is = "(none)"
		}
		lines = append(lines, fmt.Sprintf("%s: %s -> %s", path, was, is))
	}
	return lines
}

func flatten(path string, value any, into map[string]string) {
	if slices.Contains(bookkeeping, path) {
		return
	}
	switch v := value.(type) {
	case map[string]any:
		for key, item := range v {
			below := key
			if path != "" {
				below = path + "." + key
			}
			flatten(below, item, into)
		}
	case []any:
		for i, item := range v {
			flatten(fmt.Sprintf("%s[%d]", path, i), item, into)
		}
	case nil:
	default:
		text, err := json.Marshal(v)
		if err != nil {
			text = []byte(fmt.Sprint(v))
		}
		into[path] = string(text)
	}
}
