package cluster

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"
)

// screen is where the greeting goes. On a terminal one line at the end tells
// of what goes on and is written over; elsewhere everything is plain and such a
// line comes now and then. It is for one goroutine.
type screen struct {
	out      io.Writer
	terminal bool
	passing  string // the line that will be written over
	told     time.Time
}

// tellEvery is how often it is said what goes on where nothing is written over.
const tellEvery = 5 * time.Second

func newScreen(out io.Writer) *screen {
	s := &screen{out: out}
	if file, ok := out.(*os.File); ok {
		info, err := file.Stat()
		s.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
	}
	return s
}

// say prints a line to stay.
func (s *screen) say(format string, args ...any) {
	s.clear()
	fmt.Fprintf(s.out, format+"\n", args...)
}

// head prints a line that begins something.
func (s *screen) head(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if s.terminal && os.Getenv("NO_COLOR") == "" {
		text = "\x1b[1m" + text + "\x1b[0m"
	}
	s.say("%s", text)
}

// tell says what goes on at present.
func (s *screen) tell(text string) {
	switch {
	case text == s.passing:
	case s.terminal:
		s.clear()
		fmt.Fprintf(s.out, "  %s", cut(text, 100)) // a longer line would wrap and stay
		s.passing = text
	case time.Since(s.told) > tellEvery:
		fmt.Fprintf(s.out, "  %s\n", text)
		s.passing, s.told = text, time.Now()
	}
}

// clear removes the line that tells what goes on.
func (s *screen) clear() {
	if s.terminal && s.passing != "" {
		fmt.Fprint(s.out, "\r\x1b[K")
	}
	if s.terminal {
		s.passing = ""
	}
}

// Write prints text to stay, each line moved in.
func (s *screen) Write(data []byte) (int, error) {
	s.clear()
	for line := range strings.Lines(string(data)) {
		if _, err := fmt.Fprintf(s.out, "  %s\n", strings.TrimRight(line, "\n")); err != nil {
			return 0, err
		}
	}
	return len(data), nil
}

// cut shortens text to so many characters.
func cut(text string, most int) string {
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-3]) + "..."
}
