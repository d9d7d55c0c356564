package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// plan is a part of a round, with clusters of its own if it needs any.
type plan struct {
	name string
	run  func(context.Context, *options, *Report) error
}

// plans are all of them, in their order within a round.
var plans = []plan{
	{"ready", measureReady},
	{"idle", onCluster("up", measureIdle)},
	{"pods", onCluster("up", measurePods)},
	{"replicas", onCluster("up", measureReplicas)},
	{"job", onCluster("up", measureJob)},
	{"stages", withSockets(onCluster("up", measureStages))},
	{"writes", onCluster("core", measureWrites)},
	{"watchers", onCluster("core", measureWatchers)},
	{"starts", measureStarts},
	{"lists", onCluster("core", measureLists)},
	{"podmemory", onCluster("up", measurePodMemory)},
	{"churn", onCluster("core", measureChurn)},
	{"guests", measureGuests},
	{"hot", measureHot},
	{"turns", measureTurns},
	{"density", measureDensity},
}

func names() []string {
	out := make([]string, len(plans))
	for i, p := range plans {
		out[i] = p.name
	}
	return out
}

// bench is one plan at work.
type bench struct {
	*cluster
	*options
	report *Report
	group  string
}

// add adds a figure that must stay below a ceiling, or none if that is zero.
func (b *bench) add(name, unit string, ceiling, value float64) {
	b.report.Add(b.group, name, unit, ceiling, value)
}

// onCluster has work done on a new cluster, with a node if it is started by
// "up".
func onCluster(command string, work func(context.Context, *bench) error) func(context.Context, *options, *Report) error {
	return func(ctx context.Context, o *options, r *Report) (err error) {
		folder, err := newFolder(o)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
		c, err := start(ctx, o, folder, command)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.stop()) }()
		if command == "up" {
			if _, err := c.awaitNode(ctx); err != nil {
				return err
			}
		}
		return work(ctx, &bench{cluster: c, options: o, report: r})
	}
}

// withSockets has the processes of a plan listen on their debug sockets.
func withSockets(run func(context.Context, *options, *Report) error) func(context.Context, *options, *Report) error {
	return func(ctx context.Context, o *options, r *Report) error {
		own := *o
		own.sockets = true
		return run(ctx, &own, r)
	}
}

// measureReady starts a cluster on an empty folder, and again on what it left.
func measureReady(ctx context.Context, o *options, r *Report) (err error) {
	folder, err := newFolder(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	for _, what := range []string{"new folder", "restart"} {
		c, err := start(ctx, o, folder, "up")
		if err != nil {
			return err
		}
		err = c.becomesReady(ctx, r, what)
		begin := time.Now()
		if err := errors.Join(err, c.stop()); err != nil {
			return err
		}
		r.Add("ready", "stopped, "+what, "ms", 5000, milliseconds(time.Since(begin)))
		if err := pause(ctx, 2*time.Second); err != nil { // so that heartbeats differ by their second
			return err
		}
	}
	return nil
}

// becomesReady measures, from the start of its process, when a cluster can be
// used, has a node, and runs a first pod that was created then.
func (c *cluster) becomesReady(ctx context.Context, r *Report, what string) error {
	node, err := c.awaitNode(ctx)
	if err != nil {
		return err
	}
	w, err := c.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("watch pods: %w", err)
	}
	defer w.Stop()
	if _, err := c.startPod(ctx, w, "first-"+strings.ReplaceAll(what, " ", "-")); err != nil {
		return err
	}
	r.Add("ready", "API, "+what, "ms", 1000, milliseconds(c.ready))
	r.Add("ready", "node, "+what, "ms", 1000, milliseconds(node))
	r.Add("ready", "a first pod, "+what, "ms", 0, milliseconds(time.Since(c.begin)))
	return nil
}

func measureIdle(ctx context.Context, b *bench) error {
	b.group = "memory, idle for 10 s"
	if _, err := b.costs("CPU of those 10 s", func() error { return pause(ctx, 10*time.Second) }); err != nil {
		return err
	}
	return b.memory(150)
}

// memory adds what each process takes, and all together.
func (b *bench) memory(ceiling float64) error {
	processes, err := tree(b.cmd.Process.Pid)
	if err != nil {
		return err
	}
	total := 0.0
	for _, p := range processes {
		m, err := readMemory(p.pid)
		if err != nil {
			return err
		}
		b.add("PSS of "+p.role, "MB", 0, m.pss)
		b.add("written by "+p.role, "MB", 0, m.private)
		total += m.pss
	}
	b.add("PSS of all", "MB", ceiling, total)
	return nil
}

// costs adds the CPU time that each process, and this one as the client, spend
// while work lasts, and returns how long that was.
func (b *bench) costs(name string, work func() error) (time.Duration, error) {
	before, err := b.spent()
	if err != nil {
		return 0, err
	}
	profiles := b.profile(name)
	begin := time.Now()
	err = work()
	took := time.Since(begin)
	if err := errors.Join(err, profiles()); err != nil {
		return 0, err
	}
	after, err := b.spent()
	if err != nil {
		return 0, err
	}
	total := 0.0
	for _, role := range []string{"core", "plugin", "node", "executor", "compiler", "client"} {
		if seconds, ok := after[role]; ok {
			b.add(name+", "+role, "CPU s", 0, seconds-before[role])
			if role != "client" {
				total += seconds - before[role]
			}
		}
	}
	b.add(name+", all but client", "CPU s", 0, total)
	return took, nil
}

// spent returns the CPU seconds that each role has spent so far.
func (b *bench) spent() (map[string]float64, error) {
	processes, err := tree(b.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	out := map[string]float64{}
	for _, p := range append(processes, process{os.Getpid(), "client"}) {
		s, err := readStat(p.pid)
		if err != nil {
			return nil, fmt.Errorf("read CPU time of %s: %w", p.role, err)
		}
		out[p.role] += s.cpu
	}
	return out, nil
}

// profile starts profiles of all processes, if asked to; what it returns ends
// them and waits for their files.
func (b *bench) profile(name string) func() error {
	if b.profiles == "" {
		return func() error { return nil }
	}
	return profile(filepath.Join(b.data, "debug"), b.profiles, name)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
