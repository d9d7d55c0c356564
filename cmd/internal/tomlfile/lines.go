package tomlfile

import (
	"bytes"
	"fmt"
	"strings"
)

// lines maps the paths of keys, such as spec.containers[1].image, to the line
// on which each is set. The parser does not tell for arrays of tables.
type lines map[string]int

// at returns the line of path, or of what encloses it most closely.
func (l lines) at(path string) int {
	for path != "" {
		if line, ok := l[path]; ok {
			return line
		}
		cut := strings.LastIndexAny(path, ".[")
		if cut < 0 {
			break
		}
		path = path[:cut]
	}
	return 1
}

// index reads a document that is known to be valid.
func index(data []byte) lines {
	found := lines{}
	counts := map[string]int{}
	table := ""
	s := scanner{data: data}
	for s.statement() {
		text := s.text
		switch {
		case strings.HasPrefix(text, "[["):
			name := elements(keyPath(strings.Trim(text, "[] \t")), counts)
			element := fmt.Sprintf("%s[%d]", name, counts[name])
			counts[name]++
			table = element
			found.set(name, s.start)
			found.set(table, s.start)
		case strings.HasPrefix(text, "["):
			table = elements(keyPath(strings.Trim(text, "[] \t")), counts)
			found.set(table, s.start)
		default:
			key := keyPath(text)
			if table != "" {
				key = append([]string{table}, key...)
			}
			for i := range key {
				found.set(strings.Join(key[:i+1], "."), s.start)
			}
		}
	}
	return found
}

func (l lines) set(path string, line int) {
	if _, ok := l[path]; !ok {
		l[path] = line
	}
}

// elements joins a table's path and points each array of tables on the way to
// its newest element, as TOML does.
func elements(path []string, counts map[string]int) string {
	joined := ""
	for i, part := range path {
		if joined != "" {
			joined += "."
		}
		joined += part
		if n := counts[joined]; n > 0 && i < len(path)-1 {
			joined = fmt.Sprintf("%s[%d]", joined, n-1)
		}
	}
	return joined
}

// keyPath splits the dotted key at the start of text, up to a '=' if there is
// one, and removes quotes.
func keyPath(text string) []string {
	var path []string
	var part strings.Builder
	quote := byte(0)
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			part.WriteByte(c)
		case c == '"' || c == '\'':
			quote = c
		case c == '=':
			return append(path, part.String())
		case c == '.':
			path = append(path, part.String())
			part.Reset()
		case c != ' ' && c != '\t':
			part.WriteByte(c)
		}
	}
	return append(path, part.String())
}

// scanner walks over TOML outside strings and comments.
type scanner struct {
	data []byte
	pos  int
	line int // of char, from 1
	char byte

	start int    // line on which the statement began
	text  string // the statement's first line
}

// next moves to the next character that is neither in a string nor a comment.
func (s *scanner) next() bool {
	if s.line == 0 {
		s.line = 1
	} else if s.char == '\n' {
		s.line++
	}
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; c {
		case '#':
			for s.pos < len(s.data) && s.data[s.pos] != '\n' {
				s.pos++
			}
		case '"', '\'':
			s.skipString(c)
		default:
			s.char = c
			s.pos++
			return true
		}
	}
	return false
}

func (s *scanner) skipString(quote byte) {
	long := string([]byte{quote, quote, quote})
	if strings.HasPrefix(string(s.data[s.pos:min(s.pos+3, len(s.data))]), long) {
		s.skipLong(quote, long)
		return
	}
	for s.pos++; s.pos < len(s.data); s.pos++ {
		switch c := s.data[s.pos]; {
		case c == '\\' && quote == '"':
			s.pos++
		case c == quote:
			s.pos++
			return
		case c == '\n':
			return
		}
	}
}

func (s *scanner) skipLong(quote byte, end string) {
	for s.pos += 3; s.pos < len(s.data); s.pos++ {
		switch c := s.data[s.pos]; {
		case c == '\n':
			s.line++
		case c == '\\' && quote == '"':
			s.pos++
			if s.pos < len(s.data) && s.data[s.pos] == '\n' {
				s.line++
			}
		case strings.HasPrefix(string(s.data[s.pos:min(s.pos+3, len(s.data))]), end):
			s.pos += 3
			for s.pos < len(s.data) && s.data[s.pos] == quote {
				s.pos++
			}
			return
		}
	}
}

// statement moves over the next statement: a header, or a key with its value,
// which may span lines.
func (s *scanner) statement() bool {
	from, ok := s.begin()
	if !ok {
		return false
	}
	level := 0
	for {
		switch s.char {
		case '[', '{':
			level++
		case ']', '}':
			level--
		}
		if s.char == '\n' && level <= 0 || !s.next() {
			s.text = strings.TrimSpace(string(s.data[from:min(s.pos, len(s.data))]))
			return true
		}
	}
}

// begin moves to the first character of the next statement. A quoted key is a
// string, which next passes over: the statement then begins before it.
func (s *scanner) begin() (from int, ok bool) {
	for {
		before := s.pos
		if !s.next() {
			return 0, false
		}
		passed := s.data[before : s.pos-1]
		if len(bytes.TrimSpace(passed)) > 0 && passed[0] != '#' {
			s.start = s.line
			return before, true
		}
		if !strings.ContainsRune(" \t\r\n", rune(s.char)) {
			s.start = s.line
			return s.pos - 1, true
		}
	}
}
