package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// drop puts a program into the plugin folder in one step.
func (c *cluster) drop(name string, content []byte) {
	c.t.Helper()
	folder := filepath.Join(c.data, "plugins")
	temporary := filepath.Join(folder, "."+name)
	if err := os.WriteFile(temporary, content, 0o700); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Rename(temporary, filepath.Join(folder, name)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) dropSweep() {
	c.t.Helper()
	content, err := os.ReadFile(build(c.t, "examples/plugins/sweep"))
	if err != nil {
		c.t.Fatal(err)
	}
	c.drop("sweep", content)
}

// self is a script that runs the test binary in a role.
func self(t *testing.T, role string) []byte {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Appendf(nil, "#!/bin/sh\n%s=%s exec %s\n", roleVariable, role, path)
}

func sweepManifest(name string) string {
	return fmt.Sprintf(`apiVersion = "examples.weft.run/v1"
kind = "Sweep"
metadata.name = %q
[spec]
image = "file:src/done/done.wasm"
values = ["a", "b", "c"]
`, name)
}

// completes waits for a Sweep.
func (c *cluster) completes(name string) {
	c.t.Helper()
	c.must("wait", "--for=condition=Complete", "sweep/"+name, "--timeout=60s")
}

// TestPluginFromOutside follows the example plugin as its README does.
func TestPluginFromOutside(t *testing.T) {
	c := startUp(t)
	c.refused("", []string{"the server doesn't have a resource type"}, "get", "sweeps")
	c.dropSweep()
	c.eventually("Sweep", "api-resources", "--api-group=examples.weft.run", "--cached=false")
	t.Run("its kind is served", func(t *testing.T) { c.in(t).sweepIsServed() })
	t.Run("its objects work", func(t *testing.T) { c.in(t).sweepWorks() })
	t.Run("it goes and comes back", func(t *testing.T) { c.in(t).sweepGoes() })
	t.Run("it is killed", func(t *testing.T) { c.in(t).sweepIsKilled() })
}

func (c *cluster) sweepIsServed() {
	c.t.Helper()
	c.eventually("How many Jobs run at once.", "explain", "sweep.spec.parallelism")
	c.refused(strings.Replace(sweepManifest("bad"), "values", "valuez", 1),
		[]string{`unknown field "spec.valuez"`}, "create", "-f", "-")
	c.refused(sweepManifest("bad")+"parallelism = 0\n",
		[]string{"spec.parallelism", "should be greater than or equal to 1"}, "create", "-f", "-")
	c.refused("apiVersion: examples.weft.run/v1\nkind: Sweep\nmetadata: {name: bad}\nspec: {values: [a]}\n",
		[]string{"spec.image: Required value"}, "create", "-f", "-")
	if out := c.must("get", "sweeps", "-o", "name"); strings.Contains(out, "bad") {
		c.t.Errorf("what was refused is there: %s", out)
	}
}

func (c *cluster) sweepIsKilled() {
	c.t.Helper()
	before := c.running("plugins/sweep")
	if len(before) != 1 {
		c.t.Fatalf("processes of the plugin: %v", before)
	}
	if err := syscall.Kill(before[0].pid, syscall.SIGKILL); err != nil {
		c.t.Fatal(err)
	}
	c.apply(sweepManifest("third"))
	c.completes("third")
	if after := c.running("plugins/sweep"); len(after) != 1 || after[0].pid == before[0].pid {
		c.t.Errorf("processes of the plugin: before %v, after %v", before, after)
	}
}

func (c *cluster) sweepWorks() {
	c.t.Helper()
	plan, err := c.weftWith(sweepManifest("first"), "plan", "-f", "-")
	if err != nil || !strings.Contains(plan, "create sweeps.examples.weft.run default/first") || !strings.Contains(plan, "create jobs.batch default/first-") {
		c.t.Errorf("plan: %v\n%s", err, plan)
	}
	if out := c.must("get", "sweeps,jobs", "-o", "name"); strings.Contains(out, "first") {
		c.t.Errorf("the plan has changed something: %s", out)
	}
	c.apply(sweepManifest("first"))
	c.completes("first")
	if got := strings.Fields(c.must("get", "sweeps"))[:6]; strings.Join(got, " ") != "NAME STATUS SUCCEEDED FAILED TOTAL AGE" {
		c.t.Errorf("columns %v", got)
	}
	if got := c.must("get", "sweep", "first", "-o", "jsonpath={.status.phase} {.status.succeeded} {.status.failed} {.spec.parallelism} {.status.observedGeneration}"); got != "Complete 3 0 2 1" {
		c.t.Errorf("status %q", got)
	}
	owned := c.must("get", "jobs", "-l", "examples.weft.run/sweep=first", "-o", `jsonpath={range .items[*]}{.metadata.ownerReferences[0].kind}/{.metadata.ownerReferences[0].name} {.status.succeeded}{"\n"}{end}`)
	if want := strings.TrimSpace(strings.Repeat("Sweep/first 1\n", 3)); owned != want {
		c.t.Errorf("jobs\n%s\nwant\n%s", owned, want)
	}
	c.eventually("SweepComplete", "describe", "sweep", "first")
}

func (c *cluster) sweepGoes() {
	c.t.Helper()
	if err := os.Remove(filepath.Join(c.data, "plugins", "sweep")); err != nil {
		c.t.Fatal(err)
	}
	c.await("the plugin's process to end", func() bool { return len(c.running("plugins/sweep")) == 0 })
	if got := c.must("get", "sweep", "first", "-o", "jsonpath={.status.phase}"); got != "Complete" {
		c.t.Errorf("its object says %q", got)
	}
	c.must("explain", "sweep.spec")
	c.refused(strings.Replace(sweepManifest("bad"), "values", "valuez", 1), []string{`unknown field "spec.valuez"`}, "create", "-f", "-")
	c.apply(sweepManifest("second"))
	if got := c.must("get", "sweep", "second", "-o", "jsonpath={.spec.parallelism}{.status}"); got != "2" {
		c.t.Errorf("without the plugin: default and status are %q, want the default 2 alone", got)
	}
	c.dropSweep()
	c.completes("second")
	c.must("delete", "sweep", "second")
	c.eventually("No resources found", "get", "jobs", "-l", "examples.weft.run/sweep=second")
}

func riddle(name, spec string) string {
	return fmt.Sprintf("apiVersion: e2e.weft.run/v1\nkind: Riddle\nmetadata: {name: %s}\nspec: {%s}\n", name, spec)
}

// TestPluginThatSpins shows that a controller in an endless loop is stopped,
// that its object says so, and that others of its kind are decided.
func TestPluginThatSpins(t *testing.T) {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := startUpIn(t, newData(t, fmt.Sprintf(`[plugins]
decide_timeout = "500ms"
[[plugins.run]]
name = "riddles"
command = %q
env = ["%s=riddle"]
`, path, roleVariable)))
	c.eventually("Riddle", "api-resources", "--api-group=e2e.weft.run", "--cached=false")
	c.apply(riddle("calm", ""))
	c.must("wait", "--for=jsonpath={.status.answer}=42", "riddle/calm", "--timeout=60s")
	before := c.must("get", "riddle", "calm", "-o", "jsonpath={.status.pid}")
	c.apply(riddle("hot", "do: spin"))
	c.eventually("its process is restarted", "events", "--for=riddle/hot", "--types=Warning")
	c.eventually("SetAside", "describe", "riddle", "hot")
	c.apply(riddle("later", ""))
	c.must("wait", "--for=jsonpath={.status.answer}=42", "riddle/later", "--timeout=60s")
	if after := c.must("get", "riddle", "later", "-o", "jsonpath={.status.pid}"); after == before {
		t.Errorf("process %s was not restarted", after)
	}
}

// TestPluginIsReplaced puts a binary with another schema in a plugin's place.
func TestPluginIsReplaced(t *testing.T) {
	c := startUp(t)
	c.drop("riddles", self(t, "riddle"))
	c.eventually("do", "explain", "riddle.spec")
	c.apply(riddle("first", ""))
	c.must("wait", "--for=jsonpath={.status.answer}=42", "riddle/first", "--timeout=60s")
	c.refused(riddle("second", "hint: and"), []string{`unknown field "spec.hint"`}, "create", "-f", "-")
	c.drop("riddles", self(t, "riddle-2"))
	c.eventually("new in the second version", "explain", "riddle.spec.hint")
	c.apply(riddle("second", "hint: and"))
	c.must("wait", "--for=jsonpath={.status.answer}=42and", "riddle/second", "--timeout=60s")
	if out := c.must("get", "riddles"); !strings.Contains(out, "ANSWER") || !strings.Contains(out, "42and") {
		t.Errorf("the new column is not printed:\n%s", out)
	}
}

// TestKilledCoreLeavesNobody kills "weft up": its plugins, node and executor
// must end by themselves, guests included.
func TestKilledCoreLeavesNobody(t *testing.T) {
	c := startUp(t)
	c.drop("riddles", self(t, "riddle"))
	c.eventually("do", "explain", "riddle.spec")
	c.apply(riddle("busy", "do: spin"))
	c.must("run", "park", "--image=file:src/park/park.wasm")
	c.must("wait", "--for=jsonpath={.status.phase}=Running", "pod/park", "--timeout=60s")
	for _, part := range []string{" node ", " executor", " plugin ", "e2e.test"} {
		if len(c.running(part)) == 0 {
			t.Errorf("no process %q runs", part)
		}
	}
	begin := time.Now()
	c.kill()
	t.Logf("all were gone after %s", time.Since(begin).Round(time.Millisecond))
}
