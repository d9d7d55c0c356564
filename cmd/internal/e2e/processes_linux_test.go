package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// process is one that runs, or ran.
type process struct {
	pid, parent int
	started     string // tells it from a later one of the same pid
	command     string
	ended       bool // and nobody has waited for it
}

// endWithThisProcess keeps a crashed run of the tests from leaving clusters.
func endWithThisProcess() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

func readProcess(pid int) (process, bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return process{}, false
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return process{}, false
	}
	command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // empty if it has ended
	return process{
		pid: pid, parent: parent, started: fields[19], ended: fields[0] == "Z" || fields[0] == "X",
		command: strings.TrimSpace(strings.ReplaceAll(string(command), "\x00", " ")),
	}, true
}

func (p process) alive() bool {
	now, ok := readProcess(p.pid)
	return ok && now.started == p.started && !now.ended
}

// processes are those of the cluster: the first one and all below it.
func (c *cluster) processes() []process {
	paths, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		c.t.Fatal(err)
	}
	var all []process
	for _, path := range paths {
		pid, err := strconv.Atoi(filepath.Base(path))
		if err != nil {
			continue
		}
		if p, ok := readProcess(pid); ok && !p.ended {
			all = append(all, p)
		}
	}
	family := slices.DeleteFunc(slices.Clone(all), func(p process) bool { return p.pid != c.cmd.Process.Pid })
	for i := 0; i < len(family); i++ {
		for _, p := range all {
			if p.parent == family[i].pid {
				family = append(family, p)
			}
		}
	}
	return family
}

// running returns the cluster's processes whose command line contains text.
func (c *cluster) running(text string) []process {
	return slices.DeleteFunc(c.processes(), func(p process) bool { return !strings.Contains(p.command, text) })
}
