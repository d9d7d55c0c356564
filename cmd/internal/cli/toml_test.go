package cli

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

const goodTOML = "apiVersion = \"v1\"\nkind = \"ConfigMap\"\nmetadata.name = \"x\"\n"

// files makes a folder of manifests.
func files(t *testing.T, contents map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range contents {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// prepared returns the --filename flag of a command line as the command itself
// sees it, by the names that the user knows.
func prepared(t *testing.T, temp *folder, args ...string) ([]string, error) {
	t.Helper()
	t.Cleanup(temp.remove)
	c := Config{Data: t.TempDir(), Streams: genericiooptions.IOStreams{In: strings.NewReader(""), Out: io.Discard, ErrOut: io.Discard}}
	root := c.command(args, temp)
	var names []string
	command, rest, err := root.Find(args)
	if err != nil {
		t.Fatal(err)
	}
	command.Run, command.RunE = nil, func(c *cobra.Command, _ []string) error {
		value, _ := c.Flags().Lookup("filename").Value.(pflag.SliceValue)
		for _, name := range value.GetSlice() {
			names = append(names, filepath.Base(temp.restore(name)))
		}
		return nil
	}
	root.SetArgs(append([]string{command.Name()}, rest...))
	return names, root.Execute()
}

func TestBadFilesAreLeftOut(t *testing.T) {
	root := files(t, map[string]string{
		"a.toml": goodTOML + "dta = 1\n", "b.yaml": "kind: ConfigMap", "c.toml": goodTOML, "d.toml": "x", "e.txt": "",
	})
	for _, command := range []string{"apply", "create", "delete", "replace"} {
		temp := &folder{}
		got, err := prepared(t, temp, command, "-f", root)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"b.yaml", "c.toml"}, got); diff != "" {
			t.Errorf("%s: %s", command, diff)
		}
		var out bytes.Buffer
		Config{Streams: genericiooptions.IOStreams{ErrOut: &out}}.tell(temp, "error: b.yaml is bad")
		want := "error: a.toml:4: dta: unknown field (did you mean \"data\"?)\nerror: d.toml:1: unexpected EOF; expected key separator '='\nerror: b.yaml is bad\n"
		if diff := cmp.Diff(want, strings.ReplaceAll(out.String(), root+"/", "")); diff != "" {
			t.Errorf("%s: %s", command, diff)
		}
	}
}

// Nothing is left out where that would mislead, or delete what is in the file.
func TestBadFilesEndACommand(t *testing.T) {
	root := files(t, map[string]string{"a.toml": goodTOML + "dta = 1\n", "c.toml": goodTOML})
	for _, args := range [][]string{
		{"apply", "-f", root + "/a.toml"},
		{"apply", "-f", root, "--prune", "-l", "a=b"},
		{"plan", "-f", root},
		{"diff", "-f", root},
	} {
		temp := &folder{}
		names, err := prepared(t, temp, args...)
		if err == nil || !strings.Contains(err.Error(), "a.toml:4: dta: unknown field") {
			t.Errorf("%v: got %v, %v", args, names, err)
		}
	}
}
