package tomlfile

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// Problem is one thing wrong with a document.
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

// Error lists all problems of a document, in the order of their lines.
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

// Sort puts problems in the order of their lines.
func Sort(problems []Problem) {
	slices.SortStableFunc(problems, func(a, b Problem) int { return a.Line - b.Line })
}

func syntaxError(file string, err error) error {
	parse, ok := errors.AsType[toml.ParseError](err)
	if !ok {
		return fmt.Errorf("%s: %w", file, err)
	}
	field, message := parse.LastKey, parse.Message
	if twice := again.FindStringSubmatch(message); twice != nil {
		field, message = twice[1], "is set already, further up"
	}
	return problem(file, max(parse.Position.Line, 1), field, "%s", inSentence(message))
}

// again is what the parser says of a key that is set a second time.
var again = regexp.MustCompile(`^Key '(.*)' (?:has already been defined|was already created.*)\.$`)

// inSentence makes a sentence a part of one.
func inSentence(text string) string {
	text = strings.TrimSuffix(text, ".")
	first, size := utf8.DecodeRuneInString(text)
	return string(unicode.ToLower(first)) + text[size:]
}
