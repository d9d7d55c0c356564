package cluster

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// testPod is a pod on a node with a container in some state.
func testPod(change func(*corev1.Pod, *corev1.ContainerStatus)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "web-5f-x", Labels: map[string]string{appsv1.DefaultDeploymentUniqueLabelKey: "5f"},
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web-5f"}},
		},
		Spec: corev1.PodSpec{NodeName: "one"},
		Status: corev1.PodStatus{
			Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{{Name: "web"}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, Message: "containers with unready status: [web]"}},
		},
	}
	change(p, &p.Status.ContainerStatuses[0])
	return p
}

func TestPodWait(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*corev1.Pod, *corev1.ContainerStatus)
		why    string // empty: it does not wait
		stuck  bool
	}{
		"new": {func(p *corev1.Pod, _ *corev1.ContainerStatus) { p.Spec.NodeName = "" }, "waits for the scheduler", false},
		"no node": {func(p *corev1.Pod, _ *corev1.ContainerStatus) {
			p.Spec.NodeName = ""
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/1 nodes are available"}}
		}, "no node takes it: 0/1 nodes are available", true},
		"assigned": {func(p *corev1.Pod, _ *corev1.ContainerStatus) {}, "the node has not started it yet", false},
		"compiled": {func(_ *corev1.Pod, c *corev1.ContainerStatus) {
			c.State.Waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
		}, preparing, false},
		"no image": {func(_ *corev1.Pod, c *corev1.ContainerStatus) {
			c.State.Waiting = &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "no such file"}
		}, "ErrImagePull: no such file", true},
		"crashes": {func(p *corev1.Pod, c *corev1.ContainerStatus) {
			p.Status.Phase = corev1.PodRunning
			c.State.Waiting = &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}
			c.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 134, Reason: "Error", Message: "unreachable"}
		}, "CrashLoopBackOff (it ended with exit code 134: Error: unreachable)", true},
		"runs": {func(p *corev1.Pod, _ *corev1.ContainerStatus) {
			p.Status.Phase, p.Status.Conditions[0].Status = corev1.PodRunning, corev1.ConditionTrue
		}, "", false},
		"not ready": {func(p *corev1.Pod, _ *corev1.ContainerStatus) { p.Status.Phase = corev1.PodRunning },
			"not ready: containers with unready status: [web]", false},
		"succeeded": {func(p *corev1.Pod, _ *corev1.ContainerStatus) { p.Status.Phase = corev1.PodSucceeded }, "", false},
		"failed": {func(p *corev1.Pod, c *corev1.ContainerStatus) {
			p.Status.Phase = corev1.PodFailed
			c.State.Terminated = &corev1.ContainerStateTerminated{ExitCode: 3, Reason: "Error"}
		}, "failed: container web ended with exit code 3: Error", true},
		"evicted": {func(p *corev1.Pod, _ *corev1.ContainerStatus) {
			p.Status.Phase, p.Status.Reason, p.Status.Message = corev1.PodFailed, "Evicted", "the node was low on memory"
		}, "failed: Evicted: the node was low on memory", true},
		"going": {func(p *corev1.Pod, _ *corev1.ContainerStatus) { p.DeletionTimestamp = &metav1.Time{} }, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			got, waiting := podWait(testPod(tt.change))
			if waiting != (tt.why != "") || (waiting && (got.why != tt.why || got.stuck != tt.stuck)) {
				t.Errorf("waiting %v: %+v, want %q, stuck %v", waiting, got, tt.why, tt.stuck)
			}
			if got.group != "deployment/web" {
				t.Errorf("it belongs to %s", got.group)
			}
		})
	}
}

func TestJobWait(t *testing.T) {
	five := int32(5)
	for name, tt := range map[string]struct {
		status batchv1.JobStatus
		why    string
		stuck  bool
	}{
		"new":       {batchv1.JobStatus{}, "its controller has not made pods yet", false},
		"runs":      {batchv1.JobStatus{Active: 1, Succeeded: 2}, "runs, 2 of 5 complete", false},
		"complete":  {batchv1.JobStatus{Conditions: []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}}, "", false},
		"suspended": {batchv1.JobStatus{Conditions: []batchv1.JobCondition{{Type: batchv1.JobSuspended, Status: corev1.ConditionTrue}}}, "", false},
		"failed": {batchv1.JobStatus{Conditions: []batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionTrue, Reason: "BackoffLimitExceeded"}}},
			"failed: BackoffLimitExceeded", true},
	} {
		t.Run(name, func(t *testing.T) {
			got, waiting := jobWait(&batchv1.Job{Spec: batchv1.JobSpec{Completions: &five}, Status: tt.status})
			if waiting != (tt.why != "") || got.why != tt.why || got.stuck != tt.stuck {
				t.Errorf("waiting %v: %+v, want %q", waiting, got, tt.why)
			}
		})
	}
}

func TestDeploymentWait(t *testing.T) {
	three := int32(3)
	for name, tt := range map[string]struct {
		status appsv1.DeploymentStatus
		why    string
		stuck  bool
	}{
		"new":        {appsv1.DeploymentStatus{}, "0 of 3 available", false},
		"unobserved": {appsv1.DeploymentStatus{ObservedGeneration: 1, UpdatedReplicas: 3, AvailableReplicas: 3}, "3 of 3 available", false},
		"available":  {appsv1.DeploymentStatus{ObservedGeneration: 2, UpdatedReplicas: 3, AvailableReplicas: 3}, "", false},
		"refused": {appsv1.DeploymentStatus{Conditions: []appsv1.DeploymentCondition{{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Message: "exceeded quota"}}},
			"exceeded quota", true},
	} {
		t.Run(name, func(t *testing.T) {
			d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Generation: 2}, Spec: appsv1.DeploymentSpec{Replicas: &three}, Status: tt.status}
			got, waiting := deploymentWait(d)
			if waiting != (tt.why != "") || got.why != tt.why || got.stuck != tt.stuck {
				t.Errorf("waiting %v: %+v, want %q", waiting, got, tt.why)
			}
		})
	}
}

func TestSummary(t *testing.T) {
	all := []wait{
		{what: "pod/web-1", group: "deployment/web", why: preparing},
		{what: "pod/pi-1", group: "job/pi", why: "failed: Error"},
		{what: "pod/web-2", group: "deployment/web", why: preparing},
		{what: "pod/bare", group: "pod/bare", why: "CrashLoopBackOff: restarting pod=bare"},
		{what: "pod/loop-1", group: "deployment/loop", why: "CrashLoopBackOff: restarting pod=loop-1"},
		{what: "pod/loop-2", group: "deployment/loop", why: "CrashLoopBackOff: restarting pod=loop-2"},
	}
	want := []string{
		"deployment/web: 2 pods: " + preparing,
		"job/pi: pod/pi-1: failed: Error",
		"pod/bare: CrashLoopBackOff: restarting pod=bare",
		"deployment/loop: 2 pods: CrashLoopBackOff: restarting pod=...",
	}
	if diff := cmp.Diff(want, summary(all)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got, want := brief(all[:3]), "pod/web-1 and 1 more: "+preparing+"; pod/pi-1: failed: Error"; got != want {
		t.Errorf("in brief: %s", got)
	}
	if summary(nil) == nil || brief(nil) != "" {
		t.Error("nothing waits, and yet something is said")
	}
}

func TestSift(t *testing.T) {
	warnings, others := sift("Warning: old\n\nerror: bad\nWarning: old\nWarning: odd")
	if diff := cmp.Diff([]string{"Warning: old", "Warning: odd"}, warnings); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"error: bad"}, others); diff != "" {
		t.Error(diff)
	}
}

func TestFirstLines(t *testing.T) {
	for text, want := range map[string][]string{
		"":                       nil,
		"a\nb\n":                 {"a", "b"},
		"a\nb\nc":                {"a", "b", "..."},
		strings.Repeat("é", 100): {strings.Repeat("é", 76) + "..."},
		"\xff":                   {"?"},
	} {
		if diff := cmp.Diff(want, firstLines(bytes.NewBufferString(text), 2)); diff != "" {
			t.Errorf("%q: -want +got:\n%s", text, diff)
		}
	}
}

func TestShellWord(t *testing.T) {
	for path, want := range map[string]string{
		"/home/a-b_c.d/1": "/home/a-b_c.d/1",
		"/with space":     "'/with space'",
		"/it's":           `'/it'\''s'`,
		"/$HOME":          "'/$HOME'",
		"":                "''",
	} {
		if got := shellWord(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// TestScreen compares what a terminal and a file get.
func TestScreen(t *testing.T) {
	for name, tt := range map[string]struct {
		terminal bool
		want     string
	}{
		"file":     {false, "head\n  waits\n  one\n  two\nend\n"},
		"terminal": {true, "\x1b[1mhead\x1b[0m\n  waits\r\x1b[K  runs\r\x1b[K  one\n  two\nend\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("NO_COLOR", "")
			var out bytes.Buffer
			s := &screen{out: &out, terminal: tt.terminal}
			s.head("head")
			s.tell("waits")
			s.tell("waits")
			s.tell("runs")
			if _, err := s.Write([]byte("one\ntwo\n")); err != nil {
				t.Fatal(err)
			}
			s.say("end")
			if diff := cmp.Diff(tt.want, out.String()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
