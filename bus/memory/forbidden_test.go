package memory

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/bustest"
	"github.com/weftrun/weft/bus/internal/wire"
)

func linkOf(h *Hub, who bus.Identity) *link {
	return &link{hub: h, who: who, perms: bus.PermissionsOf(who), replies: make(map[string]time.Time)}
}

// TestCarrierForbids bypasses the checks of the connection.
func TestCarrierForbids(t *testing.T) {
	for _, who := range []bus.Identity{bustest.Node, bustest.Observer} {
		l := linkOf(New(), who)
		for _, subject := range bustest.ForbiddenPublish(who) {
			if err := l.Publish(wire.Frame{Subject: subject}); !errors.Is(err, bus.ErrRefused) {
				t.Errorf("%s publishes on %s: %v", who, subject, err)
			}
		}
		for _, pattern := range bustest.ForbiddenSubscribe(who) {
			if _, err := l.Subscribe(pattern, "", wire.Limits{}); !errors.Is(err, bus.ErrRefused) {
				t.Errorf("%s subscribes to %s: %v", who, pattern, err)
			}
		}
	}
}

func TestReplyInjection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New()
		core := h.Connect(bustest.Core)
		defer func() { _ = core.Close() }()
		var handled atomic.Int64
		if _, err := core.Serve(t.Context(), bus.AllAPI, func(context.Context, bus.Message) (bus.Message, error) {
			handled.Add(1)
			return bus.Message{}, nil
		}); err != nil {
			t.Fatal(err)
		}
		for _, who := range []bus.Identity{bustest.Node, bustest.Observer} {
			l := linkOf(h, who)
			for _, reply := range []string{"", "_INBOX.node.n2.x", "_INBOX.core.core-1.x", "$JS.API.STREAM.DELETE.WAL", who.Inbox()} {
				if err := l.Publish(wire.Frame{Subject: bus.APISubject(who, "list"), Reply: reply}); err != nil {
					t.Fatal(err)
				}
			}
		}
		synctest.Wait()
		if n := handled.Load(); n != 0 {
			t.Errorf("%d injected requests were handled", n)
		}
	})
}

func TestMayAnswerForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New()
		core, node := linkOf(h, bustest.Core), linkOf(h, bustest.Node)
		feed, err := node.Subscribe(bus.NodePattern(bustest.Node.Name), "", wire.Limits{Messages: 1, Bytes: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = feed.Close() }()
		reply := bustest.Core.Inbox() + ".c.1"
		if err := core.Publish(wire.Frame{Subject: bus.NodeSubject(bustest.Node.Name, "x"), Reply: reply}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := node.Publish(wire.Frame{Subject: reply}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(bus.RespondFor + time.Second)
		if err := node.Publish(wire.Frame{Subject: reply}); !errors.Is(err, bus.ErrRefused) {
			t.Errorf("an answer after %s: %v", bus.RespondFor, err)
		}
	})
}
