package guard

import (
	"bytes"
	"os"
	"strconv"
)

// descendant is a process below this one.
type descendant struct {
	pid     int
	started string // tells it from a later one with that number
}

// killAll kills every process below this one that there is now.
func killAll() {
	for _, d := range descendants() {
		// A handle keeps the number from meaning another process; that it is
		// the one wanted is looked at once more.
		process, err := os.FindProcess(d.pid)
		if err != nil {
			continue
		}
		if _, started, ok := look(d.pid); ok && started == d.started {
			_ = process.Kill() // it may have ended meanwhile
		}
		_ = process.Release() // it is waited for by whom it belongs to
	}
}

// descendants returns the processes below this one, parents first.
func descendants() []descendant {
	folder, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer func() { _ = folder.Close() }() // was only read
	names, err := folder.Readdirnames(-1)
	if err != nil && len(names) == 0 {
		return nil
	}
	children := map[int][]descendant{}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if parent, started, ok := look(pid); ok {
			children[parent] = append(children[parent], descendant{pid, started})
		}
	}
	found := children[os.Getpid()]
	for i := 0; i < len(found); i++ {
		pid := found[i].pid
		found = append(found, children[pid]...)
		delete(children, pid) // once is enough, whatever changed while they were read
	}
	return found
}

// look returns a process's parent, and when it was started. A program may have
// anything in its name, so it is passed over from behind.
func look(pid int) (parent int, started string, ok bool) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, "", false
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return 0, "", false
	}
	parent, err = strconv.Atoi(string(fields[1]))
	return parent, string(fields[19]), err == nil
}
