package nodelink_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/memory"
	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/nodelink"
)

func TestFollow(t *testing.T) {
	run(t, func(w *world, n *node) {
		other := w.node(bus.Identity{Role: bus.RoleNode, Name: "n2"})
		time.Sleep(time.Second)
		w.create(configMap("cm", "1"))
		w.create(secret("s", "1"))
		w.create(configMap("unused", "1"))
		w.bound(refer(pod("a"), "cm", "s"), "n1")
		w.bound(pod("b"), "n2")
		time.Sleep(10 * time.Millisecond)
		w.wantHeld(n, "n1")
		w.wantHeld(other, "n2")
		if len(other.sink.brief()) != 1 {
			t.Errorf("n2 holds %v", other.sink.brief())
		}
		before := n.sink.sets
		for i, key := range []core.Key{{Resource: "configmaps", Namespace: "default", Name: "cm"}, {Resource: "secrets", Namespace: "default", Name: "s"}} {
			if _, err := w.client.Mutate(w.ctx(), key, func(o core.Object) error {
				o.SetLabels(map[string]string{"changed": "yes"})
				return nil
			}, core.WriteOptions{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
			w.wantHeld(n, "n1")
			if n.sink.sets != before+i+1 {
				t.Errorf("%d messages for %s", n.sink.sets-before-i, key)
			}
		}
		if other.sink.sets != 1 {
			t.Errorf("n2 was told %d times", other.sink.sets)
		}
		w.create(configMap("late", "1"))
		w.bound(refer(pod("c"), "late", "none"), "n1")
		if _, _, err := w.client.Delete(w.ctx(), core.Key{Resource: "configmaps", Namespace: "default", Name: "late"}, core.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
		w.wantHeld(n, "n1")
		w.create(secret("none", "x")) // appears after the pod that needs it
		time.Sleep(10 * time.Millisecond)
		w.wantHeld(n, "n1")
		now := int64(0)
		if _, _, err := w.client.Delete(w.ctx(), podKey("a"), core.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.client.Delete(w.ctx(), podKey("c"), core.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
		w.wantHeld(n, "n1")
		if n.sink.resets != 1 {
			t.Errorf("pulled %d times", n.sink.resets)
		}
		n.sink.sets = 0
		n.Report(core.Observed{Key: podKey("c"), UID: w.pod("c").UID, Status: corev1.PodStatus{Phase: corev1.PodRunning}})
		time.Sleep(time.Second)
		if w.pod("c").Status.Phase != corev1.PodRunning || n.sink.sets != 0 {
			t.Errorf("a status alone was told to the node %d times, phase %s", n.sink.sets, w.pod("c").Status.Phase)
		}
	})
}

// TestRepair spoils one thing and expects the node to be right again.
func TestRepair(t *testing.T) {
	desired := func(m bus.Message) bool { return strings.Contains(m.Subject, ".desired.") }
	spoil := func(w *world, fate func(i int, m bus.Message) memory.Fate) {
		i := 0
		w.carry.OnDeliver(func(_, _ bus.Identity, m bus.Message) memory.Fate {
			if !desired(m) {
				return memory.Fate{}
			}
			i++
			return fate(i, m)
		})
	}
	three := func(w *world) {
		for i := range 3 {
			w.bound(pod(fmt.Sprint("p", i)), "n1")
		}
	}
	for name, test := range map[string]struct {
		act    func(w *world, n **node)
		within time.Duration
	}{
		"lost": {func(w *world, _ **node) {
			spoil(w, func(i int, _ bus.Message) memory.Fate { return memory.Fate{Drop: i == 2} })
			three(w)
		}, 100 * time.Millisecond},
		"last lost": {func(w *world, _ **node) {
			spoil(w, func(i int, _ bus.Message) memory.Fate { return memory.Fate{Drop: i == 3} })
			three(w)
		}, 700 * time.Millisecond},
		"last and its mark lost": {func(w *world, _ **node) {
			spoil(w, func(i int, _ bus.Message) memory.Fate { return memory.Fate{Drop: i == 3 || i == 4} })
			three(w)
		}, 1300 * time.Millisecond},
		"last and five marks lost": {func(w *world, _ **node) {
			spoil(w, func(i int, _ bus.Message) memory.Fate { return memory.Fate{Drop: i >= 3 && i <= 8} })
			three(w)
		}, 2 * time.Second},
		"twice": {func(w *world, _ **node) {
			spoil(w, func(int, bus.Message) memory.Fate { return memory.Fate{Copies: 2} })
			three(w)
		}, 10 * time.Millisecond},
		"reordered": {func(w *world, _ **node) {
			spoil(w, func(i int, _ bus.Message) memory.Fate {
				return memory.Fate{Delay: time.Duration(4-min(i, 4)) * 20 * time.Millisecond}
			})
			three(w)
		}, 200 * time.Millisecond},
		"core restarts": {func(w *world, _ **node) {
			w.stop()
			three(w)
			w.start()
		}, 2100 * time.Millisecond},
		"core away for long": {func(w *world, _ **node) {
			w.stop()
			three(w)
			time.Sleep(time.Hour)
			w.start()
		}, 2100 * time.Millisecond},
		"node restarts": {func(w *world, n **node) {
			(*n).stop()
			three(w)
			*n = w.node(nodeID)
		}, 100 * time.Millisecond},
		"watch expires": {func(w *world, _ **node) {
			w.client.expire()
			three(w)
		}, 1500 * time.Millisecond},
		"cut off": {func(w *world, _ **node) {
			w.carry.Cut(nodeID, true)
			three(w)
			time.Sleep(time.Minute)
			w.carry.Cut(nodeID, false)
		}, 2100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(w *world, n *node) {
				w.bound(pod("before"), "n1")
				time.Sleep(5 * time.Second)
				test.act(w, &n)
				time.Sleep(test.within)
				w.wantHeld(n, "n1")
				w.carry.OnDeliver(nil)
				resets := n.sink.resets
				time.Sleep(time.Minute)
				if n.sink.resets > resets+1 {
					t.Errorf("pulled %d times more in quiet", n.sink.resets-resets)
				}
			})
		})
	}
}

// TestRepairProperty: whatever happens, in quiet the node soon holds what it
// should, and no pull ever brings a set that is missing what was always there.
func TestRepairProperty(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			r, luck := rand.New(rand.NewPCG(seed, 7)), rand.New(rand.NewPCG(seed, 8)) // luck under the carrier's lock
			w := newWorld(t)
			w.bound(pod("always"), "n1")
			w.start()
			n := w.node(nodeID)
			w.carry.OnDeliver(func(_, _ bus.Identity, m bus.Message) memory.Fate {
				if !strings.Contains(m.Subject, ".desired.") && !strings.Contains(m.Subject, ".heartbeat.") {
					return memory.Fate{}
				}
				return memory.Fate{Drop: luck.IntN(3) == 0, Copies: luck.IntN(2), Delay: time.Duration(luck.IntN(3)*luck.IntN(80)) * time.Millisecond}
			})
			for range 120 {
				w.disturb(r, &n)
				time.Sleep(time.Duration(r.IntN(200)) * time.Millisecond)
			}
			w.carry.OnDeliver(nil)
			time.Sleep(2200 * time.Millisecond) // a heartbeat, and the pull that follows it
			w.wantHeld(n, "n1")
			if t.Failed() {
				t.Logf("seed %d", seed)
			}
			if n.sink.least == 0 {
				t.Errorf("seed %d: a pull brought an empty set", seed)
			}
		})
	}
}

// disturb does one random thing.
func (w *world) disturb(r *rand.Rand, n **node) {
	name := fmt.Sprint("p", r.IntN(6))
	ref := func() string { return fmt.Sprint("r", r.IntN(3)) }
	switch r.IntN(12) {
	case 0, 1, 2:
		p := refer(pod(name), ref(), ref())
		p.Spec.NodeName = "n1"
		w.create(p) // there may be one
	case 3:
		now := int64(0)
		_, _, _ = w.client.Delete(w.ctx(), podKey(name), core.DeleteOptions{GracePeriodSeconds: &now}) // there may be none
	case 4:
		_, _, _ = w.client.Delete(w.ctx(), podKey(name), core.DeleteOptions{}) // there may be none
	case 5, 6:
		w.create(configMap(ref(), "1"))
		w.create(secret(ref(), "1"))
	case 7:
		_, _, _ = w.client.Delete(w.ctx(), core.Key{Resource: "configmaps", Namespace: "default", Name: ref()}, core.DeleteOptions{}) // there may be none
	case 8:
		for _, key := range []core.Key{podKey(name), {Resource: "secrets", Namespace: "default", Name: ref()}} {
			_, _ = w.client.Mutate(w.ctx(), key, func(o core.Object) error { // there may be none
				o.SetLabels(map[string]string{"x": fmt.Sprint(r.IntN(100))})
				return nil
			}, core.WriteOptions{})
		}
	case 9:
		if r.IntN(3) == 0 {
			w.stop()
			time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
			w.start()
		}
	case 10:
		if r.IntN(3) == 0 {
			(*n).stop()
			*n = w.node(nodeID)
		}
	case 11:
		w.client.expire()
	}
}

func TestEpoch(t *testing.T) {
	run(t, func(w *world, old *node) {
		p := w.bound(pod("a"), "n1")
		later := w.node(nodeID)
		if later.epoch != old.epoch+1 {
			t.Errorf("epochs %d and %d", old.epoch, later.epoch)
		}
		old.Report(core.Observed{Key: podKey("a"), UID: p.UID, Status: corev1.PodStatus{Phase: corev1.PodFailed}})
		for range 2 { // Run by its call, Follow by the answer to its heartbeat
			if err := <-old.errs; !errors.Is(err, nodelink.ErrSuperseded) {
				t.Errorf("got %v", err)
			}
		}
		later.Report(core.Observed{Key: podKey("a"), UID: p.UID, Status: corev1.PodStatus{Phase: corev1.PodRunning}})
		time.Sleep(time.Second)
		if phase := w.pod("a").Status.Phase; phase != corev1.PodRunning {
			t.Errorf("the phase is %s", phase)
		}
		if _, _, err := w.client.Delete(w.ctx(), core.Key{Resource: "nodes", Name: "n1"}, core.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := <-later.errs; !errors.Is(err, nodelink.ErrRemoved) {
			t.Errorf("got %v", err)
		}
	})
}

// TestOldTerm has a core go on that leads no more.
func TestOldTerm(t *testing.T) {
	run(t, func(w *world, n *node) {
		stopOld := w.stop
		w.start() // a second core on the same bus; both serve
		time.Sleep(3 * time.Second)
		conn := w.carry.Connect(coreID)
		stale, err := nodelink.New(nodelink.Config{
			Bus: conn, Client: w.client, Events: w.events, Usage: w.used.put, Term: func() uint64 { return 0 }, Logger: quiet(),
			Blob: func(context.Context, string) (io.ReadCloser, error) { return nil, bus.ErrNotFound },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(w.t.Context())
		done := make(chan error, 1)
		go func() { done <- stale.Run(ctx) }()
		stopOld()
		w.bound(pod("a"), "n1")
		time.Sleep(20 * time.Second)
		w.wantHeld(n, "n1")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = conn.Close()
	})
}

// TestRestored has a core go on from a backup: its term and the node's epoch are
// lower than what the node has seen.
func TestRestored(t *testing.T) {
	run(t, func(w *world, n *node) {
		w.stop()
		w.term = 9
		w.start()
		time.Sleep(3 * time.Second)
		w.stop()
		if _, err := w.client.Mutate(w.ctx(), core.Key{Resource: "nodes", Name: "n1"}, func(o core.Object) error {
			o.SetAnnotations(map[string]string{nodelink.EpochAnnotation: "0"})
			return nil
		}, core.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		w.term = 3
		w.start()
		p := w.bound(pod("a"), "n1")
		time.Sleep(15 * time.Second)
		w.wantHeld(n, "n1")
		n.Report(core.Observed{Key: podKey("a"), UID: p.UID, Status: corev1.PodStatus{Phase: corev1.PodRunning}})
		time.Sleep(time.Second)
		if phase := w.pod("a").Status.Phase; phase != corev1.PodRunning {
			t.Errorf("the phase is %s", phase)
		}
		select {
		case err := <-n.errs:
			t.Errorf("the node ended: %v", err)
		default:
		}
	})
}

// TestDialed: a node whose cluster cannot be reached waits, and loses nothing of
// what it has to say.
func TestDialed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		reachable := make(chan struct{})
		link, err := nodelink.DialLink(nodeID, func(ctx context.Context) (bus.Bus, error) {
			select {
			case <-reachable:
				return w.carry.Connect(nodeID), nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}, quiet())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		s, ended := &sink{}, make(chan error, 2) // Run and Follow
		go func() { ended <- link.Run(ctx) }()
		go func() {
			if _, err := link.Register(ctx, nodeObject("n1")); err != nil {
				ended <- err
				return
			}
			ended <- link.Follow(ctx, 0, s)
		}()
		p := w.bound(pod("a"), "n1")
		link.Report(core.Observed{Key: podKey("a"), UID: p.UID, Status: corev1.PodStatus{Phase: corev1.PodRunning}})
		time.Sleep(time.Hour)
		if _, err := link.Blob(ctx, "sha256:x"); !errors.Is(err, bus.ErrUnavailable) {
			t.Errorf("blob: %v", err)
		}
		w.start()
		close(reachable)
		time.Sleep(2 * time.Second)
		if phase := w.pod("a").Status.Phase; phase != corev1.PodRunning || len(s.brief()) != 1 {
			t.Errorf("the phase is %s, held are %v", phase, s.brief())
		}
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if err := link.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestRegisteredTwice handles one registration twice, and late: the node is not
// superseded by itself.
func TestRegisteredTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		lost := 0
		w.carry.OnDeliver(func(from, _ bus.Identity, m bus.Message) memory.Fate {
			if from == nodeID && strings.HasSuffix(m.Subject, ".register") {
				lost++ // the first request arrives when the second was answered
				return memory.Fate{Delay: time.Duration(2-min(lost, 2)) * 15 * time.Second}
			}
			return memory.Fate{}
		})
		n := w.node(nodeID)
		time.Sleep(time.Minute)
		n.Report(core.Observed{Key: podKey("a"), UID: w.bound(pod("a"), "n1").UID, Status: corev1.PodStatus{Phase: corev1.PodRunning}})
		time.Sleep(time.Minute)
		select {
		case err := <-n.errs:
			t.Errorf("the node ended: %v", err)
		default:
		}
		if lost < 2 || w.pod("a").Status.Phase != corev1.PodRunning {
			t.Errorf("%d requests, the phase is %s", lost, w.pod("a").Status.Phase)
		}
	})
}

// TestDeposed: a core that stood still while another took over must not take
// care of what it knows nothing of, nor say what is desired.
func TestDeposed(t *testing.T) {
	run(t, func(w *world, n *node) {
		asked := 0
		w.carry.OnDeliver(func(from, _ bus.Identity, m bus.Message) memory.Fate {
			if from == nodeID && strings.HasSuffix(m.Subject, ".observe") {
				asked++ // under the carrier's lock
			}
			return memory.Fate{}
		})
		w.client.depose(true)
		n.Report(core.Observed{Key: podKey("new"), UID: "made by the other core", Status: corev1.PodStatus{Phase: corev1.PodSucceeded}})
		time.Sleep(10 * time.Second)
		w.carry.OnDeliver(nil)
		if asked < 5 {
			t.Errorf("what was observed was sent %d times", asked)
		}
		other := &sink{}
		conn := w.carry.Connect(nodeID)
		defer func() { _ = conn.Close() }() // the test is over
		link, err := nodelink.NewLink(conn, quiet())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(w.t.Context())
		defer cancel()
		done := make(chan error, 1) // the one result
		go func() { done <- link.Follow(ctx, 0, other) }()
		time.Sleep(10 * time.Second)
		if other.resets != 0 {
			t.Error("it said what is desired")
		}
		w.client.depose(false)
		time.Sleep(3 * time.Second)
		if other.brief(); other.resets == 0 {
			t.Error("the core that leads did not say what is desired")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
