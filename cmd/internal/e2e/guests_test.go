package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// maxSilence is how long a neighbour of hostile guests, which writes a line each
// 50 ms, may be silent, on a machine that runs other tests as well.
const maxSilence = 2 * time.Second

// hostilePod is a pod of a module that does harm, and what its user is told.
type hostilePod struct {
	name, module string
	memory       string   // limit
	wants        []string // in the output of describe
}

// hostileGuests runs modules that compute for ever, starve, break or are none,
// all at once, beside one that must not notice, and reads what describe says.
func (c *shared) hostileGuests(t *testing.T) {
	c.weft(t, "create", "namespace", "guests")
	deadline := []string{"Status: +Failed", "Reason: +DeadlineExceeded"}
	var pods []hostilePod
	for _, name := range []string{"loop", "recursion", "tree", "tables", "grow", "hostcalls", "start", "deep"} {
		pods = append(pods, hostilePod{name, "../wasm/meter/testdata/hostile/" + name + ".wasm", "64Mi", deadline})
	}
	tiny := "../wasm/wasmtest/modules/"
	pods = append(pods,
		hostilePod{"hungry", tiny + "hungry.wasm", "8Mi", []string{"Status: +Failed", "Reason: +OOMKilled", "it needed more than its limit of 8388608 bytes", "Exit Code: +137"}},
		hostilePod{"trap", tiny + "trap.wasm", "8Mi", []string{"Status: +Failed", "Reason: +Error", "unreachable in inner < middle < _start", "Exit Code: +134"}},
		hostilePod{"overflow", tiny + "overflow.wasm", "8Mi", []string{"Status: +Failed", "Reason: +Error", "stack overflow", "Exit Code: +134"}},
		hostilePod{"exit", tiny + "exit.wasm", "8Mi", []string{"Status: +Failed", "Reason: +Error", "Exit Code: +7"}},
		hostilePod{"small", "../wasm/meter/testdata/hostile/fill.wasm", "64Mi", []string{"Status: +Failed", "Reason: +StartError", "needs 268435456 bytes of memory at the start, its limit is 67108864", "Exit Code: +128"}},
		hostilePod{"foreign", tiny + "foreign.wasm", "8Mi", []string{"Reason: +(ErrImagePull|ImagePullBackOff)", "nobody provides its import"}},
		hostilePod{"library", tiny + "library.wasm", "8Mi", []string{"Reason: +(ErrImagePull|ImagePullBackOff)", "build a program, not a library"}},
	)
	for n := 1; n <= 3; n++ {
		pods = append(pods, hostilePod{
			fmt.Sprint("panic-", n), fmt.Sprintf("../wasm/engine/testdata/panic%d.wasm", n), "8Mi",
			[]string{"Reason: +(ErrImagePull|ImagePullBackOff)", "invalid module"},
		})
	}
	c.create(t, podOf("neighbour", filepath.Join(c.examples, "modules/hello.wasm"), "64Mi", 0, "-interval=50ms"))
	c.untilIn(t, "neighbour", "Status: +Running")
	begin := time.Now()
	for _, p := range pods {
		c.create(t, podOf(p.name, filepath.Join(c.examples, p.module), p.memory, 3))
	}
	for _, p := range pods {
		t.Run(p.name, func(t *testing.T) {
			for _, want := range p.wants {
				c.untilIn(t, p.name, want)
			}
		})
	}
	c.neighbourSpoke(t, begin)
	c.weft(t, "delete", "namespace", "guests", "--wait=false")
}

// podOf is a pod as JSON. A deadline of 0 is none.
func podOf(name, module, memory string, deadline int, args ...string) string {
	spec := map[string]any{
		"restartPolicy": "Never",
		"containers": []any{map[string]any{
			"name": "main", "image": "file://" + filepath.Clean(module), "args": args,
			"resources": map[string]any{"limits": map[string]any{"memory": memory}, "requests": map[string]any{"cpu": "10m"}},
		}},
	}
	if deadline > 0 {
		spec["activeDeadlineSeconds"] = deadline
	}
	out, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name, "namespace": "guests"}, "spec": spec,
	})
	if err != nil {
		panic(err) // it holds nothing that could fail
	}
	return string(out)
}

func (c *shared) create(t *testing.T, manifest string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pod.json")
	if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	c.weft(t, "create", "-f", file)
}

func (c *shared) untilIn(t *testing.T, pod, want string) {
	t.Helper()
	out, err := c.until(t.Context(), c.environment(c.data), want, "describe", "pod", "-n", "guests", pod)
	if err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

// neighbourSpoke checks that the neighbour wrote lines all the time since.
func (c *shared) neighbourSpoke(t *testing.T, since time.Time) {
	t.Helper()
	last, lines := since, 0
	var silence time.Duration
	for line := range strings.Lines(c.weft(t, "logs", "-n", "guests", "neighbour", "--timestamps")) {
		stamp, _, _ := strings.Cut(line, " ")
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if err != nil {
			t.Fatal(err)
		}
		if at.Before(since) {
			continue
		}
		silence = max(silence, at.Sub(last))
		last = at
		lines++
	}
	t.Logf("the neighbour wrote %d lines, and was silent for %s at most", lines, silence)
	if lines == 0 || silence > maxSilence {
		t.Errorf("the neighbour was silent for %s among %d lines", silence, lines)
	}
}
