package nodelink_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/memory"
	"github.com/weftrun/weft/core"
)

func observed(p *corev1.Pod, phase corev1.PodPhase) core.Observed {
	return core.Observed{Key: podKey(p.Name), UID: p.UID, Status: corev1.PodStatus{Phase: phase, Conditions: []corev1.PodCondition{
		{Type: corev1.PodReady, Status: corev1.ConditionTrue},
		{Type: corev1.PodScheduled, Status: corev1.ConditionFalse}, // not the node's to say
	}}}
}

func (w *world) wantPhase(name string, want corev1.PodPhase) {
	w.t.Helper()
	p := w.pod(name)
	if p == nil {
		w.t.Fatalf("pod %s is gone", name)
	}
	if p.Status.Phase != want {
		w.t.Errorf("pod %s is %s, want %s", name, p.Status.Phase, want)
	}
}

func TestObserve(t *testing.T) {
	run(t, func(w *world, n *node) {
		a := w.bound(pod("a"), "n1")
		if _, err := w.client.Mutate(w.ctx(), podKey("a"), func(o core.Object) error {
			p := o.(*corev1.Pod)
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}, {Type: "example.com/gate", Status: corev1.ConditionTrue}}
			return nil
		}, core.WriteOptions{Subresource: "status"}); err != nil {
			t.Fatal(err)
		}
		n.Report(observed(a, corev1.PodPending))
		n.Report(observed(a, corev1.PodRunning))
		time.Sleep(50 * time.Millisecond)
		w.wantPhase("a", corev1.PodRunning)
		conditions := map[corev1.PodConditionType]corev1.ConditionStatus{}
		for _, c := range w.pod("a").Status.Conditions {
			conditions[c.Type] = c.Status
		}
		want := map[corev1.PodConditionType]corev1.ConditionStatus{"Ready": "True", "PodScheduled": "True", "example.com/gate": "True"}
		if diff := cmp.Diff(want, conditions); diff != "" {
			t.Error(diff)
		}
		if w.pod("a").Status.QOSClass != corev1.PodQOSBestEffort {
			t.Error("the class of service was overwritten")
		}
		n.Report(observed(a, corev1.PodSucceeded))
		time.Sleep(50 * time.Millisecond)
		for _, phase := range []corev1.PodPhase{corev1.PodRunning, corev1.PodFailed} {
			n.Report(observed(a, phase))
			time.Sleep(50 * time.Millisecond)
			w.wantPhase("a", corev1.PodSucceeded)
		}
	})
}

// TestObserveAgain has the core away, and refusing for a while: the newest
// status comes through, one that can never be committed is not sent for ever.
func TestObserveAgain(t *testing.T) {
	run(t, func(w *world, n *node) {
		a, b := w.bound(pod("a"), "n1"), w.bound(pod("b"), "n1")
		w.stop()
		n.Report(observed(a, corev1.PodPending))
		time.Sleep(time.Minute)
		n.Report(observed(a, corev1.PodRunning))
		w.start()
		time.Sleep(2 * time.Second)
		w.wantPhase("a", corev1.PodRunning)

		var calls atomic.Int32 // by the hub's goroutines
		w.client.setRefuse(func(key core.Key) error {
			if key != podKey("b") {
				return nil
			}
			if calls.Add(1) < 5 {
				return apierrors.NewServiceUnavailable("not now")
			}
			return nil
		})
		n.Report(observed(b, corev1.PodRunning))
		time.Sleep(2 * time.Second)
		w.wantPhase("b", corev1.PodRunning)
		if calls.Load() != 5 {
			t.Errorf("%d attempts", calls.Load())
		}
		w.client.setRefuse(func(key core.Key) error {
			if key == podKey("b") {
				calls.Add(1)
				return apierrors.NewBadRequest("never")
			}
			return nil
		})
		n.Report(observed(b, corev1.PodSucceeded))
		time.Sleep(time.Minute)
		if calls.Load() != 6 {
			t.Errorf("what is refused for good was tried %d times", calls.Load()-5)
		}
	})
}

// TestObserveProperty: calls and answers are lost and late, the core restarts,
// and what each pod reported last stands in the end, never followed by less.
func TestObserveProperty(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			r, luck := rand.New(rand.NewPCG(seed, 3)), rand.New(rand.NewPCG(seed, 4)) // luck under the carrier's lock
			w := newWorld(t)
			w.start()
			n := w.node(nodeID)
			var pods []*corev1.Pod
			for i := range 5 {
				pods = append(pods, w.bound(pod(fmt.Sprint("p", i)), "n1"))
			}
			w.carry.OnDeliver(func(_, _ bus.Identity, m bus.Message) memory.Fate {
				return memory.Fate{Drop: luck.IntN(5) == 0, Delay: time.Duration(luck.IntN(2)*luck.IntN(15_000)) * time.Millisecond}
			})
			last := map[string]string{}
			for i := range 200 {
				p := pods[r.IntN(len(pods))]
				o := observed(p, corev1.PodRunning)
				o.Status.Message = fmt.Sprint(i)
				last[p.Name] = o.Status.Message
				n.Report(o)
				time.Sleep(time.Duration(r.IntN(1000)) * time.Millisecond)
			}
			w.carry.OnDeliver(nil)
			time.Sleep(time.Minute) // calls time out after 10 s, late ones come after 15
			for name, want := range last {
				if got := w.pod(name).Status.Message; got != want {
					t.Errorf("seed %d: %s says %s, want %s", seed, name, got, want)
				}
			}
		})
	}
}

func TestGone(t *testing.T) {
	run(t, func(w *world, n *node) {
		gone := func(p *corev1.Pod) {
			o := observed(p, corev1.PodFailed)
			o.Gone = true
			n.Report(o)
			time.Sleep(50 * time.Millisecond)
		}
		a := w.bound(pod("a"), "n1")
		gone(a)
		if w.pod("a") == nil {
			t.Fatal("a pod that nobody deleted is gone")
		}
		b := w.bound(pod("b"), "n1")
		if _, _, err := w.client.Delete(w.ctx(), podKey("b"), core.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		namesake := b.DeepCopy()
		namesake.UID = "another"
		gone(namesake)
		if w.pod("b") == nil {
			t.Fatal("a pod went for its namesake")
		}
		gone(b)
		if w.pod("b") != nil {
			t.Error("b is still there")
		}
		gone(b) // nothing to do
	})
}

// TestHostile is a node that says what is not its own to say.
func TestHostile(t *testing.T) {
	run(t, func(w *world, n *node) {
		foreign := w.bound(pod("foreign"), "n2")
		mine := w.bound(pod("mine"), "n1")
		unbound := w.bound(pod("unbound"), "")
		wrong := *mine
		wrong.UID = "wrong"
		for _, p := range []*corev1.Pod{foreign, unbound, &wrong} {
			o := observed(p, corev1.PodFailed)
			o.Gone = true
			n.Report(o)
		}
		for _, about := range []corev1.ObjectReference{
			{Kind: "Pod", Namespace: "default", Name: "foreign", UID: foreign.UID},
			{Kind: "Pod", Namespace: "default", Name: "mine", UID: "wrong"},
			{Kind: "Node", Name: "n2"}, {Kind: "Secret", Namespace: "default", Name: "x"},
			{Kind: "Pod", Namespace: "default", Name: "mine", UID: mine.UID}, {Kind: "Node", Name: "n1"},
		} {
			n.Event(core.NodeEvent{About: about, Type: "Normal", Reason: "Because"})
		}
		time.Sleep(time.Second)
		for _, name := range []string{"foreign", "mine", "unbound"} {
			w.wantPhase(name, corev1.PodPending)
		}
		if diff := cmp.Diff([]string{"Pod/mine Because", "Node/n1 Because"}, w.events.all()); diff != "" {
			t.Error(diff)
		}
		many := map[string]any{"epoch": n.epoch, "batch": 1000, "pods": make([]map[string]any, 501)}
		for name, body := range map[string]any{
			"observe": many, "register": map[string]any{"node": nodeObject("n2")},
			"register ":  map[string]any{"node": &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"node-restriction.kubernetes.io/x": "y"}}}},
			"register  ": map[string]any{}, "observe ": "text", "observe  ": map[string]any{"epoch": n.epoch + 1},
		} {
			data, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			_, err = n.conn.Call(w.t.Context(), bus.Message{Subject: bus.APISubject(nodeID, strings.TrimSpace(name)), Data: data})
			if err == nil {
				t.Errorf("%s was accepted: %.80s", name, data)
			}
		}
		for range 3 { // streams that are opened and never read
			if _, err := n.conn.Open(w.t.Context(), bus.Message{Subject: bus.APISubject(nodeID, "sync")}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestPoison: what the core can never take is given up, all else gets through.
func TestPoison(t *testing.T) {
	run(t, func(w *world, n *node) {
		var pods []*corev1.Pod
		for i := range 20 {
			pods = append(pods, w.bound(pod(fmt.Sprint("p", i)), "n1"))
		}
		for i, p := range pods {
			o := observed(p, corev1.PodRunning)
			if i == 7 {
				o.Status.Message = strings.Repeat("x", bus.MaxPayload)
			}
			n.Report(o)
		}
		time.Sleep(time.Minute)
		for i, p := range pods {
			want := corev1.PodRunning
			if i == 7 {
				want = corev1.PodPending
			}
			w.wantPhase(p.Name, want)
		}
		n.Report(observed(pods[7], corev1.PodRunning))
		time.Sleep(time.Second)
		w.wantPhase("p7", corev1.PodRunning)
	})
}

type logs struct{}

func (logs) Logs(ctx context.Context, q core.LogQuery, w io.Writer) error {
	if q.Container == "bad" {
		return fmt.Errorf("container %q is not valid", q.Container)
	}
	if _, err := fmt.Fprintf(w, "log of %s\n", q.Pod); err != nil {
		return err
	}
	if q.Follow {
		<-ctx.Done()
	}
	return nil
}

func TestLogsAndBlobs(t *testing.T) {
	run(t, func(w *world, n *node) {
		a := w.bound(pod("a"), "n1")
		ask := func(q core.LogQuery) (string, error) {
			var out strings.Builder
			ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
			defer cancel()
			q.Pod = "a"
			err := w.hub.Logs(ctx, a, q, &out)
			return out.String(), err
		}
		if _, err := ask(core.LogQuery{}); !apierrors.IsServiceUnavailable(err) {
			t.Errorf("of a node that does not serve: %v", err)
		}
		ctx, cancel := context.WithCancel(w.t.Context())
		done := make(chan error, 1)
		go func() { done <- n.Serve(ctx, logs{}) }()
		synctest.Wait()
		for _, follow := range []bool{false, true} {
			if text, err := ask(core.LogQuery{Follow: follow}); text != "log of a\n" || err != nil {
				t.Errorf("follow %t: %q, %v", follow, text, err)
			}
		}
		if _, err := ask(core.LogQuery{Container: "bad"}); !apierrors.IsBadRequest(err) {
			t.Errorf("got %v", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		blob, err := n.Blob(w.t.Context(), "sha256:x")
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(blob)
		if string(content) != "content of sha256:x" || err != nil {
			t.Errorf("%q, %v", content, err)
		}
		if err := blob.Close(); err != nil {
			t.Error(err)
		}
		none, err := n.Blob(w.t.Context(), "none")
		if err == nil {
			_, err = io.ReadAll(none)
		}
		if want := "there is no module none: push it with weft push"; err == nil || err.Error() != want {
			t.Errorf("got %v, want %q", err, want)
		}
	})
}
