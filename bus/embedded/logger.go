package embedded

import (
	"fmt"
	"log/slog"
	"sync/atomic"
)

// logger passes on what the server logs: its notices are details here, so
// they become debug messages.
type logger struct {
	to    *slog.Logger
	hear  func(text string) // is told of errors
	fatal atomic.Pointer[string]
}

func (l *logger) Noticef(format string, v ...any) { l.to.Debug("NATS server", "text", text(format, v)) }
func (l *logger) Debugf(format string, v ...any)  { l.to.Debug("NATS server", "text", text(format, v)) }
func (l *logger) Tracef(format string, v ...any)  { l.to.Debug("NATS server", "text", text(format, v)) }
func (l *logger) Warnf(format string, v ...any)   { l.to.Warn("NATS server", "text", text(format, v)) }

// Errorf implements server.Logger.
func (l *logger) Errorf(format string, v ...any) {
	s := text(format, v)
	l.hear(s)
	l.to.Error("NATS server", "text", s)
}

// Fatalf is how the server reports that it cannot start.
func (l *logger) Fatalf(format string, v ...any) {
	s := text(format, v)
	l.fatal.CompareAndSwap(nil, &s)
	l.to.Error("NATS server", "text", s)
}

func text(format string, v []any) string { return fmt.Sprintf(format, v...) }
