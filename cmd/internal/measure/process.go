package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// process is one process of a cluster.
type process struct {
	pid  int
	role string // core, plugin, node or executor
}

// ticks are the clock ticks in a second that Linux counts CPU time in.
const ticks = 100

// tree lists a process and its descendants.
func tree(root int) ([]process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	children := map[int][]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if stat, err := readStat(pid); err == nil { // it may have ended
			children[stat.parent] = append(children[stat.parent], pid)
		}
	}
	var out []process
	for queue := []int{root}; len(queue) > 0; queue = queue[1:] {
		pid := queue[0]
		queue = append(queue, children[pid]...)
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			continue // ended
		}
		if words := strings.Split(string(line), "\x00"); len(words) > 1 {
			out = append(out, process{pid, role(words[1])})
		}
	}
	return out, nil
}

// role names a process by its command.
func role(command string) string {
	if command == "up" {
		return "core"
	}
	return command
}

type stat struct {
	parent int
	cpu    float64 // seconds, in user and system mode
}

func readStat(pid int) (stat, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	return parseStat(data)
}

// parseStat reads the content of /proc/PID/stat. The program's name, in
// parentheses, may itself hold spaces and parentheses.
func parseStat(data []byte) (stat, error) {
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 13 {
		return stat{}, fmt.Errorf("read stat of a process: %d fields", len(fields))
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return stat{}, fmt.Errorf("read stat of a process: %w", err)
	}
	total := 0
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			return stat{}, fmt.Errorf("read stat of a process: %w", err)
		}
		total += n
	}
	return stat{parent: parent, cpu: float64(total) / ticks}, nil
}

// memory is what one process takes, in MB of 2^20 bytes.
type memory struct {
	pss     float64 // its own, and its share of what it shares
	private float64 // of that, what it alone has written to
}

func readMemory(pid int) (memory, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return memory{}, fmt.Errorf("read memory: %w", err)
	}
	return parseMemory(data), nil
}

func parseMemory(data []byte) memory {
	var m memory
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}
		kib, err := strconv.ParseFloat(fields[1], 64)
		if err != nil {
			continue // the heading
		}
		switch fields[0] {
		case "Pss:":
			m.pss = kib / 1024
		case "Private_Dirty:":
			m.private = kib / 1024
		}
	}
	return m
}
