package executor

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// CgroupConfig says where the control groups of executors are made.
type CgroupConfig struct {
	// Parent is a control group by its path below the mount point, such as
	// /weft.slice. Optional: the agent's own.
	Parent string
	// Name of the group that is made there, with one in it for each executor.
	// It tells apart what shares the parent; what is before its first hyphen is
	// the same for all. Required.
	Name string
	// MemoryBytes is what all executors together, and so each of them, may use.
	// Required.
	MemoryBytes int64
}

// Cgroups makes a control group for each executor. A nil one makes none.
type Cgroups struct {
	dir    string // of the group that holds those of the executors
	second bool   // version 2
	limit  int64
}

// The files of a control group, by version.
const (
	procsFile  = "cgroup.procs"
	limitV1    = "memory.limit_in_bytes"
	limitV2    = "memory.max"
	swapV1     = "memory.memsw.limit_in_bytes"
	swapV2     = "memory.swap.max"
	eventsV1   = "memory.oom_control"
	eventsV2   = "memory.events"
	subtree    = "cgroup.subtree_control"
	agentGroup = "agent" // where the agent itself moves if it must
)

// OpenCgroups makes the group that holds those of the executors, and removes
// what an agent left there that was killed. The error says why memory cannot be
// capped here.
func OpenCgroups(c CgroupConfig) (*Cgroups, error) { return openCgroups(c, "/proc/self") }

// openCgroups reads what the kernel says of this process in the folder proc.
func openCgroups(c CgroupConfig, proc string) (*Cgroups, error) {
	if c.Name == "" || c.MemoryBytes <= 0 {
		return nil, errors.New("cgroups: Name and MemoryBytes are required")
	}
	g := &Cgroups{limit: c.MemoryBytes}
	mount, own, second, err := findMemory(proc)
	if err != nil {
		return nil, err
	}
	if second && filepath.Base(own) == agentGroup {
		own = filepath.Dir(own) // it moved there, or was put there for this
	}
	if c.Parent != "" {
		own = c.Parent
	}
	parent := filepath.Join(mount, own)
	g.dir, g.second = filepath.Join(parent, c.Name), second
	if _, err := os.Stat(parent); err != nil {
		return nil, fmt.Errorf("no control group to make others in: %w", err)
	}
	if second {
		if err := delegate(parent); err != nil {
			return nil, err
		}
	}
	if err := os.Mkdir(g.dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make control group: %w", err)
	}
	sweep(g.dir, 0)
	sweepOthers(parent, c.Name)
	if second {
		err = put(g.dir, subtree, "+memory")
	}
	if err == nil {
		err = g.cap(g.dir)
	}
	if err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// findMemory finds where the memory controller is, and this process in it.
func findMemory(proc string) (mount, own string, second bool, err error) {
	groups, err := os.ReadFile(filepath.Join(proc, "cgroup"))
	if err != nil {
		return "", "", false, fmt.Errorf("no control groups: %w", err)
	}
	mounts, err := os.ReadFile(filepath.Join(proc, "mountinfo"))
	if err != nil {
		return "", "", false, fmt.Errorf("no control groups: %w", err)
	}
	var v1, v2 string
	for line := range strings.Lines(string(groups)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(parts) != 3:
		case parts[0] == "0" && parts[1] == "":
			v2 = parts[2]
		case slices.Contains(strings.Split(parts[1], ","), "memory"):
			v1 = parts[2]
		}
	}
	for line := range strings.Lines(string(mounts)) {
		before, after, ok := strings.Cut(line, " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(kind) < 3 {
			continue
		}
		root, point := fields[3], fields[4]
		switch {
		case kind[0] == "cgroup" && v1 != "" && slices.Contains(strings.Split(kind[2], ","), "memory"):
			return point, below(v1, root), false, nil
		case kind[0] == "cgroup2" && v1 == "" && v2 != "":
			return point, below(v2, root), true, nil
		}
	}
	return "", "", false, errors.New("no control groups: the memory controller is not mounted")
}

// below returns path as seen from a mount of root.
func below(path, root string) string {
	if rest, ok := strings.CutPrefix(path, root); ok {
		return "/" + strings.TrimPrefix(rest, "/")
	}
	return path
}

// delegate has the children of a group of version 2 have the memory controller.
// A group with processes cannot, so this one goes into a child of its own if it
// is alone there.
func delegate(parent string) error {
	controllers, err := os.ReadFile(filepath.Join(parent, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("read controllers: %w", err)
	}
	if !slices.Contains(strings.Fields(string(controllers)), "memory") {
		return fmt.Errorf("the control group %s has no memory controller", parent)
	}
	enabled, err := os.ReadFile(filepath.Join(parent, subtree))
	if err == nil && slices.Contains(strings.Fields(string(enabled)), "memory") {
		return nil
	}
	refused := put(parent, subtree, "+memory")
	if refused == nil {
		return nil
	}
	self := strconv.Itoa(os.Getpid())
	inside, err := os.ReadFile(filepath.Join(parent, procsFile))
	if err != nil || strings.Join(strings.Fields(string(inside)), " ") != self {
		return fmt.Errorf("%w; the agent needs a control group of its own (systemd: Delegate=yes)", refused)
	}
	leaf := filepath.Join(parent, agentGroup)
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make control group: %w", err)
	}
	if err := put(leaf, procsFile, self); err != nil {
		return err
	}
	return put(parent, subtree, "+memory")
}

func put(dir, file, value string) error {
	// Not WriteFile, which would make what is not there.
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return fmt.Errorf("set %s: %w", file, err)
	}
	if _, err := f.WriteString(value); err != nil {
		return errors.Join(fmt.Errorf("set %s to %s: %w", file, value, err), f.Close())
	}
	return f.Close()
}

// cap limits a group. Swap counts with memory where the kernel tells it apart.
func (g *Cgroups) cap(dir string) error {
	limit, swap, swapValue := limitV1, swapV1, strconv.FormatInt(g.limit, 10)
	if g.second {
		limit, swap, swapValue = limitV2, swapV2, "0"
	}
	if err := put(dir, limit, strconv.FormatInt(g.limit, 10)); err != nil {
		return err
	}
	if err := put(dir, swap, swapValue); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Limit is the cap in bytes.
func (g *Cgroups) Limit() int64 { return g.limit }

// sweep removes the groups in dir that have no processes and are that old.
func sweep(dir string, age time.Duration) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && e.IsDir() && time.Since(info.ModTime()) >= age {
			_ = os.Remove(filepath.Join(dir, e.Name())) // fails while something runs in it
		}
	}
}

// sweepOthers removes what agents left that were killed and whose data folders
// will perhaps never be used again: groups of names like this one's, in which
// nothing runs. Those of an agent that just starts are spared.
func sweepOthers(parent, name string) {
	const age = time.Minute
	kind, _, ok := strings.Cut(name, "-")
	if !ok {
		return
	}
	others, err := filepath.Glob(globEscape(filepath.Join(parent, kind)) + "-*")
	if err != nil {
		return
	}
	for _, dir := range others {
		if info, err := os.Stat(dir); err == nil && filepath.Base(dir) != name && time.Since(info.ModTime()) >= age {
			sweep(dir, age)
			_ = os.Remove(dir) // fails while something is in it
		}
	}
}

// Close removes the groups, if nothing runs in them any more.
func (g *Cgroups) Close() {
	if g == nil {
		return
	}
	sweep(g.dir, 0)
	_ = os.Remove(g.dir) // stays if an executor lives on
}

// cgroup is that of one executor. A nil one caps nothing.
type cgroup struct {
	all    *Cgroups
	dir    string
	killed int64 // by the out-of-memory killer, when it was opened
}

// open makes the group of that name, or returns the one of a process that lives
// on.
func (g *Cgroups) open(name string) (*cgroup, error) {
	if g == nil {
		return nil, nil //nolint:nilnil // a nil one caps nothing
	}
	c := &cgroup{all: g, dir: filepath.Join(g.dir, name)}
	if err := os.Mkdir(c.dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make control group: %w", err)
	}
	if err := g.cap(c.dir); err != nil {
		c.remove()
		return nil, err
	}
	c.killed = c.kills()
	return c, nil
}

// add puts a process into the group.
func (c *cgroup) add(pid int) error {
	if c == nil {
		return nil
	}
	return put(c.dir, procsFile, strconv.Itoa(pid))
}

// starved tells whether the out-of-memory killer has been in the group since it
// was opened.
func (c *cgroup) starved() bool { return c != nil && c.kills() > c.killed }

func (c *cgroup) kills() int64 {
	name := eventsV1
	if c.all.second {
		name = eventsV2
	}
	f, err := os.Open(filepath.Join(c.dir, name))
	if err != nil {
		return 0
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if n, ok := strings.CutPrefix(lines.Text(), "oom_kill "); ok {
			count, _ := strconv.ParseInt(n, 10, 64) // 0 if it is no number
			return count
		}
	}
	return 0
}

// remove removes the group once its process has ended.
func (c *cgroup) remove() {
	if c == nil {
		return
	}
	// A process that was killed leaves its group a moment after it has ended.
	for begin := time.Now(); time.Since(begin) < time.Second; time.Sleep(time.Millisecond) {
		if err := os.Remove(c.dir); err == nil || errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
}
