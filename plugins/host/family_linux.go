package host

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// endFamily kills every process that has mark, a NAME=value, in the environment
// that it was started with, and returns how many it has killed. A process's
// group would not do: one may leave it, and it has no name once its leader has
// ended.
func endFamily(mark string) int {
	killed := 0
	// What one starts while the others are looked at is found the next time.
	for range 3 {
		n := killMarked([]byte(mark))
		killed += n
		if n == 0 {
			break
		}
	}
	return killed
}

func killMarked(mark []byte) (killed int) {
	paths, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0
	}
	for _, path := range paths {
		pid, err := strconv.Atoi(filepath.Base(path))
		if err != nil || pid == os.Getpid() || !isMarked(pid, mark) {
			continue
		}
		// A handle keeps the number from meaning another process; that it is
		// the one wanted is looked at once more.
		process, err := os.FindProcess(pid)
		if err != nil {
			continue
		}
		if isMarked(pid, mark) && process.Kill() == nil {
			killed++
		}
		_ = process.Release() // nobody waits for it here
	}
	return killed
}

func isMarked(pid int, mark []byte) bool {
	environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)) // none of another user's, and of one that has ended
	return err == nil && slices.ContainsFunc(bytes.Split(environment, []byte{0}), func(pair []byte) bool { return bytes.Equal(pair, mark) })
}

// resident returns the bytes of memory that a child holds; none if it has
// ended, and known is false if that cannot be told.
func resident(pid int) (used int64, known bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		_, err = os.Stat("/proc/self")
		return 0, err == nil // it has been waited for
	}
	if err != nil {
		return 0, false
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(data), &size, &pages); err != nil {
		return 0, false
	}
	return pages * int64(os.Getpagesize()), true
}
