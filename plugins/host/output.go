package host

import (
	"bytes"
	"log/slog"
	"sync"
)

// maxLine bounds a line of a plugin's output, in bytes.
const maxLine = 4 << 10

// lineLogger logs each line written to it.
type lineLogger struct {
	log *slog.Logger

	mu   sync.Mutex
	rest []byte
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
			l.log.Info("plugin says", "text", string(line))
		}
		l.rest = append(l.rest[:0], bytes.TrimPrefix(l.rest[end:], []byte("\n"))...)
	}
}
