// Package manifest reads objects from manifests in TOML, YAML and JSON, which
// share one schema: that of Kubernetes. It must not talk to a cluster.
//
// TOML is checked strictly before it leaves the machine, because only here
// its lines are known: every unknown key and every value of a wrong type is
// reported with file, line and field.
package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weftrun/weft/cmd/internal/tomlfile"
	"github.com/weftrun/weft/core"
)

// Limits of what is read. The API refuses a single object of over 3 MiB.
const (
	MaxFile = 32 << 20 // bytes of a YAML or JSON file, which may hold many objects
	MaxTOML = 3 << 20  // bytes of a TOML document, which holds one
)

// Extensions that a manifest in a folder may have.
var Extensions = []string{".json", ".yaml", ".yml", ".toml"}

// FromTOML converts one TOML document, called name in errors, to JSON. A
// document holds one object, or a List with items. The error is a *tomlfile.Error that
// lists everything wrong with it.
func FromTOML(name string, data []byte) ([]byte, error) {
	if len(data) > MaxTOML {
		return nil, fmt.Errorf("%s: %d bytes are too large: a TOML manifest may have at most %d", name, len(data), MaxTOML)
	}
	document, err := tomlfile.Parse(name, data)
	if err != nil {
		return nil, err
	}
	if err := check(document); err != nil {
		return nil, err
	}
	out, err := json.Marshal(plain(document.Content))
	if err != nil {
		return nil, fmt.Errorf("%s: convert to JSON: %w", name, err)
	}
	return out, nil
}

// check compares a document with the schema of its kind, or of the kinds in a
// List. Kinds unknown at build time are left to the server.
func check(document *tomlfile.Document) error {
	c := document.Checker("json", "field")
	object(c, "", document.Content)
	if problems := c.Problems(); len(problems) > 0 {
		return &tomlfile.Error{Problems: problems}
	}
	return nil
}

// object checks one object, or the objects of a List.
func object(c *tomlfile.Checker, path string, content map[string]any) {
	for _, key := range []string{"apiVersion", "kind"} {
		if value, _ := content[key].(string); value == "" {
			c.Report(tomlfile.Join(path, key), "required: a string that names the %s", key)
		}
	}
	if content["kind"] == "List" && content["apiVersion"] == "v1" {
		for i, item := range tables(content["items"]) {
			object(c, fmt.Sprintf("%s[%d]", tomlfile.Join(path, "items"), i), item)
		}
		return
	}
	gvk, known := kindOf(content)
	if !known {
		return
	}
	typed, err := core.Scheme().New(gvk)
	if err != nil {
		c.Report(path, "%v", err)
		return
	}
	c.Value(path, content, reflect.TypeOf(typed).Elem())
}

func tables(value any) []map[string]any {
	switch items := value.(type) {
	case []map[string]any:
		return items
	case []any:
		var out []map[string]any
		for _, item := range items {
			if table, ok := item.(map[string]any); ok {
				out = append(out, table)
			}
		}
		return out
	}
	return nil
}

func kindOf(document map[string]any) (schema.GroupVersionKind, bool) {
	version, _ := document["apiVersion"].(string)
	kind, _ := document["kind"].(string)
	gv, err := schema.ParseGroupVersion(version)
	if err != nil || kind == "" || gv.Version == "" {
		return schema.GroupVersionKind{}, false
	}
	gvk := gv.WithKind(kind)
	return gvk, core.Scheme().Recognizes(gvk)
}

// plain turns what TOML knows and JSON does not (dates) into strings.
func plain(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for k, item := range v {
			v[k] = plain(item)
		}
	case []any:
		for i, item := range v {
			v[i] = plain(item)
		}
	case []map[string]any:
		for i, item := range v {
			v[i], _ = plain(item).(map[string]any)
		}
	case time.Time:
		return v.Format(time.RFC3339Nano)
	}
	return value
}

var tomlStart = regexp.MustCompile(`^(\[\[?[A-Za-z0-9_."' -]+\]\]?\s*(#.*)?$|[A-Za-z0-9_."'-]+(\s*\.\s*[A-Za-z0-9_."'-]+)*\s*=)`)

// LooksLikeTOML tells TOML from YAML and JSON by the first line that says
// something, for content that has no file name.
func LooksLikeTOML(data []byte) bool {
	for len(data) > 0 {
		line, rest, _ := bytes.Cut(data, []byte("\n"))
		data = rest
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		return tomlStart.Match(line)
	}
	return false
}
