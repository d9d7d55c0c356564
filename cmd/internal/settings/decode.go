package settings

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/weftrun/weft/cmd/internal/tomlfile"
)

// contents is a settings file and what is wrong with it.
type contents struct {
	document *tomlfile.Document
	problems []tomlfile.Problem
	unread   map[string]bool // keys whose values cannot be used
}

// decode fills in s from a file. Values that do not fit are reported and left
// as they were, so that the rest can be checked as well.
func (s *Settings) decode(name string, content []byte) (*contents, error) {
	document, err := tomlfile.Parse(name, content)
	if err != nil {
		return nil, err
	}
	f := &contents{document: document, unread: map[string]bool{}}
	c := document.Checker("toml", "setting")
	c.Value("", document.Content, reflect.TypeFor[Settings]())
	f.problems = c.Problems()
	for _, p := range f.problems {
		f.unread[leaveOut(document.Content, p.Field)] = true
	}
	var fit bytes.Buffer
	if err := toml.NewEncoder(&fit).Encode(document.Content); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	meta, err := toml.Decode(fit.String(), s)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	s.Source, s.Quiet = name, !meta.IsDefined("log_level")
	return f, nil
}

// leaveOut removes the setting in which path lies, and returns its key: that of
// a value at the top, or of one in a table there.
func leaveOut(content map[string]any, path string) string {
	name, rest, _ := strings.Cut(path, ".")
	table, ok := content[name].(map[string]any)
	if !ok || rest == "" {
		delete(content, name)
		return name
	}
	key := rest
	if cut := strings.IndexAny(rest, ".["); cut >= 0 {
		key = rest[:cut]
	}
	delete(table, key)
	return name + "." + key
}

// check adds what is wrong with the values that fit.
func (f *contents) check(s *Settings) {
	for _, p := range s.problems(f.unread) {
		f.problems = append(f.problems, f.document.Problem(p.key, p.text))
	}
}

// err is everything that is wrong with the file.
func (f *contents) err() error {
	if len(f.problems) == 0 {
		return nil
	}
	tomlfile.Sort(f.problems)
	return &tomlfile.Error{Problems: f.problems}
}
