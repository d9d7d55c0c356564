package bustest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/weftrun/weft/bus"
)

func echo(_ context.Context, m bus.Message) (bus.Message, error) {
	return bus.Message{Header: m.Header, Data: m.Data}, nil
}

func callCases() []Case {
	return []Case{
		{"call/answered, with the caller's identity", callAnswered},
		{"call/nobody serves", func(t *testing.T, connect func(bus.Identity) bus.Bus) {
			for _, who := range []bus.Identity{Core, Node, Observer} {
				_, err := connect(who).Call(within(t), bus.Message{Subject: bus.APISubject(who, "list")})
				wantError(t, err, bus.ErrNotFound)
			}
		}},
		{"call/an error is the caller's", func(t *testing.T, connect func(bus.Identity) bus.Bus) {
			c, o := connect(Core), connect(Observer)
			must(c.Serve(within(t), bus.AllAPI, func(context.Context, bus.Message) (bus.Message, error) {
				return bus.Message{}, errors.New("no such\npod: ü")
			}))(t)
			_, err := o.Call(within(t), bus.Message{Subject: bus.APISubject(Observer, "list")})
			var remote *bus.CallError
			if !errors.As(err, &remote) || remote.Reason != "no such\npod: ü" || remote.Subject != bus.APISubject(Observer, "list") {
				t.Fatalf("got error %v", err)
			}
		}},
		{"call/no answer in time", func(t *testing.T, connect func(bus.Identity) bus.Bus) {
			c, n := connect(Core), connect(Node)
			must(c.Serve(within(t), bus.AllAPI, func(ctx context.Context, _ bus.Message) (bus.Message, error) {
				<-ctx.Done() // ends with the subscription
				return bus.Message{}, ctx.Err()
			}))(t)
			_, err := n.Call(briefly(t), bus.Message{Subject: bus.APISubject(Node, "list")})
			wantError(t, err, bus.ErrUnavailable)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("got %v, want it to wrap the context's error", err)
			}
		}},
		{"call/concurrent and bounded", callBounded},
		{"call/large", func(t *testing.T, connect func(bus.Identity) bus.Bus) {
			c, n := connect(Core), connect(Node)
			must(c.Serve(within(t), bus.APIPattern(bus.RoleNode, "echo"), echo))(t)
			must(c.Serve(within(t), bus.APIPattern(bus.RoleNode, "huge"), func(context.Context, bus.Message) (bus.Message, error) {
				return bus.Message{Data: make([]byte, bus.MaxPayload+1)}, nil
			}))(t)
			m := must(n.Call(within(t), bus.Message{Subject: bus.APISubject(Node, "echo"), Data: make([]byte, bus.MaxPayload-bus.HeaderRoom)}))(t)
			if len(m.Data) != bus.MaxPayload-bus.HeaderRoom {
				t.Fatalf("got %d bytes", len(m.Data))
			}
			_, err := n.Call(within(t), bus.Message{Subject: bus.APISubject(Node, "huge")})
			var remote *bus.CallError
			if !errors.As(err, &remote) || !strings.Contains(remote.Reason, "bytes") {
				t.Fatalf("got %v, want that the reply is too large", err)
			}
		}},
		{"call/one of several answers", func(t *testing.T, connect func(bus.Identity) bus.Bus) {
			var served atomic.Int32
			for _, who := range []bus.Identity{Core, Core2} {
				must(connect(who).Serve(within(t), bus.APIPattern(bus.RoleNode, "x"), func(context.Context, bus.Message) (bus.Message, error) {
					served.Add(1)
					return bus.Message{}, nil
				}))(t)
			}
			n := connect(Node)
			for range 20 {
				must(n.Call(within(t), bus.Message{Subject: bus.APISubject(Node, "x")}))(t)
			}
			if got := served.Load(); got != 20 {
				t.Fatalf("%d handlers ran for 20 calls", got)
			}
		}},
		{"call/a stream's subject does not answer calls", func(t *testing.T, connect func(bus.Identity) bus.Bus) {
			c, n := connect(Core), connect(Node)
			must(n.Accept(within(t), bus.NodeSubject(Node.Name, "exec"), func(context.Context, bus.Message, bus.Stream) error { return nil }))(t)
			must(n.Serve(within(t), bus.NodeSubject(Node.Name, "stat"), echo))(t)
			var remote *bus.CallError
			if _, err := c.Call(within(t), bus.Message{Subject: bus.NodeSubject(Node.Name, "exec")}); !errors.As(err, &remote) {
				t.Fatalf("got %v, want a CallError", err)
			}
			if _, err := c.Open(within(t), bus.Message{Subject: bus.NodeSubject(Node.Name, "stat")}); !errors.As(err, &remote) {
				t.Fatalf("got %v, want a CallError", err)
			}
		}},
	}
}

func callAnswered(t *testing.T, connect func(bus.Identity) bus.Bus) {
	c, n, odd, o := connect(Core), connect(Node), connect(OddNode), connect(Observer)
	who := func(ctx context.Context, m bus.Message) (bus.Message, error) {
		return bus.Message{Header: m.Header, Data: fmt.Append(nil, bus.Caller(ctx), " ", string(m.Data))}, nil
	}
	must(c.Serve(within(t), bus.AllAPI, who))(t)
	must(n.Serve(within(t), bus.NodePattern(Node.Name), who))(t)
	must(odd.Serve(within(t), bus.NodeSubject(OddNode.Name, "stat"), who))(t)
	for _, call := range []struct {
		from    bus.Bus
		subject string
		want    string
	}{
		{n, bus.APISubject(Node, "list"), "node/n1 x"},
		{odd, bus.APISubject(OddNode, "list"), OddNode.String() + " x"},
		{o, bus.APISubject(Observer, "list"), "observer/tool x"},
		{c, bus.NodeSubject(Node.Name, "stat"), "core/ x"},
		{c, bus.NodeSubject(OddNode.Name, "stat"), "core/ x"},
		{c, bus.APISubject(Core, "list"), "core/core-1 x"},
	} {
		h := bus.Header{"Key": "value"}
		m := must(call.from.Call(within(t), bus.Message{Subject: call.subject, Header: h, Data: []byte("x")}))(t)
		if diff := cmp.Diff(bus.Message{Subject: m.Subject, Header: h, Data: []byte(call.want)}, m); diff != "" {
			t.Errorf("%s: %s", call.subject, diff)
		}
	}
}

func callBounded(t *testing.T, connect func(bus.Identity) bus.Bus) {
	const calls = bus.MaxHandlers + 50
	c, o := connect(Core), connect(Observer)
	var running, most atomic.Int32
	entered, leave := make(chan struct{}, calls), make(chan struct{}) // one for each call
	s := must(c.Serve(within(t), bus.AllAPI, func(context.Context, bus.Message) (bus.Message, error) {
		n := running.Add(1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		entered <- struct{}{}
		<-leave
		running.Add(-1)
		return bus.Message{}, nil
	}))(t)
	var wg sync.WaitGroup
	for range calls {
		wg.Go(func() {
			if _, err := o.Call(within(t), bus.Message{Subject: bus.APISubject(Observer, "x")}); err != nil {
				t.Error(err)
			}
		})
	}
	for range bus.MaxHandlers {
		receive(t, entered)
	}
	silence(t, entered)
	close(leave)
	wg.Wait()
	if n := most.Load(); n != bus.MaxHandlers {
		t.Fatalf("%d handlers ran at once, want %d", n, bus.MaxHandlers)
	}
	check(t, s.Close())
	_, err := o.Call(within(t), bus.Message{Subject: bus.APISubject(Observer, "x")})
	wantError(t, err, bus.ErrNotFound)
}
