package manifest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/BurntSushi/toml"
)

// Problem is one thing wrong with a manifest.
type Problem struct {
	File    string
	Line    int    // from 1
	Field   string // "spec.template.spec.containers[0].image"; may be empty
	Message string
}

func (p Problem) String() string {
	if p.Field == "" {
		return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Message)
	}
	return fmt.Sprintf("%s:%d: %s: %s", p.File, p.Line, p.Field, p.Message)
}

// Error lists all problems of a manifest, in the order of their lines.
type Error struct{ Problems []Problem }

// maxShown bounds what an error prints.
const maxShown = 20

func (e *Error) Error() string {
	var lines []string
	for i, p := range e.Problems {
		if i == maxShown {
			lines = append(lines, fmt.Sprintf("and %d more", len(e.Problems)-i))
			break
		}
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

func problem(file string, line int, field, format string, args ...any) *Error {
	return &Error{Problems: []Problem{{File: file, Line: line, Field: field, Message: fmt.Sprintf(format, args...)}}}
}

func syntaxError(file string, err error) error {
	if parse, ok := errors.AsType[toml.ParseError](err); ok {
		return problem(file, max(parse.Position.Line, 1), parse.LastKey, "%s", parse.Message)
	}
	return fmt.Errorf("%s: %w", file, err)
}
