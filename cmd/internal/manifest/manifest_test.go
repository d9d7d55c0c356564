package manifest

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weftrun/weft/cmd/internal/tomlfile"
)

const job = `apiVersion = "batch/v1"
kind = "Job"

[metadata]
name = "pi"
labels."weft.run/x" = "y" # a quoted key

[spec]
backoffLimit = 4

[spec.template.spec]
restartPolicy = "OnFailure"

[[spec.template.spec.containers]]
name = "a"
image = "file:a.wasm"
args = [
  "1",
  "2",
]

[[spec.template.spec.containers]]
name = "b"
image = """
multi
"""
resources.limits = { cpu = "250m", memory = 1024 }
`

func TestFromTOML(t *testing.T) {
	got, err := FromTOML("job.toml", []byte(job))
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal(got, &object); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"apiVersion": "batch/v1", "kind": "Job",
		"metadata": map[string]any{"name": "pi", "labels": map[string]any{"weft.run/x": "y"}},
		"spec": map[string]any{"backoffLimit": 4.0, "template": map[string]any{"spec": map[string]any{
			"restartPolicy": "OnFailure",
			"containers": []any{
				map[string]any{"name": "a", "image": "file:a.wasm", "args": []any{"1", "2"}},
				map[string]any{"name": "b", "image": "multi\n", "resources": map[string]any{"limits": map[string]any{"cpu": "250m", "memory": 1024.0}}},
			},
		}}},
	}
	if diff := cmp.Diff(want, object); diff != "" {
		t.Error(diff)
	}
}

func TestFromTOMLProblems(t *testing.T) {
	cases := []struct{ name, from, to, want string }{
		{"unknown key", "backoffLimit = 4", "backofflimit = 4", `job.toml:9: spec.backofflimit: unknown field (did you mean "backoffLimit"?)`},
		{"wrong type", "backoffLimit = 4", `backoffLimit = "4"`, "job.toml:9: spec.backoffLimit: must be an integer of type int32, but is a string"},
		{"overflow", "backoffLimit = 4", `backoffLimit = 4000000000`, "job.toml:9: spec.backoffLimit: must be an integer of type int32, but is the integer 4000000000"},
		{"second of an array of tables", `name = "b"`, `nmae = "b"`, `job.toml:23: spec.template.spec.containers[1].nmae: unknown field (did you mean "name"?)`},
		{"after a multi-line string", `resources.limits =`, `resorces.limits =`, `job.toml:27: spec.template.spec.containers[1].resorces: unknown field (did you mean "resources"?)`},
		{"within an inline table", `memory = 1024`, `memory = "1 GB"`, `job.toml:27: spec.template.spec.containers[1].resources.limits.memory: "1 GB" is no quantity: give a number with an optional unit, such as "250m" or "64Mi"`},
		{"an element of an array", `  "2",`, `  2,`, `job.toml:17: spec.template.spec.containers[0].args[1]: must be a string, but is the integer 2`},
		{"a table wanted", "[spec]\nbackoffLimit = 4\n", "", ""},
		{"no kind", `kind = "Job"`, ``, `job.toml:1: kind: required: a string that names the kind`},
		{"syntax", `kind = "Job"`, `kind = Job`, `job.toml:2: kind: expected value but found "Job" instead`},
		{"a duplicate key", `kind = "Job"`, "kind = \"Job\"\nkind = \"Pod\"", `job.toml:3: kind: is set already, further up`},
		{"a duplicate key in an array of tables", `name = "b"`, "name = \"b\"\nname = \"c\"", `job.toml:24: spec.template.spec.containers.name: is set already, further up`},
		{"a duplicate table", `[spec.template.spec]`, "[spec]\nx = 1\n[spec.template.spec]", `job.toml:11: spec: is set already, further up`},
		{"a value and a table", `backoffLimit = 4`, "template = 4", `job.toml:11: spec.template: is set already, further up`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := FromTOML("job.toml", []byte(strings.Replace(job, c.from, c.to, 1)))
			got := ""
			if err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFromTOMLBounds(t *testing.T) {
	cases := map[string]string{
		"nested arrays":  "a = " + strings.Repeat("[", 1_000_000),
		"nested tables":  "a = " + strings.Repeat("{a=", 500_000),
		"dotted key":     strings.Repeat("a.", 500_000) + "a = 1",
		"too large":      "a = \"" + strings.Repeat("x", MaxTOML) + "\"",
		"brackets again": strings.Repeat("a = [\n", 100_000),
	}
	for name, data := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := FromTOML("x.toml", []byte(data)); err == nil {
				t.Error("accepted")
			} else if len(err.Error()) > 1000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestList(t *testing.T) {
	_, err := FromTOML("l.toml", []byte("apiVersion = \"v1\"\nkind = \"List\"\n[[items]]\napiVersion = \"v1\"\nkind = \"ConfigMap\"\nmetadata.name = \"a\"\n[[items]]\napiVersion = \"v1\"\nkind = \"ConfigMap\"\nmetadata.nme = \"a\"\n"))
	if _, ok := errors.AsType[*tomlfile.Error](err); !ok {
		t.Fatalf("got %v", err)
	}
	want := `l.toml:10: items[1].metadata.nme: unknown field (did you mean "name"?)`
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
}

func TestLooksLikeTOML(t *testing.T) {
	cases := map[string]bool{
		"apiVersion = \"v1\"":      true,
		"# hi\n\nkind = \"Pod\"":   true,
		"[metadata]\nname = \"x\"": true,
		"metadata.name = \"x\"":    true,
		"apiVersion: v1":           false,
		"{\"kind\": \"Pod\"}":      false,
		"---\nkind: Pod":           false,
		"[{\"kind\": \"Pod\"}]":    false,
		"args: [\"a=b\"]":          false,
		"- a = b":                  false,
		"":                         false,
	}
	for data, want := range cases {
		if got := LooksLikeTOML([]byte(data)); got != want {
			t.Errorf("%q: got %v", data, got)
		}
	}
}

func FuzzFromTOML(f *testing.F) {
	f.Add([]byte(job))
	f.Add([]byte("a = [[[{a=1}]]]"))
	f.Add([]byte("\"a.b\".c = 'x'\n[[a]]\n[[a.b]]\n[a.b.c]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := FromTOML("f.toml", data)
		if err == nil && !json.Valid(out) {
			t.Errorf("not JSON: %q", out)
		}
	})
}
