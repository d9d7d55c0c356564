package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/plugins"
	"github.com/weftrun/weft/plugins/plugintest"
)

var now = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// sweep returns a Sweep over values as the core would show it.
func sweep(values ...string) *unstructured.Unstructured {
	list := make([]any, len(values))
	for i, v := range values {
		list[i] = v
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "examples.weft.run/v1", "kind": "Sweep",
		"metadata": map[string]any{"name": "s", "namespace": "default", "uid": "u-s", "resourceVersion": "7", "generation": int64(2)},
		"spec":     map[string]any{"image": "file:x.wasm", "args": []any{"-n=$(VALUE)"}, "values": list, "parallelism": int64(2), "retries": int64(3), "suspend": false},
	}}
}

func with(parent *unstructured.Unstructured, value any, path ...string) *unstructured.Unstructured {
	if err := unstructured.SetNestedField(parent.Object, value, path...); err != nil {
		panic(err) // the path is the test's own
	}
	return parent
}

// job returns the Job that the controller makes for a value, with a condition.
func job(t *testing.T, parent core.Object, value string, condition batchv1.JobConditionType) core.Object {
	t.Helper()
	s, err := plugins.Decode[Sweep](parent)
	if err != nil {
		t.Fatal(err)
	}
	j := newJob(s, value)
	j.UID, j.ResourceVersion = types.UID("u-"+j.Name), "9"
	if condition != "" {
		j.Status.Conditions = []batchv1.JobCondition{{Type: condition, Status: corev1.ConditionTrue}}
	}
	return j
}

// outcome is what the cases below look at.
type outcome struct {
	Start, Delete []string // values to start, reasons to delete
	Status        Status   // without its conditions
	Complete      metav1.ConditionStatus
	Message       string
	Events        []string
}

func decide(t *testing.T, seen core.Observation) outcome {
	t.Helper()
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	d, err := c.Decide(t.Context(), seen)
	if err != nil {
		t.Fatal(err)
	}
	var o outcome
	for _, child := range d.Create {
		o.Start = append(o.Start, child.GetAnnotations()["examples.weft.run/value"])
	}
	for _, deletion := range d.Delete {
		o.Delete = append(o.Delete, deletion.Reason)
	}
	for _, e := range d.Events {
		o.Events = append(o.Events, e.Reason)
	}
	s, err := plugins.Decode[Sweep](d.Status)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Status.Conditions) != 1 {
		t.Fatalf("conditions %v, one is wanted", s.Status.Conditions)
	}
	o.Complete, o.Message = s.Status.Conditions[0].Status, s.Status.Conditions[0].Message
	o.Status, o.Status.Conditions = s.Status, nil
	return o
}

func TestDecide(t *testing.T) {
	abc := func() *unstructured.Unstructured { return sweep("a", "b", "c") }
	ended := metav1.NewTime(now)
	cases := map[string]struct {
		parent   *unstructured.Unstructured
		children []core.Object
		failures []core.Failure
		want     outcome
	}{
		"the first jobs": {
			parent: abc(),
			want: outcome{
				Start: []string{"a", "b"}, Status: Status{Phase: "Running", ObservedGeneration: 2, Total: 3, Running: 2},
				Complete: "False", Message: "0 of 3 Jobs have ended", Events: []string{"SuccessfulCreate", "SuccessfulCreate"},
			},
		},
		"the next one, after a failure": {
			parent: abc(), children: []core.Object{job(t, abc(), "a", batchv1.JobFailed), job(t, abc(), "b", "")},
			want: outcome{
				Start: []string{"c"}, Status: Status{Phase: "Running", ObservedGeneration: 2, Total: 3, Running: 2, Failed: 1, FailedValues: []string{"a"}},
				Complete: "False", Message: "1 of 3 Jobs have ended", Events: []string{"SuccessfulCreate"},
			},
		},
		"no more while suspended": {
			parent: with(abc(), true, "spec", "suspend"), children: []core.Object{job(t, abc(), "a", batchv1.JobComplete)},
			want: outcome{
				Status:   Status{Phase: "Suspended", ObservedGeneration: 2, Total: 3, Succeeded: 1},
				Complete: "False", Message: "1 of 3 Jobs have ended",
			},
		},
		"complete": {
			parent: sweep("a"), children: []core.Object{job(t, sweep("a"), "a", batchv1.JobComplete)},
			want: outcome{
				Status:   Status{Phase: "Complete", ObservedGeneration: 2, Total: 1, Succeeded: 1, CompletionTime: &ended},
				Complete: "True", Message: "1 of 1 Jobs have ended", Events: []string{"SweepComplete"},
			},
		},
		"failed": {
			parent: sweep("a"), children: []core.Object{job(t, sweep("a"), "a", batchv1.JobFailed)},
			want: outcome{
				Status:   Status{Phase: "Failed", ObservedGeneration: 2, Total: 1, Failed: 1, FailedValues: []string{"a"}, CompletionTime: &ended},
				Complete: "True", Message: "1 of 1 Jobs failed", Events: []string{"SweepFailed"},
			},
		},
		"another image": {
			parent: with(sweep("a"), "file:y.wasm", "spec", "image"), children: []core.Object{job(t, sweep("a"), "a", batchv1.JobComplete)},
			want: outcome{
				Start: []string{"a"}, Delete: []string{"the spec has changed"},
				Status:   Status{Phase: "Running", ObservedGeneration: 2, Total: 1, Running: 1},
				Complete: "False", Message: "0 of 1 Jobs have ended", Events: []string{"SuccessfulCreate"},
			},
		},
		"refused": {
			parent: sweep("a"), failures: []core.Failure{{Verb: "create", Kind: "Job", Reason: "Forbidden", Message: "no more jobs"}},
			want: outcome{
				Start: []string{"a"}, Status: Status{Phase: "Refused", ObservedGeneration: 2, Total: 1, Running: 1},
				Complete: "False", Message: "no more jobs", Events: []string{"SuccessfulCreate"},
			},
		},
		"being deleted": {
			parent: with(abc(), "2030-01-01T00:00:00Z", "metadata", "deletionTimestamp"),
			want: outcome{
				Status:   Status{Phase: "Running", ObservedGeneration: 2, Total: 3},
				Complete: "False", Message: "0 of 3 Jobs have ended",
			},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := decide(t, core.Observation{Now: now, Parent: tc.parent, Children: tc.children, Failures: tc.failures})
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestTheEndIsToldOnce(t *testing.T) {
	parent := sweep("a")
	seen := core.Observation{Now: now, Parent: parent, Children: []core.Object{job(t, parent, "a", batchv1.JobComplete)}}
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	first, err := c.Decide(t.Context(), seen)
	if err != nil {
		t.Fatal(err)
	}
	status, ok := first.Status.(*unstructured.Unstructured)
	if !ok {
		t.Fatalf("status is a %T", first.Status)
	}
	seen.Parent, seen.Now = with(parent, status.Object["status"], "status"), now.Add(time.Hour)
	second, err := c.Decide(t.Context(), seen)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first.Status, second.Status); diff != "" || len(second.Events) > 0 {
		t.Errorf("an hour later: events %v, status\n%s", second.Events, diff)
	}
}

// Never more run than may, every value ends, and each is started once.
func TestParallelismIsKept(t *testing.T) {
	for parallelism := int64(1); parallelism <= 4; parallelism++ {
		parent := with(sweep("a", "b", "c", "d", "e"), parallelism, "spec", "parallelism")
		started := map[string]bool{}
		var running, ended []core.Object
		for range 20 {
			c, err := New()
			if err != nil {
				t.Fatal(err)
			}
			d, err := c.Decide(t.Context(), core.Observation{Now: now, Parent: parent, Children: append(append([]core.Object{}, running...), ended...)})
			if err != nil {
				t.Fatal(err)
			}
			for _, j := range d.Create {
				if started[j.GetName()] {
					t.Errorf("%s was started twice", j.GetName())
				}
				started[j.GetName()] = true
				running = append(running, j)
			}
			if len(running) > int(parallelism) {
				t.Fatalf("%d run, %d may", len(running), parallelism)
			}
			if len(running) > 0 { // the oldest ends
				j, ok := running[0].(*batchv1.Job)
				if !ok {
					t.Fatalf("a child is a %T", running[0])
				}
				j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
				running, ended = running[1:], append(ended, j)
			}
		}
		if len(ended) != 5 {
			t.Errorf("parallelism %d: %d of 5 values ended", parallelism, len(ended))
		}
	}
}

func TestJob(t *testing.T) {
	parent := sweep("a b")
	parent.SetName(strings.Repeat("x", 45) + ".y")
	j, ok := job(t, parent, "a b", "").(*batchv1.Job)
	if !ok {
		t.Fatal("it is no Job")
	}
	container := j.Spec.Template.Spec.Containers[0]
	if len(j.Name) > 63 || strings.Contains(j.Name, ".-") {
		t.Errorf("its name %q is unfit for pods", j.Name)
	}
	if diff := cmp.Diff([]string{"-n=a b"}, container.Args); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]corev1.EnvVar{{Name: "VALUE", Value: "a b"}}, container.Env); diff != "" {
		t.Error(diff)
	}
}

func TestContract(t *testing.T) {
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	many := make([]string, 100)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	named := func(name string, seen core.Observation) core.Observation {
		seen.Parent.SetName(name)
		seen.Now = now
		return seen
	}
	plugintest.Run(t, c,
		named("new", core.Observation{Parent: sweep("a", "b")}),
		named("many", core.Observation{Parent: with(sweep(many...), int64(100), "spec", "parallelism")}),
		named("ended", core.Observation{Parent: sweep("a"), Children: []core.Object{job(t, sweep("a"), "a", batchv1.JobComplete)}}),
		named("refused", core.Observation{Parent: sweep("a"), Failures: []core.Failure{{Verb: "create", Message: "no"}}}),
		named("malformed", core.Observation{Parent: with(sweep("a"), "many", "spec", "parallelism")}),
	)
	_, err = c.Decide(t.Context(), core.Observation{Parent: &corev1.Pod{}})
	if err == nil {
		t.Error("a pod was taken for a sweep")
	}
}
