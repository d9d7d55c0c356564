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
	"regexp"
	"time"

	"github.com/BurntSushi/toml"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weftrun/weft/core"
)

// Limits of what is read. The API refuses a single object of over 3 MiB.
const (
	MaxFile  = 32 << 20 // bytes of a YAML or JSON file, which may hold many objects
	MaxTOML  = 3 << 20  // bytes of a TOML document, which holds one
	MaxDepth = 64       // nesting of tables and arrays in TOML
)

// Extensions that a manifest in a folder may have.
var Extensions = []string{".json", ".yaml", ".yml", ".toml"}

// FromTOML converts one TOML document, called name in errors, to JSON. A
// document holds one object, or a List with items. The error is a *Error that
// lists everything wrong with it.
func FromTOML(name string, data []byte) ([]byte, error) {
	if len(data) > MaxTOML {
		return nil, fmt.Errorf("%s: %d bytes are too large: a TOML manifest may have at most %d", name, len(data), MaxTOML)
	}
	if line, ok := tooDeep(data); ok {
		return nil, problem(name, line, "", "nested deeper than %d levels", MaxDepth)
	}
	document := map[string]any{}
	if _, err := toml.Decode(string(data), &document); err != nil {
		return nil, syntaxError(name, err)
	}
	if depth(document, 0) > MaxDepth {
		return nil, problem(name, 1, "", "nested deeper than %d levels", MaxDepth)
	}
	if err := check(name, data, document); err != nil {
		return nil, err
	}
	out, err := json.Marshal(plain(document))
	if err != nil {
		return nil, fmt.Errorf("%s: convert to JSON: %w", name, err)
	}
	return out, nil
}

// check compares a document with the schema of its kind, or of the kinds in a
// List. Kinds unknown at build time are left to the server.
func check(name string, data []byte, document map[string]any) error {
	c := checker{name: name, lines: index(data)}
	c.object("", document)
	if len(c.problems) > 0 {
		return &Error{Problems: c.problems}
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

// tooDeep finds brackets nested, or keys dotted, beyond MaxDepth before the
// parser, which is recursive and slow on them, sees them.
func tooDeep(data []byte) (line int, deep bool) {
	level, dots := 0, 0
	s := scanner{data: data}
	for s.next() {
		switch s.char {
		case '.':
			dots++
		case '[', '{':
			level++
			dots = 0
		case ']', '}':
			level = max(level-1, 0)
		case '=', ',', '\n':
			dots = 0
		}
		if level > MaxDepth || dots > MaxDepth {
			return s.line, true
		}
	}
	return 0, false
}

func depth(value any, above int) int {
	above++
	if above > MaxDepth {
		return above
	}
	deepest := above
	switch v := value.(type) {
	case map[string]any:
		for _, item := range v {
			deepest = max(deepest, depth(item, above))
		}
	case []any:
		for _, item := range v {
			deepest = max(deepest, depth(item, above))
		}
	case []map[string]any:
		for _, item := range v {
			deepest = max(deepest, depth(item, above))
		}
	}
	return deepest
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
