package node_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
)

func TestEnds(t *testing.T) {
	for _, test := range []struct {
		script string
		policy corev1.RestartPolicy
		want   string
	}{
		{"exit 0", corev1.RestartPolicyNever, "Succeeded Completed:0"},
		{"exit 3", corev1.RestartPolicyNever, "Failed Error:3"},
		{"trap", corev1.RestartPolicyNever, "Failed Error:134"},
		{"oom", corev1.RestartPolicyNever, "Failed OOMKilled:137"},
		{"fail start", corev1.RestartPolicyNever, "Failed StartError:128"},
		{"limits", corev1.RestartPolicyNever, "Failed StartError:128"},
		{"exit 0", corev1.RestartPolicyOnFailure, "Succeeded Completed:0"},
		{"exit 3", corev1.RestartPolicyOnFailure, "Running CrashLoopBackOff"},
		{"exit 0", corev1.RestartPolicyAlways, "Running CrashLoopBackOff"},
		{"run forever", corev1.RestartPolicyAlways, "Running running"},
	} {
		t.Run(test.script+" "+string(test.policy), func(t *testing.T) {
			run(t, func(t *testing.T, w *world) {
				p := pod("p", test.policy, test.script)
				w.set(p)
				w.want(p, test.want)
			})
		})
	}
}

func TestSeveralContainers(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		p := pod("p", corev1.RestartPolicyNever, "run 1s exit 0", "run 2s exit 1", "run 3s exit 0")
		w.set(p)
		w.want(p, "Running running,running,running")
		time.Sleep(1500 * time.Millisecond)
		w.want(p, "Running Completed:0,running,running")
		time.Sleep(2 * time.Second)
		w.want(p, "Failed Completed:0,Error:1,Completed:0")
	})
}

// TestBackoff follows a container that crashes at once through its restarts.
func TestBackoff(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		p := pod("p", corev1.RestartPolicyAlways, "run 1s exit 1")
		w.set(p)
		begin := time.Now()
		time.Sleep(1500 * time.Millisecond)
		w.want(p, "Running running") // the first restart is at once
		time.Sleep(time.Second)
		w.want(p, "Running CrashLoopBackOff")
		s := w.container(p)
		if s.RestartCount != 1 || s.LastTerminationState.Terminated.ExitCode != 1 ||
			s.State.Waiting.Message != "back-off 10s restarting failed container=c0 pod=p_ns(uid-p)" {
			t.Errorf("got %+v", s)
		}
		var starts []time.Duration
		for count := w.rt.Started(); time.Since(begin) < 30*time.Minute; time.Sleep(100 * time.Millisecond) {
			if n := w.rt.Started(); n > count {
				count = n
				starts = append(starts, time.Since(begin).Round(time.Second))
			}
		}
		want := []time.Duration{12, 33, 74, 155, 316, 617, 918, 1219, 1520}
		for i := range want {
			want[i] *= time.Second
		}
		if diff := cmp.Diff(want, starts); diff != "" {
			t.Error(diff)
		}
		if n := len(w.events("BackOff")); n != 10 {
			t.Errorf("%d events of back-off", n)
		}
	})
	run(t, func(t *testing.T, w *world) { // one that ran for long starts anew
		p := pod("p", corev1.RestartPolicyAlways, "run 11m exit 1")
		w.set(p)
		for range 5 {
			time.Sleep(11*time.Minute + time.Second)
			w.want(p, "Running running")
		}
	})
}

// TestSlowCompilation shows why a pod waits whose module takes long to compile,
// and nothing of one whose does not.
func TestSlowCompilation(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		p := pod("p", corev1.RestartPolicyNever, "run forever")
		p.Spec.Containers[0].Image = "slow"
		w.set(p)
		want := func(message string) {
			t.Helper()
			if s := w.container(p).State.Waiting; s == nil || s.Reason != "ContainerCreating" || s.Message != message {
				t.Errorf("got %+v, want %q", s, message)
			}
		}
		time.Sleep(900 * time.Millisecond)
		want("")
		time.Sleep(200 * time.Millisecond)
		want(`compiling the module of image "slow" (sha256:slow)`)
		time.Sleep(5 * time.Second)
		w.want(p, "Running running")
	})
}

func TestImage(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.images.missing = true
		p := pod("p", corev1.RestartPolicyNever, "exit 0")
		w.set(p)
		w.want(p, "Pending ErrImagePull")
		time.Sleep(2 * time.Second)
		w.want(p, "Pending ImagePullBackOff")
		time.Sleep(8 * time.Second)
		w.want(p, "Pending ErrImagePull")
		time.Sleep(2 * time.Second)
		w.want(p, "Pending ImagePullBackOff")
		if m := w.container(p).State.Waiting.Message; m != `Back-off pulling image "m": ErrImagePull: there is no file` {
			t.Error(m)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if w.images.asked < 10 || w.images.asked > 20 {
			t.Errorf("asked %d times", w.images.asked)
		}
		if n := len(w.link.events); n > 5 {
			t.Errorf("%d events: %v", n, w.link.events)
		}
		w.images.mu.Lock()
		w.images.missing = false
		w.images.mu.Unlock()
		time.Sleep(6 * time.Minute)
		w.want(p, "Succeeded Completed:0")
	})
}

// TestNeverStarts: a container that can never start says why in an event each time.
func TestNeverStarts(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		p := pod("p", corev1.RestartPolicyAlways, "limits")
		w.set(p)
		w.want(p, "Running CrashLoopBackOff")
		if got := w.events("Failed"); len(got) == 0 || !strings.Contains(got[0], "Error: start ") {
			t.Errorf("got %q", got)
		}
	})
}

func TestMissingConfigMap(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		p := pod("p", corev1.RestartPolicyAlways, "run forever")
		p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}}}}
		w.set(p)
		w.want(p, "Pending CreateContainerConfigError")
		if m := w.container(p).State.Waiting.Message; m != `configmap "cm" not found` {
			t.Error(m)
		}
		time.Sleep(time.Minute)
		if n := len(w.events("Failed")); n != 1 {
			t.Errorf("%d events", n)
		}
		time.Sleep(time.Second)
		w.set(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "cm"}})
		w.want(p, "Running running") // at once
	})
}

func TestDelete(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		slow, fast, short, force := pod("slow", "Always", "run forever"), pod("fast", "Always", "graceful run forever"), pod("short", "Always", "run forever"), pod("force", "Always", "run forever")
		all := []*corev1.Pod{slow, fast, short, force}
		for _, p := range all {
			w.set(p)
		}
		for _, p := range all {
			w.want(p, "Running running")
		}
		w.remove(slow, 30)
		w.remove(fast, 30)
		w.remove(short, 30)
		w.remove(force, 0)
		w.want(fast, "Succeeded Completed:0 gone")
		w.want(force, "Failed Error:137 gone")
		time.Sleep(5 * time.Second)
		w.want(short, "Running running")
		w.remove(short, 2)
		time.Sleep(3 * time.Second)
		w.want(short, "Failed Error:137 gone")
		time.Sleep(21 * time.Second)
		w.want(slow, "Running running")
		time.Sleep(2 * time.Second)
		w.want(slow, "Failed Error:137 gone")
		if open, _ := w.rt.Sandboxes(t.Context()); len(open) > 0 {
			t.Errorf("open: %v", open)
		}
	})
	run(t, func(t *testing.T, w *world) { // while it starts, and while it waits
		w.rt.StartDelay = time.Hour
		starting := pod("starting", "Always", "run forever")
		w.set(starting)
		time.Sleep(time.Second)
		w.remove(starting, 30)
		w.want(starting, "Pending ContainerCreating gone")
		w.rt.StartDelay = 0
		crashing := pod("crashing", "Always", "exit 1")
		w.set(crashing)
		w.want(crashing, "Running CrashLoopBackOff")
		w.remove(crashing, 30)
		w.want(crashing, "Failed CrashLoopBackOff gone")
		if open, _ := w.rt.Sandboxes(t.Context()); len(open) > 0 {
			t.Errorf("open: %v", open)
		}
	})
}

func TestActiveDeadline(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		p := pod("p", "Always", "run forever")
		seconds, grace := int64(60), int64(5)
		p.Spec.ActiveDeadlineSeconds, p.Spec.TerminationGracePeriodSeconds = &seconds, &grace
		never := p.DeepCopy()
		never.Name, never.UID = "never", "uid-never"
		never.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "none"}}}}
		w.set(p)
		w.set(never)
		time.Sleep(62 * time.Second)
		w.want(p, "Running running")
		w.want(never, "Failed CreateContainerConfigError")
		time.Sleep(4 * time.Second)
		w.want(p, "Failed Error:137")
		if s := w.link.status[p.UID]; s.Reason != "DeadlineExceeded" {
			t.Errorf("got %q", s.Reason)
		}
		w.stop()
		w.start() // what has ended does not run again
		time.Sleep(time.Minute)
		w.want(p, "Failed Error:137")
		if n := w.rt.Started(); n != 1 {
			t.Errorf("%d starts", n)
		}
	})
}

func TestLost(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		always, never := pod("always", "Always", "run forever"), pod("never", "Never", "run forever")
		w.set(always)
		w.set(never)
		synctest.Wait()
		w.rt.Lose()
		time.Sleep(time.Second)
		w.want(always, "Running running")
		w.want(never, "Failed ContainerStatusUnknown:137")
		for range 5 { // it is not to blame
			time.Sleep(20 * time.Second)
			w.rt.Lose()
			w.want(always, "Running running")
		}
		if s := w.container(always); s.RestartCount != 6 || s.LastTerminationState.Terminated.Reason != "ContainerStatusUnknown" {
			t.Errorf("got %+v", s)
		}
		time.Sleep(time.Second)
		w.rt.Lose() // or perhaps it is
		w.want(always, "Running CrashLoopBackOff")
	})
}

// A node that is stopped and started again and again is no crash of its pods.
func TestRestartedSoon(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		p := pod("p", "Always", "run forever")
		w.set(p)
		for range 5 {
			time.Sleep(2 * time.Second)
			w.want(p, "Running running")
			w.stop()
			w.rt.Lose()
			w.start()
		}
		time.Sleep(time.Second)
		w.want(p, "Running running")
		if s := w.container(p); s.RestartCount != 5 {
			t.Errorf("%d restarts", s.RestartCount)
		}
	})
}

func TestAgentRestart(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		runs, ends, crashes, gone, lost := pod("runs", "Always", "run forever"), pod("ends", "Never", "run 1m exit 4"),
			pod("crashes", "Always", "run 1s exit 1"), pod("gone", "Always", "run forever"), pod("lost", "OnFailure", "run forever")
		w.rt.StartDelay = time.Millisecond
		for _, p := range []*corev1.Pod{runs, ends, crashes, gone, lost} {
			w.set(p)
		}
		time.Sleep(5 * time.Second)
		unreported := pod("unreported", "Always", "run forever")
		w.set(unreported)
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		delete(w.link.status, unreported.UID)
		started := w.rt.Started()
		w.stop()
		delete(w.link.desired, keyOf(gone))
		left := filepath.Join(w.logs, "ns_gone_uid-gone")
		if err := os.MkdirAll(left, 0o750); err != nil {
			t.Fatal(err)
		}
		sandbox, err := w.rt.OpenSandbox(t.Context(), sandboxOf(lost))
		if err != nil {
			t.Fatal(err)
		}
		if err := sandbox.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute) // meanwhile one ends
		w.start()
		time.Sleep(time.Second)
		w.want(runs, "Running running")
		w.want(ends, "Failed Error:4")
		w.want(unreported, "Running running")
		w.want(lost, "Running running")
		if s := w.container(lost); s.RestartCount != 1 {
			t.Errorf("got %+v", s)
		}
		w.want(crashes, "Running running")
		if n := w.rt.Started() - started; n != 2 { // lost and crashes
			t.Errorf("%d starts", n)
		}
		if s := w.container(crashes); s.RestartCount != 2 {
			t.Errorf("got %+v", s)
		}
		if open, _ := w.rt.Sandboxes(t.Context()); strings.Contains(fmt.Sprint(open), "gone") {
			t.Errorf("open: %v", open)
		}
		if _, err := os.Stat(left); err == nil {
			t.Error("the logs of a pod that is gone are still there")
		}
	})
}

// TestRevive: a pod that is dropped by mistake and desired again runs again.
func TestRevive(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		p := pod("p", "Always", "run forever")
		w.set(p)
		w.want(p, "Running running")
		w.link.mu.Lock()
		w.link.sink.Unset(keyOf(p), p.UID)
		w.link.sink.Set(keyOf(p), p)
		w.link.mu.Unlock()
		time.Sleep(time.Second)
		if n := w.rt.Started(); n != 2 {
			t.Errorf("%d starts", n)
		}
	})
}

func TestImageChange(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		p := pod("p", "Never", "run forever")
		grace := int64(1)
		p.Spec.TerminationGracePeriodSeconds = &grace
		w.set(p)
		w.want(p, "Running running")
		p = p.DeepCopy()
		p.Spec.Containers[0].Image = "other"
		w.set(p)
		time.Sleep(2 * time.Second)
		w.want(p, "Running running")
		if s := w.container(p); s.ImageID != "sha256:other" || s.RestartCount != 1 {
			t.Errorf("got %+v", s)
		}
	})
}

func TestLogs(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		p := pod("p", "Always", "log one log two run 5s log three exit 1")
		ask := func(q core.LogQuery) (string, error) {
			q.Namespace, q.Pod, q.UID = p.Namespace, p.Name, p.UID
			if q.Container == "" {
				q.Container = "c0"
			}
			var out bytes.Buffer
			err := w.link.server.Logs(t.Context(), q, &out)
			return out.String(), err
		}
		w.images.missing = true
		w.set(p)
		synctest.Wait()
		if _, err := ask(core.LogQuery{}); err == nil || !strings.HasSuffix(err.Error(), `is waiting to start: ErrImagePull`) {
			t.Errorf("got %v", err)
		}
		w.images.mu.Lock()
		w.images.missing = false
		w.images.mu.Unlock()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		one, five := int64(1), int64(5)
		for name, test := range map[string]struct {
			q    core.LogQuery
			want string
		}{
			"all":   {core.LogQuery{}, "one\ntwo\n"},
			"tail":  {core.LogQuery{TailLines: &one}, "two\n"},
			"bytes": {core.LogQuery{LimitBytes: &five}, "one\nt"},
			"since": {core.LogQuery{SinceTime: time.Now().Add(time.Second)}, ""},
			"times": {core.LogQuery{Timestamps: true, TailLines: &one}, time.Now().UTC().Format(time.RFC3339Nano) + " two\n"},
		} {
			if got, err := ask(test.q); got != test.want || err != nil {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
		if _, err := ask(core.LogQuery{Previous: true}); err == nil {
			t.Error("there is no previous run")
		}
		if _, err := ask(core.LogQuery{Container: "x"}); err == nil {
			t.Error("there is no such container")
		}
		time.Sleep(6 * time.Second) // in the second run
		if got, err := ask(core.LogQuery{Previous: true}); got != "one\ntwo\nthree\n" || err != nil {
			t.Errorf("previous: %q, %v", got, err)
		}
		time.Sleep(10 * time.Minute)
		files, err := filepath.Glob(filepath.Join(w.logs, "ns_p_uid-p", "*"))
		if len(files) != 2 || err != nil {
			t.Errorf("kept %v", files)
		}
		w.remove(p, 1)
		time.Sleep(2 * time.Second)
		if left, _ := os.ReadDir(w.logs); len(left) > 0 {
			t.Errorf("left %v", left)
		}
		if _, err := ask(core.LogQuery{}); err == nil {
			t.Error("the pod is gone")
		}
	})
}

func TestInitContainers(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		p := pod("p", "Always", "run forever")
		p.Spec.InitContainers = []corev1.Container{container("i0", "run 10s exit 0"), container("i1", "run 10s exit 0")}
		w.set(p)
		time.Sleep(time.Second)
		w.want(p, "Pending running,PodInitializing,PodInitializing")
		time.Sleep(10 * time.Second)
		w.want(p, "Pending Completed:0,running,PodInitializing")
		time.Sleep(10 * time.Second)
		w.want(p, "Running Completed:0,Completed:0,running")
		w.rt.Lose() // the init containers do not run again
		time.Sleep(time.Second)
		w.want(p, "Running Completed:0,Completed:0,running")
		w.stop()
		w.start()
		time.Sleep(time.Second)
		if n := w.rt.Started(); n != 4 {
			t.Errorf("%d starts", n)
		}
	})
	for policy, want := range map[corev1.RestartPolicy]string{
		"Never": "Failed Error:1,PodInitializing", "Always": "Pending CrashLoopBackOff,PodInitializing", "OnFailure": "Pending CrashLoopBackOff,PodInitializing",
	} {
		run(t, func(t *testing.T, w *world) {
			p := pod("p", policy, "run forever")
			p.Spec.InitContainers = []corev1.Container{container("i0", "exit 1")}
			w.set(p)
			w.want(p, want)
		})
	}
}

func TestSidecars(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	side := func(name, script string) corev1.Container {
		c := container(name, script)
		c.RestartPolicy = &always
		return c
	}
	run(t, func(t *testing.T, w *world) {
		p := pod("p", "Never", "run 1m exit 0")
		p.Spec.InitContainers = []corev1.Container{side("s0", "graceful run forever"), container("i", "run 5s exit 0"), side("s1", "run 20s exit 1")}
		w.set(p)
		time.Sleep(time.Second)
		w.want(p, "Pending running,running,PodInitializing,PodInitializing")
		time.Sleep(5 * time.Second)
		w.want(p, "Running running,Completed:0,running,running")
		time.Sleep(21 * time.Second)
		w.want(p, "Running running,Completed:0,running,running") // it was restarted
		time.Sleep(time.Minute)
		got := w.is(p)
		if !strings.HasPrefix(got, "Succeeded Completed:0,Completed:0,") || !strings.HasSuffix(got, ",Completed:0") {
			t.Error(got)
		}
	})
}

// TestThousand: what a thousand pods cost in reports and events.
func TestThousand(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.rt.StartDelay = time.Millisecond
		var pods []*corev1.Pod
		for i := range 1000 {
			pods = append(pods, pod(fmt.Sprint("p", i), "Always", "run forever"))
			w.set(pods[i])
		}
		time.Sleep(time.Second)
		for _, p := range pods {
			w.want(p, "Running running")
		}
		if w.link.reports != 1000 || len(w.link.events) != 1000 {
			t.Errorf("%d reports, %d events", w.link.reports, len(w.link.events))
		}
	})
}
