package sim

import (
	"context"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/weftrun/weft/core"
)

// taken is what the core itself took of clients, or a client by force: of these
// nobody says that they run, or not in two places. Whoever deletes a node, or a
// pod by force, vouches for that.
type taken struct {
	mu      sync.Mutex
	away    map[core.Key]bool    // a pod that is gone, and was to run
	vouched map[string]bool      // a pod's name
	deleted map[string]bool      // a node's name
	since   map[string]time.Time // since when a node cannot be heard of, if it cannot now
}

func newTaken() *taken {
	return &taken{away: map[core.Key]bool{}, vouched: map[string]bool{}, deleted: map[string]bool{}, since: map[string]time.Time{}}
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
// its node was deleted, or is away, and has not been heard of for long enough: it
// may have been back for too short a time to be.
func (t *taken) pod(key core.Key, pod *corev1.Pod, heard time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	node := pod.Spec.NodeName
	away, absent := t.since[node]
	silent := absent && (time.Since(away) >= evictAfter || time.Since(heard) >= evictAfter)
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
	if !absent {
		delete(t.since, node)
	} else if _, already := t.since[node]; !already {
		t.since[node] = time.Now()
	}
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
	snapshot := t.Snapshot()
	if object, ok := snapshot.Get(key); ok && key.GroupResource() == core.Pods && len(object.GetOwnerReferences()) == 0 {
		pod, isPod := object.(*corev1.Pod)
		if isPod && !t.w.taken.pod(key, pod, lastHeard(snapshot, pod.Spec.NodeName)) {
			t.w.t.Errorf("seed %d at %s: the core takes %s from %q, which is there", t.w.seed, time.Now().Format("04:05.000"), key, pod.Spec.NodeName)
		}
	}
	return t.Client.Delete(ctx, key, o)
}

// lastHeard is when a node has renewed its lease last: no lease outlives a core, so
// who has none was not heard of by this one.
func lastHeard(s core.Snapshot, node string) time.Time {
	object, _ := s.Get(core.Key{Group: core.Leases.Group, Resource: core.Leases.Resource, Namespace: corev1.NamespaceNodeLease, Name: node})
	if lease, ok := object.(*coordinationv1.Lease); ok && lease.Spec.RenewTime != nil {
		return lease.Spec.RenewTime.Time
	}
	return time.Time{}
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
