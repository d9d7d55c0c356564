//go:build !linux

package executor

import "log/slog"

func shed() error { return nil }

func closeOnExec() {}

func settle(*slog.Logger) {}

// harden does nothing but say so.
func harden(_ Sandboxing, log *slog.Logger) {
	log.Warn("system calls of the executor are not filtered: that takes Linux")
}
