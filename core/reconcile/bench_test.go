package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/weftrun/weft/core"
)

// BenchmarkRound1000 is one round of a parent with 1,000 children at rest:
// observed, decided, checked, compared and nothing written.
func BenchmarkRound1000(b *testing.B) {
	client := newClient()
	parent, err := client.Create(b.Context(), newReplicaSet("web", 1000), core.WriteOptions{})
	if err != nil {
		b.Fatal(err)
	}
	c, err := newEntry(&scriptedOnce{})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 1000 {
		pod := newPod(fmt.Sprintf("web-%04d", i), "web")
		pod.OwnerReferences = append(pod.OwnerReferences, ownerReference(c, parent))
		if _, err := client.Create(b.Context(), pod, core.WriteOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	t, _ := newTable([]core.Controller{&scriptedOnce{}})
	e := engine{client: client, router: newRouter(client, t), events: noEvents{}, log: slog.New(slog.DiscardHandler), timeout: time.Second, creates: 64, now: time.Now}
	s := subject{controller: "replicaset", key: core.KeyFor(core.ReplicaSets, parent)}
	state := &parentState{}
	e.round(b.Context(), c, s, state) // writes the status
	b.ReportAllocs()
	for b.Loop() {
		if o := e.round(b.Context(), c, s, state); o.err != nil || o.wrote {
			b.Fatalf("%+v", o)
		}
	}
}

// scriptedOnce decides as keepReplicas does and remembers nothing.
type scriptedOnce struct{ scripted }

func (s *scriptedOnce) Decide(_ context.Context, seen core.Observation) (core.Decision, error) {
	return keepReplicas(seen)
}

func BenchmarkQueue(b *testing.B) {
	q := newQueue()
	s := subject{controller: "x", key: core.Key{Resource: "pods", Name: "p"}}
	b.ReportAllocs()
	for b.Loop() {
		q.add(s, 0)
		w, _ := q.pop()
		if w == nil {
			b.Fatal("nothing is due")
		}
		w.ended = time.Time{}
		q.done(w, outcome{})
		w.ended = time.Time{}
	}
}
