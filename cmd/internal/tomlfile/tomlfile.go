// Package tomlfile reads TOML strictly: whatever does not fit a Go type is
// reported with file, line and key, all at once. It must not know what the
// content is for.
package tomlfile

import (
	"github.com/BurntSushi/toml"
)

// MaxDepth bounds the nesting of tables and arrays.
const MaxDepth = 64

// Document is the content of one file.
type Document struct {
	Name    string // the file's, for messages
	Content map[string]any

	lines lines
}

// Parse reads a document, called name in messages. The error is an *Error if
// it is no TOML, or is nested too deeply.
func Parse(name string, data []byte) (*Document, error) {
	if line, ok := tooDeep(data); ok {
		return nil, problem(name, line, "", "nested deeper than %d levels", MaxDepth)
	}
	d := &Document{Name: name, Content: map[string]any{}}
	if _, err := toml.Decode(string(data), &d.Content); err != nil {
		return nil, syntaxError(name, err)
	}
	if depth(d.Content, 0) > MaxDepth {
		return nil, problem(name, 1, "", "nested deeper than %d levels", MaxDepth)
	}
	d.lines = index(data)
	return d, nil
}

// Checker returns one that has found nothing yet.
func (d *Document) Checker(tag, noun string) *Checker {
	return &Checker{Tag: tag, Noun: noun, document: d}
}

// Problem is one with the value at path.
func (d *Document) Problem(path, message string) Problem {
	return Problem{File: d.Name, Line: d.lines.at(path), Field: path, Message: message}
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
