package executor

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// tree makes files, by their paths below a new folder.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for path, content := range files {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(content, "DIR", dir)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFindMemory(t *testing.T) {
	const line = "30 25 0:26 ROOT DIR/sys rw,nosuid shared:4 - "
	for name, c := range map[string]struct {
		cgroup, mounts string
		own            string
		second         bool
		err            string
	}{
		"version 1":          {"9:name=systemd:/\n4:cpu,memory:/a/b\n0::/u\n", line + "cgroup cgroup rw,cpu,memory\n", "/a/b", false, ""},
		"version 2":          {"0::/user.slice/x\n", line + "cgroup2 cgroup2 rw,nsdelegate\n", "/user.slice/x", true, ""},
		"in a container":     {"0::/docker/1/in\n", strings.Replace(line, "ROOT", "/docker/1", 1) + "cgroup2 cgroup2 rw\n", "/in", true, ""},
		"another controller": {"4:cpu:/\n", line + "cgroup cgroup rw,cpu\n", "", false, "no control groups: the memory controller is not mounted"},
		"nonsense":           {"::::\nx\n", "a - b\n", "", false, "no control groups: the memory controller is not mounted"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, map[string]string{"cgroup": c.cgroup, "mountinfo": strings.Replace(c.mounts, "ROOT", "/", 1)})
			mount, own, second, err := findMemory(dir)
			if c.err != "" {
				if err == nil || err.Error() != c.err {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || mount != dir+"/sys" || own != c.own || second != c.second {
				t.Errorf("got %s, %s, %v, %v", mount, own, second, err)
			}
		})
	}
}

// The files of version 2 are played by ordinary ones: which are written, and
// with what.
func TestCgroupsOfVersion2(t *testing.T) {
	dir := tree(t, map[string]string{
		"proc/cgroup": "0::/own/agent\n", "proc/mountinfo": "30 25 0:26 / DIR/sys rw - cgroup2 cgroup2 rw\n",
		"sys/own/cgroup.controllers": "cpu memory pids\n", "sys/own/cgroup.subtree_control": "memory\n",
		"sys/own/weft-1/cgroup.subtree_control": "", "sys/own/weft-1/memory.max": "max", "sys/own/weft-1/memory.swap.max": "max",
		"sys/own/weft-1/executor/memory.max": "max", "sys/own/weft-1/executor/cgroup.procs": "",
		"sys/own/weft-1/executor/memory.events": "low 0\noom 1\noom_kill 1\noom_group_kill 0\n",
	})
	g, err := openCgroups(CgroupConfig{Name: "weft-1", MemoryBytes: 1 << 30}, dir+"/proc")
	if err != nil {
		t.Fatal(err)
	}
	c, err := g.open("executor")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.add(17); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"cgroup.subtree_control": "+memory", "memory.max": "1073741824", "memory.swap.max": "0",
		"executor/memory.max": "1073741824", "executor/cgroup.procs": "17",
	} {
		if got, err := os.ReadFile(filepath.Join(g.dir, path)); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v; want %q", path, got, err, want)
		}
	}
	if c.starved() {
		t.Error("it was killed before it was there")
	}
	if err := os.WriteFile(filepath.Join(c.dir, eventsV2), []byte("oom_kill 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !c.starved() {
		t.Error("it was not killed")
	}
}

func TestCgroupsWhereThereAreNone(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no controller": {map[string]string{
			"proc/cgroup": "0::/own\n", "proc/mountinfo": "30 25 0:26 / DIR/sys rw - cgroup2 cgroup2 rw\n",
			"sys/own/cgroup.controllers": "\n",
		}, "has no memory controller"},
		"shared with others": {map[string]string{
			"proc/cgroup": "0::/own\n", "proc/mountinfo": "30 25 0:26 / DIR/sys rw - cgroup2 cgroup2 rw\n",
			"sys/own/cgroup.controllers": "memory\n", "sys/own/cgroup.procs": "1\n2\n",
		}, "the agent needs a control group of its own (systemd: Delegate=yes)"},
		"nothing mounted": {map[string]string{"proc/cgroup": "0::/\n", "proc/mountinfo": ""}, "is not mounted"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, c.files)
			if _, err := openCgroups(CgroupConfig{Name: "weft-1", MemoryBytes: 1}, dir+"/proc"); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	var none *Cgroups
	c, err := none.open("x")
	if err != nil || c.add(1) != nil || c.starved() {
		t.Errorf("none is %v, %v", c, err)
	}
	c.remove()
	none.Close()
}

// TestCgroups runs where this process may make control groups.
func TestCgroups(t *testing.T) {
	g, err := OpenCgroups(CgroupConfig{Name: "weft-test-" + strconv.Itoa(os.Getpid()), MemoryBytes: 256 << 20})
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(g.Close)
	if _, err := g.open("left"); err != nil { // as of an agent that was killed
		t.Fatal(err)
	}
	again, err := OpenCgroups(CgroupConfig{Name: filepath.Base(g.dir), MemoryBytes: 256 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(g.dir, "left")); !os.IsNotExist(err) {
		t.Errorf("what an agent left is there: %v", err)
	}
	again.Close()
	if _, err := os.Stat(g.dir); !os.IsNotExist(err) {
		t.Errorf("the group is left: %v", err)
	}
}
