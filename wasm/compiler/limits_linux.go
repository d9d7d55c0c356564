package compiler

import (
	"log/slog"
	"os"
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

// bound ends this process if it wants more memory than that, or if the machine has
// none left: it is the one to be spared the least.
func bound(bytes int64, log *slog.Logger) {
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0); err != nil {
		log.Warn("compiler is not the first to end where memory is short", "err", err)
	}
	if bytes <= 0 {
		return
	}
	debug.SetMemoryLimit(bytes / 4 * 3)
	if err := syscall.Setrlimit(rlimitData, &syscall.Rlimit{Cur: uint64(bytes), Max: uint64(bytes)}); err != nil {
		log.Warn("compiler's memory is not bounded", "err", err)
	}
}
