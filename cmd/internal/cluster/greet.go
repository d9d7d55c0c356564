package cluster

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/weftrun/weft/core"
)

// Patience of the greeting. What takes longer is left to the user to look at.
const (
	greetNode  = 20 * time.Second
	greetPods  = 60 * time.Second
	greetStuck = 3 * time.Second // when all that waits needs a person
	greetTell  = 300 * time.Millisecond
	greetJobs  = 3 // whose logs are shown
	logLines   = 3
)

// greet tells the user what there is, as it comes up.
func (u *Up) greet(ctx context.Context, c Core, begin time.Time) error {
	out := newScreen(u.Out)
	if err := c.AwaitReady(ctx); err != nil && ctx.Err() == nil {
		out.say("the cluster is not complete after %s: %v", readyPatience, err)
	}
	if ctx.Err() != nil {
		return nil
	}
	u.header(out, c, begin)
	if name, ok := u.awaitNode(ctx, c); ok {
		out.say("node %s is ready after %s", name, time.Since(begin).Round(time.Millisecond))
	} else if ctx.Err() == nil {
		out.say("no node is ready after %s: its messages stand above", greetNode)
	}
	if u.Folder != "" && ctx.Err() == nil {
		out.say("")
		out.head("Applying %s", u.Folder)
		u.apply(ctx, out)
		u.awaitWork(ctx, c, out)
	}
	if ctx.Err() != nil {
		out.clear()
		return nil
	}
	u.table(out, c)
	u.jobLogs(ctx, out, c)
	u.hints(out, c)
	return nil
}

func (u *Up) header(out *screen, c Core, begin time.Time) {
	paths := Paths{u.Settings.Data}
	out.head("Weft is up after %s", time.Since(begin).Round(time.Millisecond))
	out.say("  data        %s", u.Settings.Data)
	out.say("  API         %s", c.Server)
	out.say("  kubeconfig  %s", paths.Kubeconfig())
	out.say("  NATS        %s", c.NATS)
	if _, err := os.Stat(paths.ObserverCredentials()); err == nil {
		out.say("  observer    %s", paths.ObserverCredentials())
	}
}

func (u *Up) awaitNode(ctx context.Context, c Core) (string, bool) {
	name := ""
	ctx, cancel := context.WithTimeout(ctx, greetNode)
	defer cancel()
	u.until(ctx, c, func(s core.Snapshot) bool {
		for _, object := range s.List(core.Nodes, "") {
			node, ok := object.(*corev1.Node)
			// A Lease is not kept over a restart: without one, the node's
			// status is from before.
			_, heard := s.Get(core.Key{Group: core.Leases.Group, Resource: core.Leases.Resource, Namespace: corev1.NamespaceNodeLease, Name: object.GetName()})
			if ok && heard && slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
				return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
			}) {
				name = node.Name
			}
		}
		return name != ""
	})
	return name, name != ""
}

// awaitWork waits until everything is as its manifest wants it, and tells
// meanwhile what waits and why. When it gives up, it says so.
func (u *Up) awaitWork(ctx context.Context, c Core, out *screen) {
	patient, cancel := context.WithTimeout(ctx, greetPods)
	defer cancel()
	var left []wait
	begin := time.Now()
	moving := begin // when something last waited that time may help
	u.until(patient, c, func(s core.Snapshot) bool {
		left = waits(s)
		if len(left) == 0 {
			return true
		}
		if slices.ContainsFunc(left, func(w wait) bool { return !w.stuck }) {
			moving = time.Now()
		}
		if time.Since(begin) > greetTell {
			out.tell(brief(left))
		}
		return time.Since(moving) > greetStuck
	})
	out.clear()
	if len(left) == 0 || ctx.Err() != nil {
		return
	}
	out.say("")
	out.head("Not everything runs after %s:", time.Since(begin).Round(time.Second))
	for _, line := range summary(left) {
		out.say("  %s", line)
	}
	out.say("  (%s describe pod NAME, and %s get events, tell more)", u.self(), u.self())
}

// until looks at the state again and again until done, or until ctx ends. A
// look costs little, so that no watches are kept for it.
func (u *Up) until(ctx context.Context, c Core, done func(core.Snapshot) bool) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	seen := int64(-1)
	looked := time.Time{}
	for {
		// Without a change it is looked only for the time that passes.
		if s := c.Client.Snapshot(); s.Revision() != seen || time.Since(looked) > 200*time.Millisecond {
			seen, looked = s.Revision(), time.Now()
			if done(s) {
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// shownKinds are listed if there are any.
var shownKinds = []core.GroupResource{core.Deployments, core.Jobs, core.Pods}

// table prints what runs.
func (u *Up) table(out *screen, c Core) {
	snapshot := c.Client.Snapshot()
	var text bytes.Buffer
	w := tabwriter.NewWriter(&text, 0, 8, 3, ' ', 0)
	for _, resource := range shownKinds {
		kind, ok := c.Client.KindOf(resource)
		if !ok || snapshot.Count(resource) == 0 {
			continue
		}
		fmt.Fprintln(w)
		version := kind.Versions[0]
		fmt.Fprint(w, "NAMESPACE")
		for _, column := range version.Columns {
			if column.Priority == 0 {
				fmt.Fprintf(w, "\t%s", strings.ToUpper(column.Name))
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
	_ = w.Flush() // to memory
	out.say("%s", strings.TrimRight(text.String(), "\n"))
}

// jobLogs prints the first lines of the logs of complete jobs.
func (u *Up) jobLogs(ctx context.Context, out *screen, c Core) {
	shown := 0
	snapshot := c.Client.Snapshot()
	for _, object := range snapshot.List(core.Jobs, "") {
		job, ok := object.(*batchv1.Job)
		if !ok || shown == greetJobs {
			continue
		}
		for _, child := range snapshot.Indexed(core.ByOwner, string(job.GetUID())) {
			pod, ok := child.(*corev1.Pod)
			if !ok || pod.Status.Phase != corev1.PodSucceeded {
				continue
			}
			shown++
			u.podLog(ctx, out, c, job, pod)
			break
		}
	}
}

func (u *Up) podLog(ctx context.Context, out *screen, c Core, job *batchv1.Job, pod *corev1.Pod) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out.say("")
	command := u.self() + " logs job/" + job.Name
	if job.Namespace != corev1.NamespaceDefault {
		command += " -n " + job.Namespace
	}
	out.head("%s", command)
	var log bytes.Buffer
	limit := int64(1 << 10)
	q := core.LogQuery{Namespace: pod.Namespace, Pod: pod.Name, UID: pod.UID, Container: pod.Spec.Containers[0].Name, LimitBytes: &limit}
	if err := c.Hub.Logs(ctx, pod, q, &log); err != nil {
		out.say("  %v", err)
		return
	}
	for _, line := range firstLines(&log, logLines) {
		out.say("  %s", line)
	}
}

// firstLines returns so many lines, and "..." if there are more.
func firstLines(log *bytes.Buffer, most int) []string {
	var lines []string
	scanner := bufio.NewScanner(log)
	for scanner.Scan() {
		if len(lines) == most {
			return append(lines, "...")
		}
		lines = append(lines, cut(strings.ToValidUTF8(scanner.Text(), "?"), 79))
	}
	return lines
}

// self is how the user called this program.
func (u *Up) self() string {
	if name := os.Args[0]; strings.ContainsRune(name, filepath.Separator) {
		return name
	}
	return "weft"
}

// hints are commands to try, exact for this cluster.
func (u *Up) hints(out *screen, c Core) {
	paths := Paths{u.Settings.Data}
	out.say("")
	out.head("In another terminal:")
	if home, err := os.UserHomeDir(); err != nil || u.Settings.Data != filepath.Join(home, ".weft") {
		out.say("  export WEFT_DATA=%s", shellWord(u.Settings.Data))
	}
	out.say("  %s get nodes,deployments,jobs,pods -o wide", u.self())
	if s := c.Client.Snapshot(); s.Count(core.Deployments) > 0 {
		for _, d := range s.List(core.Deployments, "") {
			if d.GetNamespace() == corev1.NamespaceDefault {
				out.say("  %s logs -f deployment/%s", u.self(), d.GetName())
				break
			}
		}
	}
	out.say("  kubectl --kubeconfig %s get pods", shellWord(paths.Kubeconfig()))
	if _, err := os.Stat(paths.ObserverCredentials()); err == nil {
		out.say("  nats --server %s --creds %s --inbox-prefix _INBOX.observer.observer sub 'weft.v1.event.>'", c.NATS, shellWord(paths.ObserverCredentials()))
	}
	out.say("")
	out.say("Ctrl-C stops everything.")
}

// shellWord quotes a path for a shell if it needs it.
func shellWord(path string) string {
	plain := func(r rune) bool {
		return r == '/' || r == '.' || r == '-' || r == '_' || r == '~' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	}
	if path != "" && strings.IndexFunc(path, func(r rune) bool { return !plain(r) }) < 0 {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
