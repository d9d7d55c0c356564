package memory_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/bustest"
	"github.com/weftrun/weft/bus/memory"
)

func connect(t *testing.T, h *memory.Hub, who bus.Identity) bus.Bus {
	b := h.Connect(who)
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func TestOnDeliver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := memory.New()
		core, node := connect(t, h, bustest.Core), connect(t, h, bustest.Node)
		got := make(chan string, 16) // more than is sent
		if _, err := core.Subscribe(t.Context(), bus.AllHeartbeats, func(m bus.Message) { got <- string(m.Data) }); err != nil {
			t.Fatal(err)
		}
		fates := map[string]memory.Fate{"late": {Delay: time.Minute}, "lost": {Drop: true}, "twice": {Copies: 1}}
		h.OnDeliver(func(from, to bus.Identity, m bus.Message) memory.Fate {
			if from != bustest.Node || to != bustest.Core {
				t.Errorf("from %s to %s", from, to)
			}
			return fates[string(m.Data)]
		})
		for _, text := range []string{"late", "lost", "twice", "plain"} {
			if err := node.Publish(t.Context(), bus.Message{Subject: bus.HeartbeatSubject("n1"), Data: []byte(text)}); err != nil {
				t.Fatal(err)
			}
		}
		begin := time.Now()
		for _, want := range []string{"twice", "twice", "plain", "late"} {
			if text := <-got; text != want {
				t.Fatalf("got %s, want %s", text, want)
			}
		}
		if d := time.Since(begin); d != time.Minute {
			t.Errorf("the late one came after %s", d)
		}
	})
}

func TestOnAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := memory.New()
		core := connect(t, h, bustest.Core)
		log, err := core.OpenLog(t.Context(), "WAL")
		if err != nil {
			t.Fatal(err)
		}
		fate := memory.Lose
		h.OnAppend(func(context.Context, bus.Identity, string, []byte) memory.AppendFate { return fate })
		if _, err := log.Append(t.Context(), 0, nil); !errors.Is(err, bus.ErrUnavailable) {
			t.Fatalf("got %v", err)
		}
		if _, last, _ := log.Bounds(t.Context()); last != 0 {
			t.Fatalf("a lost append was stored as %d", last)
		}
		fate = memory.LoseReply
		if _, err := log.Append(t.Context(), 0, nil); !errors.Is(err, bus.ErrUnavailable) {
			t.Fatalf("got %v", err)
		}
		if _, last, _ := log.Bounds(t.Context()); last != 1 {
			t.Fatalf("the newest is %d, want it stored", last)
		}
		h.OnAppend(func(ctx context.Context, _ bus.Identity, _ string, _ []byte) memory.AppendFate {
			<-ctx.Done() // held until nobody waits
			return memory.Store
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := log.Append(ctx, 1, nil); !errors.Is(err, bus.ErrUnavailable) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := memory.New()
		core, node := connect(t, h, bustest.Core), connect(t, h, bustest.Node)
		ended := make(chan error, 1) // one result
		if _, err := node.Accept(t.Context(), bus.NodePattern("n1"), func(_ context.Context, _ bus.Message, s bus.Stream) error {
			_, err := io.Copy(io.Discard, s)
			ended <- err
			return err
		}); err != nil {
			t.Fatal(err)
		}
		s, err := core.Open(t.Context(), bus.Message{Subject: bus.NodeSubject("n1", "exec")})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute) // an idle stream lives
		if _, err := s.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		h.Cut(bustest.Node, true)
		if err := node.Publish(t.Context(), bus.Message{Subject: bus.HeartbeatSubject("n1")}); !errors.Is(err, bus.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		begin := time.Now()
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, bus.ErrUnavailable) {
			t.Errorf("got %v, want it unavailable", err)
		}
		if err := <-ended; !errors.Is(err, bus.ErrUnavailable) {
			t.Errorf("got %v, want it unavailable", err)
		}
		if d := time.Since(begin); d > 32*time.Second {
			t.Errorf("noticed after %s", d)
		}
		h.Cut(bustest.Node, false)
		if err := node.Publish(t.Context(), bus.Message{Subject: bus.HeartbeatSubject("n1")}); err != nil {
			t.Error(err)
		}
	})
}

// TestLostFrame loses one frame of a stream, which must not go unnoticed.
func TestLostFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := memory.New()
		core, node := connect(t, h, bustest.Core), connect(t, h, bustest.Node)
		if _, err := node.Accept(t.Context(), bus.NodePattern("n1"), func(ctx context.Context, _ bus.Message, s bus.Stream) error {
			_, err := s.Write([]byte("first"))
			<-ctx.Done()
			return err
		}); err != nil {
			t.Fatal(err)
		}
		h.OnDeliver(func(_, _ bus.Identity, m bus.Message) memory.Fate {
			return memory.Fate{Drop: len(m.Data) > 2 && m.Data[0] == 'D'}
		})
		s, err := core.Open(t.Context(), bus.Message{Subject: bus.NodeSubject("n1", "logs")})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(make([]byte, 10)); !errors.Is(err, bus.ErrUnavailable) {
			t.Errorf("got %v, want it unavailable", err)
		}
	})
}
