package cli

import (
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/resource"
)

// said is the error of a command line that needs no cluster to fail.
func said(t *testing.T, args ...string) string {
	t.Helper()
	temp := &folder{}
	t.Cleanup(temp.remove)
	c := Config{Data: t.TempDir(), Streams: genericiooptions.IOStreams{In: strings.NewReader(""), Out: io.Discard, ErrOut: io.Discard}}
	root := c.command(args, temp)
	root.SetOut(io.Discard)
	root.SetErr(io.Discard)
	if err := root.Execute(); err != nil {
		return err.Error()
	}
	return ""
}

func TestAbsentCommands(t *testing.T) {
	for name, text := range absent {
		for _, args := range [][]string{{name}, {name, "--help"}, {name, "x", "-it", "--", "sh"}} {
			if diff := cmp.Diff("weft "+name+" is not there yet: "+text, said(t, args...)); diff != "" {
				t.Errorf("%v: %s", args, diff)
			}
		}
	}
}

// The README lists what the command line refuses.
func TestAbsentCommandsAreDocumented(t *testing.T) {
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, missing, _ := strings.Cut(string(readme), "What is not there yet")
	for name := range absent {
		if !strings.Contains(missing, "`"+name+"`") {
			t.Errorf("the README does not say that %s is not there", name)
		}
	}
}

func TestSaid(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"backup"}, "accepts 1 arg(s), received 0\nusage: weft backup PLACE [flags]"},
		{[]string{"push"}, "requires at least 1 arg(s), only received 0\nusage: weft push MODULE.wasm... [flags]"},
		{[]string{"run", "x", "--image=/a/b.wasm"}, `--image "/a/b.wasm" is a path and no image: write file:///a/b.wasm for a file of the node, file:NAME for one in its module folders, or what "weft push /a/b.wasm" prints`},
	} {
		if diff := cmp.Diff(c.want, said(t, c.args...)); diff != "" {
			t.Errorf("%v: %s", c.args, diff)
		}
	}
}

func TestNotPath(t *testing.T) {
	for image, path := range map[string]bool{
		"/x.wasm": true, "./x": true, "../x": true, "x.wasm": true, "a/x.wasm": true,
		"x": false, "cluster.local/x@sha256:0": false, "docker.io/library/x:1": false,
	} {
		if err := notPath(image); (err != nil) != path {
			t.Errorf("%s: got %v", image, err)
		}
	}
}

func TestExplain(t *testing.T) {
	data := t.TempDir()
	const none = "The connection to the server localhost:8080 was refused - did you specify the right host or port?"
	noCluster := "error: no cluster keeps its data in " + data + ": start one with \"weft up\" or \"weft core\", or set WEFT_DATA or --kubeconfig\n"
	unused := "The variable KUBECONFIG (/other) is not used: --kubeconfig chooses another cluster.\n"
	for name, c := range map[string]struct {
		config        Config
		message, want string
	}{
		"no cluster":               {Config{}, none, noCluster},
		"no cluster, another file": {Config{ignored: "/other"}, none, noCluster + unused},
		"the same file":            {Config{ignored: Kubeconfig(data)}, none, noCluster},
		"no answer": {Config{ignored: "/other"}, "The connection to the server 127.0.0.1:1 was refused",
			"The connection to the server 127.0.0.1:1 was refused\nThe cluster of " + data + " does not answer: is \"weft up\" or \"weft core\" running?\n" + unused},
		"another cluster": {Config{ignored: "/other", elsewhere: true}, none, none + "\n"},
		"another error":   {Config{ignored: "/other"}, "error: not found", "error: not found\n"},
	} {
		c.config.Data = data
		if diff := cmp.Diff(c.want, c.config.explain(c.message)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestNamesCluster(t *testing.T) {
	for arg, want := range map[string]bool{
		"--kubeconfig": true, "--kubeconfig=x": true, "--server": true, "--server=https://x": true, "-s": true,
		"--server-side": false, "--server-print=false": false, "x": false, "": false,
	} {
		if got := namesCluster(arg); got != want {
			t.Errorf("%q: got %v", arg, got)
		}
	}
}

func TestInFile(t *testing.T) {
	infos := []*resource.Info{{Source: "a.yaml"}, {Source: "b.yaml"}}
	for message, want := range map[string]string{
		"items[1]: it is bad":      "b.yaml: it is bad",
		"items[0].spec: it is bad": "a.yaml: spec: it is bad",
		"items[2]: it is bad":      "items[2]: it is bad",
		"Pod \"x\" is invalid":     "Pod \"x\" is invalid",
	} {
		if got := inFile(message, infos); got != want {
			t.Errorf("%s: got %q, want %q", message, got, want)
		}
	}
}
