package cluster

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/weftrun/weft/core"
)

// Patience of the greeting. What takes longer is left to the user to look at.
const (
	greetNode = 20 * time.Second
	greetPods = 60 * time.Second
	logLines  = 3
)

// greet tells the user what there is, as it comes up.
func (u *Up) greet(ctx context.Context, c Core, begin time.Time) error {
	say := func(format string, args ...any) { fmt.Fprintf(u.Out, format+"\n", args...) }
	paths := Paths{u.Settings.Data}
	say("weft is up after %s", time.Since(begin).Round(time.Millisecond))
	say("  data        %s", u.Settings.Data)
	say("  API         %s", c.Server)
	say("  kubeconfig  %s", paths.Kubeconfig())
	say("  NATS        %s", c.NATS)
	say("  observer    %s (subscribe to weft.v1.event.>)", paths.ObserverCredentials())
	name, ok := u.awaitNode(ctx, c)
	if !ok {
		if ctx.Err() == nil {
			say("no node is ready after %s; what it says stands above, and weft get nodes tells more", greetNode)
		}
		return nil
	}
	say("node %s is ready after %s", name, time.Since(begin).Round(time.Millisecond))
	if u.Folder == "" {
		return nil
	}
	say("applying %s", u.Folder)
	if err := u.apply(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	u.awaitPods(ctx, c)
	if ctx.Err() != nil {
		return nil
	}
	u.table(c)
	u.jobLogs(ctx, c)
	say("\nTry in another terminal:  weft get nodes,jobs,pods -o wide\nCtrl-C stops everything.")
	return nil
}

func (u *Up) awaitNode(ctx context.Context, c Core) (string, bool) {
	name := ""
	u.until(ctx, greetNode, c, core.Nodes, func(s core.Snapshot) bool {
		for _, object := range s.List(core.Nodes, "") {
			node, ok := object.(*corev1.Node)
			for i := range node.Status.Conditions {
				if cond := node.Status.Conditions[i]; ok && cond.Type == corev1.NodeReady && cond.Status == corev1.ConditionTrue {
					name = node.Name
				}
			}
		}
		return name != ""
	})
	return name, name != ""
}

// awaitPods waits until every pod runs or has ended, and every job has.
func (u *Up) awaitPods(ctx context.Context, c Core) {
	u.until(ctx, greetPods, c, core.Pods, func(s core.Snapshot) bool {
		for _, object := range s.List(core.Jobs, "") {
			if job, ok := object.(*batchv1.Job); ok && job.Status.CompletionTime == nil && len(job.Status.Conditions) == 0 {
				return false
			}
		}
		pods := 0
		for _, object := range s.List(core.Pods, "") {
			pod, ok := object.(*corev1.Pod)
			if ok && (pod.Status.Phase == corev1.PodPending || pod.Status.Phase == "") {
				return false
			}
			pods++
		}
		return pods > 0
	})
}

// until waits for a state, looking again whenever the resource has changed.
func (u *Up) until(ctx context.Context, patience time.Duration, c Core, resource core.GroupResource, done func(core.Snapshot) bool) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		snapshot := c.Client.Snapshot()
		if done(snapshot) {
			return
		}
		watch, err := c.Client.Watch(resource, "", snapshot.Revision())
		if err != nil {
			return
		}
		soon, stop := context.WithTimeout(ctx, 200*time.Millisecond)
		_, _ = watch.Next(soon) // whatever it says, look again
		stop()
		watch.Close()
		if ctx.Err() != nil {
			return
		}
	}
}

// table prints what runs.
func (u *Up) table(c Core) {
	snapshot := c.Client.Snapshot()
	w := tabwriter.NewWriter(u.Out, 0, 8, 3, ' ', 0)
	for _, resource := range []core.GroupResource{core.Deployments, core.Jobs, core.Pods} {
		kind, ok := c.Client.KindOf(resource)
		if !ok || snapshot.Count(resource) == 0 {
			continue
		}
		fmt.Fprintln(w)
		version := kind.Versions[0]
		fmt.Fprint(w, "NAMESPACE")
		for _, column := range version.Columns {
			if column.Priority == 0 {
				fmt.Fprintf(w, "\t%s", bytes.ToUpper([]byte(column.Name)))
			}
		}
		fmt.Fprintln(w)
		for _, object := range snapshot.List(resource, "") {
			fmt.Fprint(w, object.GetNamespace())
			for i, cell := range version.Cells(object, time.Now()) {
				if i < len(version.Columns) && version.Columns[i].Priority == 0 {
					fmt.Fprintf(w, "\t%v", cell)
				}
			}
			fmt.Fprintln(w)
		}
	}
	_ = w.Flush() // to a terminal
}

// jobLogs prints the first lines of the logs of finished jobs.
func (u *Up) jobLogs(ctx context.Context, c Core) {
	for _, object := range c.Client.Snapshot().List(core.Jobs, "") {
		for _, child := range c.Client.Snapshot().Indexed(core.ByOwner, string(object.GetUID())) {
			pod, ok := child.(*corev1.Pod)
			if !ok || pod.Status.Phase != corev1.PodSucceeded {
				continue
			}
			fmt.Fprintf(u.Out, "\nweft logs job/%s\n", object.GetName())
			var log bytes.Buffer
			lines := int64(1 << 10)
			q := core.LogQuery{Namespace: pod.Namespace, Pod: pod.Name, UID: pod.UID, Container: pod.Spec.Containers[0].Name, LimitBytes: &lines}
			if err := c.Hub.Logs(ctx, pod, q, &log); err != nil {
				fmt.Fprintf(u.Out, "  %v\n", err)
				break
			}
			u.firstLines(&log)
			break
		}
	}
}

func (u *Up) firstLines(log *bytes.Buffer) {
	scanner := bufio.NewScanner(log)
	for i := 0; i < logLines && scanner.Scan(); i++ {
		line := scanner.Text()
		if len(line) > 76 {
			line = line[:76] + "..."
		}
		fmt.Fprintf(u.Out, "  %s\n", line)
	}
}
