package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/weftrun/weft/cmd/internal/measure/crowd"
)

// crowdCommand is the first argument of a process that is one experiment.
const crowdCommand = "crowd"

// crowdTime is what an experiment may take: a crowd that cannot be stopped is
// one result of it.
const crowdTime = 40 * time.Second

// sorts are the guests that compute for ever, each in its own way, by the names
// of their files.
var sorts = []struct{ module, what string }{
	{"loop", "a loop"},
	{"recursion", "recursion"},
	{"deep", "deep recursion"},
	{"tree", "exponential calls without a loop"},
	{"tables", "mutual recursion through tables"},
	{"fill", "fills of memory"},
	{"copy", "copies of memory"},
	{"grow", "growth of memory"},
	{"hostcalls", "calls of the host"},
	{"start", "a start function that never ends"},
}

// hotCeilings are those of the figures beside hot guests.
var hotCeilings = []struct {
	name    string
	ceiling float64
}{{"lag p99", 5}, {"lag p99.9", 40}, {"GC p99", 100}, {"kill p99", 5}}

// measureHot measures what guests that compute leave to their process.
func measureHot(ctx context.Context, o *options, r *Report) error {
	idle, err := crowdOf(ctx, crowd.Task{Name: "idle"})
	if err != nil {
		return err
	}
	for _, c := range hotCeilings {
		if value, ok := idle[c.name]; ok {
			r.Add("no guest at all", c.name, "ms", 0, value)
		}
	}
	for _, s := range sorts {
		t := crowd.Task{Name: "hot", Module: o.hostileModule(s.module), Count: 8}
		group := "8 guests: " + s.what
		metered, err := crowdOf(ctx, t)
		if err != nil {
			return fmt.Errorf("%s: %w", group, err)
		}
		t.Interruptible = true
		other, failed := crowdOf(ctx, t)
		for _, c := range hotCeilings {
			r.Add(group, c.name, "ms", c.ceiling, metered[c.name])
			if failed == nil {
				r.Add(group, c.name+", interruptible", "ms", 0, other[c.name])
			}
		}
		if failed != nil && ctx.Err() == nil {
			// Wedged, most likely: worth a line, and no reason to stop.
			r.Add(group, "given up, interruptible", "s", 0, crowdTime.Seconds())
		}
	}
	return ctx.Err()
}

// measureTurns measures shares and limits.
func measureTurns(ctx context.Context, o *options, r *Report) error {
	f, err := crowdOf(ctx, crowd.Task{Name: "shares", Count: 200, Module: o.hostileModule("loop")})
	if err != nil {
		return err
	}
	const group = "200 guests that compute, of three weights"
	r.Add(group, "farthest from its share", "%", 10, f["farthest from its share"])
	r.Add(group, "timer of 10 ms of another, late p99", "ms", 20, f["timer of 10 ms late p99"])
	if f, err = crowdOf(ctx, crowd.Task{Name: "limits", Module: o.hostileModule("loop")}); err != nil {
		return err
	}
	for _, millis := range []int{10, 50, 100, 500, 1000} {
		name := fmt.Sprintf("off a limit of %dm", millis)
		r.Add("CPU limits, for 6 s", name, "%", 5, f[name])
	}
	return nil
}

// measureDensity measures guests that sleep.
func measureDensity(ctx context.Context, o *options, r *Report) error {
	for _, d := range []struct {
		what, module  string
		count         int
		memory, start float64 // ceilings
	}{
		{"small guests that sleep", "park", 10_000, 60, 0.1},
		{"Go guests that sleep", "hello", 1000, 3 << 10, 0},
	} {
		f, err := crowdOf(ctx, crowd.Task{Name: "parked", Count: d.count, Module: filepath.Join(o.modules, d.module+".wasm")})
		if err != nil {
			return fmt.Errorf("%s: %w", d.what, err)
		}
		group := fmt.Sprintf("%d %s, in one executor", d.count, d.what)
		r.Add(group, "memory each", "KiB", d.memory, f["memory each"])
		r.Add(group, "a start, p50", "ms", d.start, f["a start, p50"])
		r.Add(group, "a start, p99", "ms", 0, f["a start, p99"])
		r.Add(group, "a round of Go's collector", "ms", 0, f["collector's round"])
	}
	return nil
}

func (o *options) hostileModule(name string) string { return filepath.Join(o.hostile, name+".wasm") }

// crowdOf runs an experiment in a process of its own.
func crowdOf(ctx context.Context, t crowd.Task) (crowd.Figures, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	arg, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, crowdTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, crowdCommand, string(arg))
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("experiment %s: %w\n%s", arg, errors.Join(err, ctx.Err()), said.String())
	}
	var f crowd.Figures
	if err := json.Unmarshal(out, &f); err != nil {
		return nil, fmt.Errorf("experiment %s: %w", arg, err)
	}
	return f, nil
}

// crowdChild is the process of an experiment.
func crowdChild(ctx context.Context, arg string, out io.Writer) error {
	var t crowd.Task
	if err := json.Unmarshal([]byte(arg), &t); err != nil {
		return fmt.Errorf("read experiment: %w", err)
	}
	f, err := crowd.Run(ctx, t)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(f)
}
