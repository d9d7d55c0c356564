//go:build !linux

package compiler

import (
	"log/slog"
	"runtime/debug"
)

func yield(*slog.Logger) {}

// bound has the collector work harder; nothing else bounds the process.
func bound(bytes int64, _ *slog.Logger) {
	if bytes > 0 {
		debug.SetMemoryLimit(bytes / 4 * 3)
	}
}
