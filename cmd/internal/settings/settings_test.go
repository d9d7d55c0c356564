package settings

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func load(t *testing.T, content string) (*Settings, error) {
	t.Helper()
	data := t.TempDir()
	t.Setenv("WEFT_DATA", data)
	if err := os.WriteFile(filepath.Join(data, "weft.toml"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load("", "")
}

func TestDocumentIsCurrent(t *testing.T) {
	got, err := os.ReadFile("../../../docs/weft.toml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Document(), string(got)); diff != "" {
		t.Errorf("docs/weft.toml is not current, run make generate:\n%s", diff)
	}
}

// The defaults that the document names are those that the code has.
func TestDocumentedDefaults(t *testing.T) {
	document := regexp.MustCompile(`(?m)^# ([a-z_]+ = .*|\[\[.*)$`).ReplaceAllString(Document(), "$1")
	document, _, _ = strings.Cut(document, "[[plugins.run]]")
	document = regexp.MustCompile(`(?m)^([a-z_]+ = \.\.\..*|data = .*)$`).ReplaceAllString(document, "")
	got, err := load(t, document)
	if err != nil {
		t.Fatalf("%v\n%s", err, document)
	}
	want := Default(got.Data)
	want.resolve()
	got.Source, got.Quiet = "", true
	empty := func(s []string) bool { return len(s) == 0 }
	ignore := cmp.FilterValues(func(a, b []string) bool { return empty(a) && empty(b) }, cmp.Ignore())
	noLabels := cmp.FilterValues(func(a, b map[string]string) bool { return len(a) == 0 && len(b) == 0 }, cmp.Ignore())
	want.Node, got.Node = Node{Labels: want.Node.Labels, Pods: want.Node.Pods}, Node{Labels: got.Node.Labels, Pods: got.Node.Pods}
	if diff := cmp.Diff(want, got, ignore, noLabels); diff != "" {
		t.Error(diff)
	}
}

func TestLoadRefuses(t *testing.T) {
	cases := []struct{ name, content, want string }{
		{"unknown key", "[node]\nnmae = \"x\"", "unknown keys: node.nmae"},
		{"wrong type", "[node]\npods = \"many\"", "line 2"},
		{"syntax", "[node", "line 1"},
		{"level", `log_level = "loud"`, `log_level: "loud" is not one of debug, info, warn, error`},
		{"address", "[api]\nlisten = \"6443\"", "api.listen: "},
		{"quantity", "[node]\ncpu = \"-1\"", `node.cpu: "-1" is no positive quantity`},
		{"node name", "[node]\nname = \"A_B\"", `node.name: "A_B"`},
		{"taint", "[node]\ntaints = [\"a=b:Never\"]", `node.taints: "a=b:Never": key=value:Effect is wanted`},
		{"plugin", "[[plugins.run]]\nname = \"x\"", "plugins.run[0]: name and command are required"},
		{"time", "[plugins]\ndecide_timeout = \"-1s\"", "plugins.decide_timeout: -1s must be positive"},
		{"memory of plugins", "[plugins]\nmemory = \"1Mi\"", `plugins.memory: "1Mi" is neither none nor a quantity of 64Mi at least`},
		{"copies", "[nats]\nreplicas = 2", "nats.replicas: 2 is not one of 1, 3, 5"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := load(t, c.content)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestDataFolder(t *testing.T) {
	t.Setenv("WEFT_DATA", "/env")
	t.Setenv("HOME", "/home/x")
	for flag, want := range map[string]string{"/flag": "/flag", "": "/env"} {
		if got, err := DataFolder(flag); err != nil || got != want {
			t.Errorf("flag %q: got %q, %v", flag, got, err)
		}
	}
	t.Setenv("WEFT_DATA", "")
	if got, err := DataFolder(""); err != nil || got != "/home/x/.weft" {
		t.Errorf("got %q, %v", got, err)
	}
}
