package store_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/store"
)

// model is the state that a row of changes leads to.
type model map[core.Key]told

// told is a change as a watch tells it; an empty value is a deletion.
type told struct {
	key      core.Key
	revision int64
	value    string
}

// commitTag is the part of a value that all puts of one commit share.
func (c told) commitTag() string { return c.key.Namespace + " " + c.value }

func (m model) apply(c told) {
	if c.value == "" {
		delete(m, c.key)
	} else {
		m[c.key] = c
	}
}

// history drives a disk through epochs that each end in a crash.
type history struct {
	t    *testing.T
	disk disk

	base   int64  // the watch's position
	state  model  // at base
	resume []told // what the watch must tell next
	seen   int64  // the newest revision that anybody was shown

	mu      sync.Mutex
	acked   []told // of durable objects, without the revisions of deletions
	watched []told
	crashed *crashPoint
}

// crashPoint is what was known at the moment of the crash.
type crashPoint struct{ acked, watched int }

const historyWorkers = 4

// TestHistories: whatever the log does, and wherever the process dies,
// everything acknowledged is there, all or nothing of each commit, in the
// order of revisions that no restart uses again, and watches tell all of it.
func TestHistories(t *testing.T) {
	for seed := range uint64(histories) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &history{t: t, disk: newDisk(), state: model{}}
				for epoch := range uint64(6) {
					h.epoch(rand.New(rand.NewPCG(seed, epoch)))
					if t.Failed() {
						return
					}
				}
			})
		})
	}
}

func (h *history) epoch(r *rand.Rand) {
	h.acked, h.watched, h.crashed = nil, nil, nil
	s, stop := h.disk.open(h.t, func(c *store.Config) {
		store.SetJump(c, 40)
		c.SnapshotRecords = 5 + r.Int64N(60)
		c.Logger = silent()
	})
	recovered := stateOf(s)
	if s.Snapshot().Revision() <= h.seen {
		h.t.Errorf("opened at revision %d, %d was seen before", s.Snapshot().Revision(), h.seen)
	}
	w, err := s.Watch(core.ConfigMaps, "", h.base)
	if apierrors.IsResourceExpired(err) { // a snapshot has taken its place
		h.base, h.state, h.resume = s.Snapshot().Revision(), recovered, nil
		w, err = s.Watch(core.ConfigMaps, "", h.base)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	h.spoil(r)
	ctx, cancel := context.WithCancel(h.t.Context())
	var workers, watcher sync.WaitGroup
	watcher.Go(func() { h.follow(s, w) })
	for i := range historyWorkers {
		own := maps.Clone(recovered)
		maps.DeleteFunc(own, func(k core.Key, _ told) bool { return k.Namespace != fmt.Sprint("w", i) })
		wr := rand.New(rand.NewPCG(r.Uint64(), uint64(i)))
		workers.Go(func() { h.work(ctx, s, i, own, wr) })
	}
	time.Sleep(time.Duration(r.IntN(60_000)) * time.Microsecond)
	after := h.crash()
	time.Sleep(5 * time.Millisecond)
	cancel()
	workers.Wait()
	_ = stop() // an error, if it drains over a log that fails
	watcher.Wait()
	h.disk = after
	h.check()
}

// spoil gives the log latency and faults.
func (h *history) spoil(r *rand.Rand) {
	fault := rand.New(rand.NewPCG(r.Uint64(), 0))
	odds := r.IntN(3) * 10
	wal := h.disk.wal
	wal.mu.Lock()
	defer wal.mu.Unlock()
	wal.latency = time.Duration(1+r.IntN(1000)) * time.Microsecond
	wal.fault = func(record []byte) (bool, error) {
		switch n := fault.IntN(100); {
		case n < odds/2:
			return lostAnswer(record)
		case n < odds:
			return lostRequest(record)
		case n < odds+odds/10:
			return refusedRequest(record)
		}
		return true, nil
	}
}

// work commits to this worker's own keys, so that it knows what to expect.
func (h *history) work(ctx context.Context, s *store.Store, worker int, own model, r *rand.Rand) {
	for i := 0; ctx.Err() == nil; i++ {
		if r.IntN(5) == 0 {
			h.aside(ctx, s, fmt.Sprintf("%d-%d-%d", s.Term(), worker, i), r.IntN(2) == 0)
			continue
		}
		var ops []core.Op
		var changes []told
		for _, n := range r.Perm(6)[:1+r.IntN(3)] {
			c := told{key: mapKey(fmt.Sprint("w", worker), fmt.Sprint("m", n))}
			op := core.Op{Key: c.key, Expect: own[c.key].revision}
			if op.Expect == 0 || r.IntN(4) > 0 {
				c.value = fmt.Sprint(s.Term(), "-", i)
				op.Object = configMap(c.key.Namespace, c.key.Name, c.value)
			}
			ops, changes = append(ops, op), append(changes, c)
		}
		kept, err := s.Commit(ctx, s.Epoch(), ops)
		switch {
		case err == nil:
			h.acknowledge(s, own, changes, kept)
		case apierrors.IsTimeout(err):
			return // this worker no longer knows what to expect
		case !apierrors.IsServiceUnavailable(err):
			h.t.Errorf("commit: %v", err)
			return
		}
	}
}

// aside commits what is not durable.
func (h *history) aside(ctx context.Context, s *store.Store, name string, lazy bool) {
	o := configMap("aside", name, "x")
	resource := core.Leases
	if lazy {
		resource = core.Events
	}
	kept, err := s.Commit(ctx, s.Epoch(), []core.Op{{Key: core.KeyFor(resource, o), Object: o}})
	if err == nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.see(core.Revision(kept[0]))
	}
}

// see notes a revision that somebody was shown before the crash.
func (h *history) see(revision int64) {
	if h.crashed == nil {
		h.seen = max(h.seen, revision)
	}
}

func (h *history) acknowledge(s *store.Store, own model, changes []told, kept []core.Object) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := s.Snapshot()
	h.see(v.Revision())
	for i, c := range changes {
		o, _ := v.Get(c.key)
		if o != kept[i] {
			h.t.Errorf("%s is not as it was committed", c.key)
		}
		if kept[i] != nil {
			c.revision = core.Revision(kept[i])
		}
		own.apply(c)
		h.acked = append(h.acked, c)
	}
}

// follow notes what the watch returns until the store ends.
func (h *history) follow(s *store.Store, w core.Watch) {
	last, previous := h.base, map[string]int64{}
	for {
		changes, err := w.Next(h.t.Context())
		if err != nil {
			return
		}
		if n := changes[len(changes)-1].Revision; n > s.Snapshot().Revision() {
			h.t.Errorf("revision %d was told before it is in a snapshot", n)
		}
		h.mu.Lock()
		for _, c := range changes {
			e := told{key: c.Key, revision: c.Revision}
			if !c.Deleted {
				e.value = c.Object.(*corev1.ConfigMap).Data["value"]
			}
			if c.Revision <= last || core.Revision(c.Object) != c.Revision {
				h.t.Errorf("revision %d follows %d", c.Revision, last)
			}
			if p := previous[c.Key.Namespace]; p != 0 && c.Previous != p {
				h.t.Errorf("%s: previous %d, want %d", c.Key, c.Previous, p)
			}
			previous[c.Key.Namespace], last = c.Revision, c.Revision
			h.watched = append(h.watched, e)
			h.see(c.Revision)
		}
		if got := w.Revision(); got < last {
			h.t.Errorf("bookmark %d after revision %d", got, last)
		} else {
			h.see(got)
		}
		h.mu.Unlock()
	}
}

// crash returns the disk as it is at one moment.
func (h *history) crash() disk {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.crashed = &crashPoint{acked: len(h.acked), watched: len(h.watched)}
	wal, snapshots := h.disk.wal, h.disk.snapshots
	wal.mu.Lock()
	defer wal.mu.Unlock()
	snapshots.mu.Lock()
	defer snapshots.mu.Unlock()
	return disk{
		&fakeLog{first: wal.first, records: slices.Clone(wal.records)},
		&fakeLog{first: snapshots.first, records: slices.Clone(snapshots.records)},
	}
}

// check finds the place in the row of watched changes where the crash has cut
// it, and that this place is one that it may have.
func (h *history) check() {
	if n := len(h.resume); len(h.watched) < n || !slices.Equal(h.watched[:n], h.resume) {
		h.t.Errorf("the watch resumed with %v, want %v", h.watched[:min(n, len(h.watched))], h.resume)
		return
	}
	reopened, err := store.Open(h.t.Context(), h.disk.crash().config(h.t))
	if err != nil {
		h.t.Error(err)
		return
	}
	got := stateOf(reopened)
	at, base := maps.Clone(h.state), maps.Clone(h.state)
	for cut := 0; ; cut++ {
		if cut >= h.crashed.watched && maps.Equal(at, got) && h.allowed(h.watched[:cut]) {
			h.resume = h.watched[h.crashed.watched:cut]
			break
		}
		if cut == len(h.watched) {
			h.t.Errorf("recovered %d objects that are no cut of the %d changes after the %d that were seen; %d acknowledged",
				len(got), len(h.watched), h.crashed.watched, h.crashed.acked)
			return
		}
		at.apply(h.watched[cut])
	}
	for _, c := range h.watched[:h.crashed.watched] {
		base.apply(c)
		h.base = c.revision
	}
	h.state = base
}

// allowed says whether a crash may leave these changes and no more: all those
// acknowledged, and of each commit all or nothing.
func (h *history) allowed(cut []told) bool {
	count := map[string]int{}
	for _, c := range cut {
		count[c.key.String()+c.value]++
	}
	for _, c := range h.acked[:h.crashed.acked] {
		if count[c.key.String()+c.value]--; count[c.key.String()+c.value] < 0 {
			return false
		}
	}
	for _, c := range h.watched[len(cut):] {
		if c.value != "" && slices.ContainsFunc(cut, func(o told) bool { return o.commitTag() == c.commitTag() }) {
			return false
		}
	}
	return true
}

func stateOf(s *store.Store) model {
	m := model{}
	for key, o := range s.Snapshot().List(core.ConfigMaps, "") {
		m[key] = told{key, core.Revision(o), strings.Clone(o.(*corev1.ConfigMap).Data["value"])}
	}
	return m
}
