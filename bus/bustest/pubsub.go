package bustest

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/weftrun/weft/bus"
)

// listen subscribes and returns the messages.
func listen(t *testing.T, b bus.Bus, pattern string) (<-chan bus.Message, bus.Subscription) {
	t.Helper()
	got := make(chan bus.Message, 4096) // more than any case sends
	return got, must(b.Subscribe(within(t), pattern, func(m bus.Message) { got <- m }))(t)
}

func pubSubCases() []Case {
	return []Case{
		{"pubsub/to who listens", pubSubDelivers},
		{"pubsub/keeps order", func(t *testing.T, connect func(bus.Identity) bus.Bus) {
			got, _ := listen(t, connect(Observer), bus.AllEvents)
			c := connect(Core)
			for i := range 2000 {
				check(t, c.Publish(within(t), bus.Message{Subject: bus.EventSubject("", "pods", "a", fmt.Sprint(i%7)), Data: fmt.Append(nil, i)}))
			}
			check(t, c.Flush(within(t)))
			for i := range 2000 {
				if m := receive(t, got); string(m.Data) != fmt.Sprint(i) {
					t.Fatalf("got message %s, want %d", m.Data, i)
				}
			}
		}},
		{"pubsub/owns its bytes", func(t *testing.T, connect func(bus.Identity) bus.Bus) {
			c := connect(Core)
			one, _ := listen(t, c, "weft.v1.event.>")
			two, _ := listen(t, c, "weft.v1.event.>")
			data := []byte("same")
			check(t, c.Publish(within(t), bus.Message{Subject: bus.EventSubject("", "pods", "a", "b"), Data: data}))
			data[0] = 'x'
			m := receive(t, one)
			m.Data[0] = 'y'
			if got := string(receive(t, two).Data); got != "same" {
				t.Fatalf("got %q, want it unchanged", got)
			}
		}},
		{"pubsub/one handler at a time, and close waits for it", pubSubClose},
		{"pubsub/a handler may close its subscription", func(t *testing.T, connect func(bus.Identity) bus.Bus) {
			c := connect(Core)
			ready, done := make(chan bus.Subscription, 1), make(chan error, 1) // one value each
			s := must(c.Subscribe(within(t), "weft.v1.x", func(bus.Message) { done <- (<-ready).Close() }))(t)
			ready <- s
			check(t, c.Publish(within(t), bus.Message{Subject: "weft.v1.x"}))
			check(t, receive(t, done))
		}},
		{"pubsub/refuses what is malformed", pubSubMalformed},
		{"pubsub/names with all characters", func(t *testing.T, connect func(bus.Identity) bus.Bus) {
			got, _ := listen(t, connect(Core), bus.AllHeartbeats)
			n := connect(OddNode)
			check(t, n.Publish(within(t), bus.Message{Subject: bus.HeartbeatSubject(OddNode.Name)}))
			m := receive(t, got)
			if tokens := bus.Tokens(m.Subject); len(tokens) != 2 || tokens[1] != OddNode.Name {
				t.Fatalf("got subject %q", m.Subject)
			}
		}},
	}
}

func pubSubDelivers(t *testing.T, connect func(bus.Identity) bus.Bus) {
	c, n, o := connect(Core), connect(Node), connect(Observer)
	desired, _ := listen(t, n, bus.DesiredPattern(Node.Name))
	all, _ := listen(t, n, bus.DesiredPattern(bus.AllNodes))
	events, sub := listen(t, o, bus.AllEvents)
	m := bus.Message{Subject: bus.DesiredSubject(Node.Name, "pods", "uid"), Header: bus.Header{"Case": "kept", "case": "too"}, Data: []byte("x")}
	check(t, c.Publish(within(t), m))
	if diff := cmp.Diff(m, receive(t, desired)); diff != "" {
		t.Fatal(diff)
	}
	check(t, c.Publish(within(t), bus.Message{Subject: bus.DesiredSubject("other", "pods", "uid")}))
	check(t, c.Publish(within(t), bus.Message{Subject: bus.DesiredSubject(bus.AllNodes, "services", "uid")}))
	receive(t, all)
	check(t, c.Publish(within(t), bus.Message{Subject: bus.EventSubject("", "pods", "", "b")}))
	if m := receive(t, events); m.Header != nil || len(m.Data) != 0 {
		t.Fatalf("got %+v, want it empty", m)
	}
	silence(t, desired)
	check(t, sub.Close())
	check(t, c.Publish(within(t), bus.Message{Subject: bus.EventSubject("", "pods", "", "b")}))
	silence(t, events)
}

func pubSubClose(t *testing.T, connect func(bus.Identity) bus.Bus) {
	c := connect(Core)
	var running atomic.Int32
	entered, leave := make(chan struct{}, 8), make(chan struct{}) // one for each message
	s := must(c.Subscribe(within(t), "weft.v1.x.*", func(bus.Message) {
		if running.Add(1) != 1 {
			t.Error("two handlers run at once")
		}
		entered <- struct{}{}
		<-leave
		running.Add(-1)
	}))(t)
	for i := range 3 {
		check(t, c.Publish(within(t), bus.Message{Subject: fmt.Sprint("weft.v1.x.", i)}))
	}
	receive(t, entered)
	closed := make(chan error, 1) // one result
	go func() { closed <- s.Close() }()
	silence(t, closed)
	leave <- struct{}{}
	check(t, receive(t, closed))
	if n := running.Load(); n != 0 {
		t.Fatalf("%d handlers run after close", n)
	}
	silence(t, entered)
}

func pubSubMalformed(t *testing.T, connect func(bus.Identity) bus.Bus) {
	c := connect(Core)
	for _, subject := range []string{"", ".", "a..b", "a.", "a b", "a.*", "a.>", "a\r\nPUB x 0", string(make([]byte, 5000))} {
		wantError(t, c.Publish(within(t), bus.Message{Subject: subject}), bus.ErrRefused)
	}
	for _, pattern := range []string{"", "a..b", "a.>.b", "a b"} {
		_, err := c.Subscribe(within(t), pattern, func(bus.Message) {})
		wantError(t, err, bus.ErrRefused)
	}
	for _, h := range []bus.Header{{"": "x"}, {"a:b": "x"}, {"a": "x\r\nb: y"}, {"Weft-Error": "1"}, {"Status": "503"}, {"Nats-Rollup": "all"}} {
		wantError(t, c.Publish(within(t), bus.Message{Subject: "weft.v1.x", Header: h}), bus.ErrRefused)
	}
	wantError(t, c.Publish(within(t), bus.Message{Subject: "weft.v1.x", Data: make([]byte, bus.MaxPayload+1)}), bus.ErrRefused)
	got, _ := listen(t, c, "weft.v1.x")
	check(t, c.Publish(within(t), bus.Message{Subject: "weft.v1.x", Data: make([]byte, bus.MaxPayload-bus.HeaderRoom)}))
	if n := len(receive(t, got).Data); n != bus.MaxPayload-bus.HeaderRoom {
		t.Fatalf("got %d bytes", n)
	}
}
