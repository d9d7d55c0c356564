package host

import (
	"bytes"
	"log/slog"
	"sync"
	"time"
)

// maxLine bounds a line of a plugin's output, in bytes.
const maxLine = 4 << 10

// maxLines bounds the lines of a plugin's output that are logged in a second.
const maxLines = 200

// lineLogger logs each line written to it, so long as there are not too many.
type lineLogger struct {
	log *slog.Logger

	mu     sync.Mutex
	rest   []byte
	second time.Time // when the current second began
	lines  int       // in it
}

func (l *lineLogger) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, data...)
	for {
		end := bytes.IndexByte(l.rest, '\n')
		if end < 0 && len(l.rest) < maxLine {
			return len(data), nil
		}
		if end < 0 || end > maxLine {
			end = maxLine
		}
		if line := bytes.TrimSpace(l.rest[:end]); len(line) > 0 {
			l.say(line)
		}
		l.rest = append(l.rest[:0], bytes.TrimPrefix(l.rest[end:], []byte("\n"))...)
	}
}

func (l *lineLogger) say(line []byte) {
	if now := time.Now(); now.Sub(l.second) >= time.Second {
		if left := l.lines - maxLines; left > 0 {
			l.log.Warn("plugin says too much", "dropped", left)
		}
		l.second, l.lines = now, 0
	}
	if l.lines++; l.lines <= maxLines {
		l.log.Info("plugin says", "text", string(line))
	}
}
