package compiler

import (
	"log/slog"
	"runtime/debug"
	"syscall"
)

// niceness leaves guests and their node three times the time, where all want it.
const niceness = 5

// yield gives this process a lower priority. The whole group is named, as its
// own number would mean one of its threads.
func yield(log *slog.Logger) {
	if err := syscall.Setpriority(syscall.PRIO_PGRP, 0, niceness); err != nil {
		log.Warn("compiler works with the usual priority", "err", err)
	}
}

// rlimitData counts what a process may write to, and not the address space that
// it reserved: the syscall package has no name for it.
const rlimitData = 2

// bound ends this process if it wants more memory than that.
func bound(bytes int64, log *slog.Logger) {
	if bytes <= 0 {
		return
	}
	debug.SetMemoryLimit(bytes / 4 * 3)
	if err := syscall.Setrlimit(rlimitData, &syscall.Rlimit{Cur: uint64(bytes), Max: uint64(bytes)}); err != nil {
		log.Warn("compiler's memory is not bounded", "err", err)
	}
}
