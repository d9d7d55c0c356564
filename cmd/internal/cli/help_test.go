package cli

import (
	"bytes"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"
)

func TestOurName(t *testing.T) {
	for in, want := range map[string]string{
		"kubectl get pods":                                  "weft get pods",
		"  kubectl apply -f -\n  kubectl get":               "  weft apply -f -\n  weft get",
		"Use \"kubectl options\" or 'kubectl'.":             "Use \"weft options\" or 'weft'.",
		"run by kubectl. And":                               "run by weft. And",
		"kubectl.kubernetes.io/last-applied-configuration":  "kubectl.kubernetes.io/last-applied-configuration",
		"manager kubectl-client-side-apply":                 "manager kubectl-client-side-apply",
		"https://kubernetes.io/docs/reference/kubectl/":     "https://kubernetes.io/docs/reference/kubectl/",
		"$HOME/.kube/kubectl and KUBECTL_EXTERNAL_DIFF set": "$HOME/.kube/kubectl and KUBECTL_EXTERNAL_DIFF set",
	} {
		if got := ourName(in); got != want {
			t.Errorf("ourName(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestHelpIsOurs(t *testing.T) {
	var out bytes.Buffer
	c := Config{Data: t.TempDir(), Streams: genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &out}}
	root := c.command(nil, &folder{})
	root.SetOut(&out)
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, want := range []string{"weft up examples/", "\n  push ", "\n  plan ", "\n  rollout ", "\n  completion "} {
		if !strings.Contains(text, want) {
			t.Errorf("the help lacks %q", want)
		}
	}
	if strings.Contains(text, "Other Commands") {
		t.Errorf("commands are in no group:\n%s", text)
	}
	for _, sub := range root.Commands() {
		if strings.Contains(sub.Example, "  kubectl ") {
			t.Errorf("the examples of %s are kubectl's", sub.Name())
		}
	}
}

func TestVersion(t *testing.T) {
	var out bytes.Buffer
	c := Config{Data: t.TempDir(), Streams: genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &out}}
	root := c.command(nil, &folder{})
	root.SetArgs([]string{"version", "--client"})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); !strings.Contains(text, "Weft Version: ") || !strings.Contains(text, "Client Version: ") {
		t.Errorf("weft version prints %q", text)
	}
}
