package nodelink

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// How much one node may have under way at once. It is more than a node needs
// whose calls timed out; the handlers are shared by all nodes.
const (
	callsMax   = 4
	streamsMax = 16
)

// gate bounds what each node has under way at once.
type gate struct {
	mu   sync.Mutex
	busy map[string]int
}

// enter takes a place; the caller leaves it.
func (g *gate) enter(node, method string, limit int) (leave func(), err error) {
	key := method + "/" + node
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.busy[key] >= limit {
		return nil, fmt.Errorf("%s: node %s has %d under way, which is the limit", method, node, limit)
	}
	if g.busy == nil {
		g.busy = map[string]int{}
	}
	g.busy[key]++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.busy[key]--; g.busy[key] == 0 {
			delete(g.busy, key)
		}
	}, nil
}

// sender is a process that sends observations as a node.
type sender struct {
	node  types.UID // a node that was deleted and registered anew counts its epochs anew
	epoch int64
	batch atomic.Uint64 // the newest that has begun
}

// begin notes that a batch of observations has come in. current tells whether
// it is still the newest. It returns false if it is not even now.
func (h *Hub) begin(node *corev1.Node, epoch int64, batch uint64) (current func() bool, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.senders[node.Name]
	if s == nil || s.node != node.UID || s.epoch < epoch {
		if s != nil {
			s.batch.Store(math.MaxUint64)
		}
		s = &sender{node: node.UID, epoch: epoch}
		h.senders[node.Name] = s
	}
	if s.epoch > epoch || batch <= s.batch.Load() {
		return nil, false
	}
	s.batch.Store(batch)
	return func() bool { return s.batch.Load() == batch }, true
}
