package sim

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/weftrun/weft/core"
)

// taken is what the core itself took of clients, or a client by force: of these
// nobody says that they run, or not in two places. Whoever deletes a node, or a
// pod by force, vouches for that.
type taken struct {
	mu      sync.Mutex
	away    map[core.Key]bool  // a pod that is gone, and was to run
	vouched map[string]bool    // a pod's name
	deleted map[string]bool    // a node's name
	absence map[string]absence // by a node's name
}

// absence is when a node cannot be heard of.
type absence struct{ from, until time.Time } // until is zero if it cannot now

// heardWithin is how long a node that is back may take to be heard of: there may
// be no core, and messages are lost.
const heardWithin = 20 * time.Second

// lasts tells whether the node may still be taken for absent.
func (a absence) lasts() bool {
	return !a.from.IsZero() && (a.until.IsZero() || time.Since(a.until) < heardWithin)
}

func newTaken() *taken {
	return &taken{away: map[core.Key]bool{}, vouched: map[string]bool{}, deleted: map[string]bool{}, absence: map[string]absence{}}
}

// node says that a node was deleted.
func (t *taken) node(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.deleted[name] = true
}

// vouch says that somebody vouches for a pod of that name.
func (t *taken) vouch(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.vouched[name] = true
}

func (t *taken) isVouched(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.vouched[name]
}

// pod takes a pod away. It tells whether that may be: the pod is to go anyhow,
// its node was deleted, or not heard of for long enough.
func (t *taken) pod(key core.Key, pod *corev1.Pod) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	node := pod.Spec.NodeName
	absence := t.absence[node]
	silent := absence.lasts() && time.Since(absence.from) >= evictAfter
	if pod.DeletionTimestamp == nil && !t.deleted[node] && !silent {
		return false
	}
	t.away[key] = true
	t.vouched[key.Name] = t.vouched[key.Name] || t.deleted[node]
	return true
}

// isAway tells whether a pod may be gone.
func (t *taken) isAway(key core.Key) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.away[key]
}

// again begins a new life of a pod.
func (t *taken) again(key core.Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.away, key)
}

// absent says whether a node is heard of from now on.
func (t *taken) absent(node string, absent bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.absence[node]
	switch {
	case !absent && a.until.IsZero():
		a.until = time.Now()
	case absent && a.lasts():
		a.until = time.Time{}
	case absent:
		a = absence{from: time.Now()}
	}
	t.absence[node] = a
}

// evictAfter is how long pods stay on a node that is not heard of, at least:
// that is what they tolerate.
const evictAfter = 300 * time.Second

// taker is the client of a core's part that deletes clients' pods.
type taker struct {
	core.Client
	w *world
}

func (t *taker) Delete(ctx context.Context, key core.Key, o core.DeleteOptions) (core.Object, bool, error) {
	object, ok := t.Snapshot().Get(key)
	pod, isPod := object.(*corev1.Pod)
	switch p := o.Preconditions; {
	case key.GroupResource() != core.Pods:
	case p != nil && p.UID != nil && (!ok || *p.UID != object.GetUID()):
		// The pod that is meant had been made Failed, so that it was gone at once when
		// its client deleted it in between.
		t.w.taken.vouch(key.Name)
	case isPod && len(pod.OwnerReferences) == 0 && !t.w.taken.pod(key, pod):
		t.w.t.Errorf("seed %d at %s: the core takes %s from %q, which is there", t.w.seed, time.Now().Format("04:05.000"), key, pod.Spec.NodeName)
	}
	return t.Client.Delete(ctx, key, o)
}

// deleteNode deletes a node, which may run: then it registers itself anew.
func (w *world) deleteNode(m *machine) {
	w.note("node %s is deleted", m.who.Name)
	w.taken.node(m.who.Name)
	if c := w.current(); c != nil {
		ctx, cancel := context.WithTimeout(core.WithUser(context.WithoutCancel(w.t.Context()), core.System("operator")), requestTime)
		defer cancel()
		_, _, err := c.client.Delete(ctx, core.Key{Resource: core.Nodes.Resource, Name: m.who.Name}, core.DeleteOptions{})
		if err != nil {
			w.note("node %s is perhaps not deleted: %v", m.who.Name, err)
		}
	}
}

// absence has a machine be away for longer than pods tolerate: it is cut off, or
// has no power, and perhaps somebody deletes the node.
func (w *world) absence() {
	m := w.machines[w.more.IntN(len(w.machines))]
	w.slow.Store(true)
	if w.more.IntN(2) == 0 {
		w.note("%s is cut off for long", m.who.Name)
		w.setCut(m.who, true)
	} else {
		w.note("the machine of %s is off for long", m.who.Name)
		m.crash()
		m.rt.Lose()
	}
	time.Sleep(time.Duration(60+w.more.IntN(240)) * time.Second)
	if w.more.IntN(2) == 0 {
		w.deleteNode(m)
	}
	time.Sleep(time.Duration(w.more.IntN(200)) * time.Second)
	w.slow.Store(false)
}
