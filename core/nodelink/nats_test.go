package nodelink_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/embedded"
	"github.com/weftrun/weft/core"
)

// spoilt is a connection whose subscriptions lose, double and reorder what they
// receive, until it is told to be good.
type spoilt struct {
	bus.Bus
	mu   sync.Mutex
	luck *rand.Rand
	good bool
	late *bus.Message
}

func (s *spoilt) Subscribe(ctx context.Context, pattern string, handle func(bus.Message)) (bus.Subscription, error) {
	return s.Bus.Subscribe(ctx, pattern, func(m bus.Message) {
		s.mu.Lock()
		defer s.mu.Unlock()
		n := s.luck.IntN(4)
		switch {
		case s.good:
			handle(m)
		case n == 0: // lost
		case n == 1:
			handle(m)
			handle(m)
		case n == 2 && s.late == nil:
			s.late = &m // the next one overtakes it
			return
		default:
			handle(m)
		}
		if s.late != nil {
			handle(*s.late)
			s.late = nil
		}
	})
}

func (s *spoilt) heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.good = true
}

// TestRepairOverNATS spoils what a node receives from a real server, and expects
// the node to be right within two seconds and the time of a pull.
func TestRepairOverNATS(t *testing.T) {
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir(), NoListen: true, Unsynced: true, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	w := newWorld(t)
	var bad *spoilt
	w.connect = func(who bus.Identity) bus.Bus {
		conn, err := server.Connect(t.Context(), who)
		if err != nil {
			t.Fatal(err)
		}
		if who.Role != bus.RoleNode {
			return conn
		}
		bad = &spoilt{Bus: conn, luck: rand.New(rand.NewPCG(1, 2))}
		return bad
	}
	w.start()
	n := w.node(nodeID)
	for i := range 200 {
		w.bound(pod(fmt.Sprint("p", i)), "n1")
		if i%3 == 0 {
			now := int64(0)
			_, _, _ = w.client.Delete(w.ctx(), podKey(fmt.Sprint("p", i/2)), core.DeleteOptions{GracePeriodSeconds: &now}) // there may be none
		}
	}
	bad.heal()
	begin := time.Now()
	for !maps.Equal(w.wanted("n1"), n.sink.brief()) {
		if time.Since(begin) > 20*time.Second {
			w.wantHeld(n, "n1")
			return
		}
		<-time.After(10 * time.Millisecond) // nobody tells
	}
	took := time.Since(begin)
	t.Logf("right after %s", took)
	if took > core.HeartbeatInterval+time.Second {
		t.Errorf("it took %s", took)
	}
}
