package settings

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/creds"
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
		{"unknown key", "[node]\nnmae = \"x\"", `2: node.nmae: unknown setting (did you mean "name"?)`},
		{"unknown table", "[apii]\nlisten = \"x\"\nnames = []", `1: apii: unknown setting (did you mean "api"?)`},
		{"wrong type", "[node]\npods = \"many\"", "2: node.pods: must be an integer, but is a string"},
		{"no array", "[nats]\nurls = \"nats://x\"", "2: nats.urls: must be an array, but is a string"},
		{"no table", "node = 3", "1: node: must be a table, but is the integer 3"},
		{"labels as an array", "[node]\nlabels = [\"a\"]", "2: node.labels: must be a table, but is an array"},
		{"labels as a string", "[node]\nlabels = \"a\"", "2: node.labels: must be a table, but is a string"},
		{"labels as a number", "[node]\nlabels = 3", "2: node.labels: must be a table, but is the integer 3"},
		{"a label of a wrong type", "[node]\nlabels = { a = 1 }", "2: node.labels.a: must be a string, but is the integer 1"},
		{"env as a table", "[[plugins.run]]\nname = \"x\"\ncommand = \"x\"\nenv = { A = \"b\" }", "4: plugins.run[0].env: must be an array, but is a table"},
		{"a plugin as a table", "[plugins.run]\nname = \"x\"", "1: plugins.run: must be an array, but is a table"},
		{"no duration", "[plugins]\ndecide_timeout = \"soon\"", `2: plugins.decide_timeout: "soon" is no duration, such as "10s" or "1m30s"`},
		{"duration as a number", "[plugins]\ndecide_timeout = 10", `2: plugins.decide_timeout: must be a duration (a string such as "10s"), but is the integer 10`},
		{"syntax", "[node x]", `1: expected '.' or ']' to end table name, but got 'x' instead`},
		{"twice", "[node]\npods = 1\npods = 2", "3: node.pods: is set already, further up"},
		{"level", `log_level = "loud"`, `1: log_level: "loud" is not one of debug, info, warn, error`},
		{"address", "[api]\nlisten = \"6443\"", `2: api.listen: "6443" is no host and port, such as 127.0.0.1:6443`},
		{"port", "[api]\nlisten = \"127.0.0.1:65536\"", `2: api.listen: "127.0.0.1:65536": the port "65536" is not from 0 to 65535`},
		{"host", "[nats]\nlisten = \"a b:1\"", `2: nats.listen: "a b:1": the host "a b" is no IP address and no DNS name`},
		{"names", "[api]\nnames = [\"a b\", \"ok.example.org\", \"\"]", "2: api.names[0]: \"a b\" is no IP address and no DNS name\n2: api.names[2]: \"\" is no IP address and no DNS name"},
		{"CPU", "[node]\ncpu = \"0\"", `2: node.cpu: "0" is no positive quantity, such as 4 or 500m`},
		{"memory", "[node]\nmemory = \"much\"", `2: node.memory: "much" is no positive quantity, such as 2Gi`},
		{"taint", "[node]\ntaints = [\"a=b:Never\"]", `2: node.taints: "a=b:Never": key=value:Effect is wanted, with an effect of [NoSchedule PreferNoSchedule NoExecute]`},
		{"plugin", "[[plugins.run]]\nname = \"x\"", "1: plugins.run[0]: name and command are required"},
		{"time", "[plugins]\ndecide_timeout = \"-1s\"", "2: plugins.decide_timeout: -1s must be positive"},
		{"memory of plugins", "[plugins]\nmemory = \"1Mi\"", `2: plugins.memory: "1Mi" is neither none nor a quantity of 64Mi at least`},
		{"copies", "[nats]\nreplicas = 2\nurls = [\"x\"]", "2: nats.replicas: 2 is not one of 1, 3, 5"},
		{"scheme of NATS", "[nats]\nurls = [\"http://x\"]", `2: nats.urls[0]: "http://x": http:// is not one of nats://, tls://, ws://, wss://`},
		{"no host of NATS", "[nats]\nurls = [\"nats://\"]", `2: nats.urls[0]: "nats://" is no address of a NATS server, such as nats://127.0.0.1:4222`},
		{"port of NATS", "[nats]\nurls = [\"u:secret@h:70000\"]", `2: nats.urls[0]: "...@h:70000" is no address of a NATS server, such as nats://127.0.0.1:4222`},
		{"two in one", "[nats]\nurls = [\"nats://a:1,nats://b:1\"]", `2: nats.urls[0]: "nats://a:1,nats://b:1" is no address of a NATS server, such as nats://127.0.0.1:4222`},
		{"web and others", "[nats]\nurls = [\"nats://a\", \"ws://b\"]", "2: nats.urls: ws:// and wss:// cannot be mixed with others"},
		{"monitoring", "[nats]\nurls = [\"a\"]\nmonitoring = [\"127.0.0.1:8222\"]", `3: nats.monitoring[0]: "127.0.0.1:8222" is no http:// or https:// URL, such as http://127.0.0.1:8222`},
		{"credentials alone", "[nats]\ncredentials = \"x\"", "2: nats.credentials: it is for an outside NATS server: set nats.urls as well"},
		{"monitoring alone", "[nats]\nmonitoring = [\"http://x\"]", "2: nats.monitoring: it is for an outside NATS server: set nats.urls as well"},
		{"copies alone", "[nats]\nreplicas = 3", "2: nats.replicas: it is for an outside NATS server: set nats.urls as well"},
		{"trust alone", "[nats]\nassume_synced = true", "2: nats.assume_synced: it is for an outside NATS server: set nats.urls as well"},
		{"inside and outside", "[nats]\nlisten = \"0.0.0.0:4222\"\nurls = [\"a\"]", "2: nats.listen: no server is embedded, and so nothing listens there, where nats.urls names an outside one: set one of the two"},
		{"kinds", "[plugins]\nbuiltin = [\"deployment\", \"jobs\"]", `2: plugins.builtin[1]: "jobs" is not one of deployment, job, replicaset`},
		{"a kind twice", "[plugins]\nbuiltin = [\"job\", \"job\"]", `2: plugins.builtin[1]: "job" is there twice`},
		{"a plugin twice", "[[plugins.run]]\nname = \"x\"\ncommand = \"x\"\n[[plugins.run]]\nname = \"x\"\ncommand = \"y\"", `5: plugins.run[1].name: there are two plugins called "x"`},
		{"the built-in plugin", "[[plugins.run]]\nname = \"builtin\"\ncommand = \"x\"", `2: plugins.run[0].name: "builtin" is the plugin of the built-in kinds`},
		{"env", "[[plugins.run]]\nname = \"x\"\ncommand = \"x\"\nenv = [\"A=b\", \"A\", \"=b\"]", "4: plugins.run[0].env[1]: \"A\" is not of the form NAME=value\n4: plugins.run[0].env[2]: \"=b\" is not of the form NAME=value"},
		{"kinds of a plugin", "[[plugins.run]]\nname = \"x\"\ncommand = \"x\"\nkinds = [\"Job\", \"jobs.batch\"]", `4: plugins.run[0].kinds[0]: "Job" is not of the form resource.group, such as jobs.batch`},
		{"several", "[nats]\nurls = \"x\"\nreplicas = 3\n[node]\npods = 0\n[[plugins.run]]\nname = 3\ncommand = \"x\"", "2: nats.urls: must be an array, but is a string\n5: node.pods: 0 must be positive\n7: plugins.run[0].name: must be a string, but is the integer 3"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s, err := load(t, c.content)
			if err == nil {
				t.Fatalf("accepted: %+v", s)
			}
			got := strings.TrimPrefix(err.Error(), "settings: ")
			got = strings.ReplaceAll(got, filepath.Join(os.Getenv("WEFT_DATA"), "weft.toml")+":", "")
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What names rules of Kubernetes is told in its words.
func TestLoadRefusesNames(t *testing.T) {
	for content, want := range map[string]string{
		"[node]\nname = \"A_B\"":                   `2: node.name: "A_B": a lowercase RFC 1123 subdomain`,
		"[node]\nlabels.\"a b\" = \"c\"":           "2: node.labels.a b: the key: name part must",
		"[node.labels]\nx = \"y\"\nzone = \"a b\"": `3: node.labels.zone: "a b": a valid label must`,
		"[node]\ntaints = [\"a=b c:NoExecute\"]":   `2: node.taints: "a=b c:NoExecute": value: a valid label must`,
	} {
		if _, err := load(t, content); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", content, err, want)
		}
	}
}

func TestLoadTakes(t *testing.T) {
	for name, content := range map[string]string{
		"what a core that others reach has": "[api]\nlisten = \"0.0.0.0:6443\"\nnames = [\"weft.example.org\", \"Weft\", \"10.0.0.1\", \"fe80::1\"]\n[nats]\nlisten = \"[::]:4222\"",
		"what a node elsewhere has":         "[nats]\nurls = [\"nats://weft.example.org:4222\"]\ncredentials = \"node.creds\"\n[node]\nname = \"far\"\nlabels = { zone = \"a\", \"example.org/x\" = \"\" }",
		"what a core outside has":           "[nats]\nurls = [\"tls://a\", \"b:4222\", \"nats://u:p@[::1]:4222\"]\nmonitoring = [\"https://a:8222/\"]\nreplicas = 3",
		"NATS over the web":                 "[nats]\nurls = [\"ws://a\", \"wss://b:443\"]",
		"defaults that are written down":    "[nats]\nlisten = \"127.0.0.1:4222\"\nurls = [\"a\"]",
		"no built-in kinds":                 "[plugins]\nbuiltin = []",
		"a plugin":                          "[[plugins.run]]\nname = \"x\"\ncommand = \"x\"\nenv = [\"A=\", \"B=c=d\"]\nkinds = [\"sweeps.examples.weft.run\"]",
	} {
		if _, err := load(t, content); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheckFiles(t *testing.T) {
	s, err := load(t, "[nats]\nurls = [\"a\"]\ncredentials = \"node.creds\"")
	if err != nil {
		t.Fatal(err)
	}
	err = s.CheckFiles()
	if err == nil || !strings.Contains(err.Error(), "weft.toml: nats.credentials: open "+filepath.Join(s.Data, "node.creds")+": no such file") {
		t.Errorf("got %v", err)
	}
	a, err := creds.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	issued, err := a.Issue(bus.Identity{Role: bus.RoleNode, Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	for content, want := range map[string]string{"x": "node.creds holds no credentials", string(issued): ""} {
		if err := os.WriteFile(filepath.Join(s.Data, "node.creds"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.CheckFiles(); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.10q: got %v", content, err)
		}
	}
}

func TestHugeFile(t *testing.T) {
	if _, err := load(t, strings.Repeat("#", maxFile)); err != nil {
		t.Error(err)
	}
	if _, err := load(t, strings.Repeat("#", maxFile+1)); err == nil || !strings.Contains(err.Error(), "weft.toml has more than 1048576 bytes") {
		t.Errorf("got %v", err)
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

func TestDataInFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "weft.toml")
	t.Setenv("WEFT_DATA", "")
	t.Setenv("HOME", "/home/x")
	for data, want := range map[string]string{"/a/b": "/a/b", "~/.weft": "/home/x/.weft", "": ""} {
		if err := os.WriteFile(file, []byte("data = \""+data+"\""), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Load(file, "")
		switch {
		case want == "" && (err == nil || !strings.Contains(err.Error(), "weft.toml: data: must not be empty")):
			t.Errorf("%q: got %v, %v", data, s, err)
		case want != "" && (err != nil || s.Data != want):
			t.Errorf("%q: got %v, %v", data, s, err)
		}
	}
}
