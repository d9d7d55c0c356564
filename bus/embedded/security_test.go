package embedded_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/bustest"
	"github.com/weftrun/weft/bus/embedded"
	"github.com/weftrun/weft/bus/nats"
)

// rawConn is what an attacker has: the credentials, and a client that checks
// nothing.
func rawConn(t *testing.T, s *embedded.Server, who bus.Identity) (*natsgo.Conn, <-chan error) {
	t.Helper()
	user, err := s.Authority().Issue(who)
	if err != nil {
		t.Fatal(err)
	}
	failures := make(chan error, 1024) // more than any test causes
	nc, err := natsgo.Connect("", natsgo.InProcessServer(s), natsgo.UserCredentialBytes(user),
		natsgo.CustomInboxPrefix(who.Inbox()),
		natsgo.ErrorHandler(func(_ *natsgo.Conn, _ *natsgo.Subscription, err error) { failures <- err }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc, failures
}

func wantViolation(t *testing.T, what string, failures <-chan error) {
	t.Helper()
	select {
	case err := <-failures:
		if !errors.Is(err, natsgo.ErrPermissionViolation) {
			t.Errorf("%s: got %v, want a permission violation", what, err)
		}
	case <-time.After(5 * time.Second):
		t.Errorf("%s: the server permits it", what)
	}
}

func TestServerForbids(t *testing.T) {
	s := start(t, embedded.Config{NoListen: true})
	core := connect(t, s, bustest.Core)
	if _, err := core.OpenLog(t.Context(), "WAL"); err != nil {
		t.Fatal(err)
	}
	spy, _ := rawConn(t, s, bustest.Core)
	var leaked atomic.Int64
	if _, err := spy.Subscribe("weft.v1.>", func(*natsgo.Msg) { leaked.Add(1) }); err != nil {
		t.Fatal(err)
	}
	if err := spy.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, who := range []bus.Identity{bustest.Node, bustest.Observer} {
		t.Run(string(who.Role), func(t *testing.T) {
			nc, failures := rawConn(t, s, who)
			for _, subject := range bustest.ForbiddenPublish(who) {
				if err := nc.Publish(subject, []byte("x")); err != nil {
					t.Fatal(err)
				}
				if err := nc.Flush(); err != nil {
					t.Fatal(err)
				}
				wantViolation(t, "publish "+subject, failures)
			}
			for _, pattern := range bustest.ForbiddenSubscribe(who) {
				if _, err := nc.SubscribeSync(pattern); err != nil {
					t.Fatal(err)
				}
				wantViolation(t, "subscribe "+pattern, failures)
				if _, err := nc.QueueSubscribeSync(pattern, "q"); err != nil {
					t.Fatal(err)
				}
				wantViolation(t, "queue subscribe "+pattern, failures)
			}
		})
	}
	if err := spy.Flush(); err != nil {
		t.Fatal(err)
	}
	if n := leaked.Load(); n != 0 {
		t.Errorf("%d forbidden messages arrived", n)
	}
}

// TestReplyInjection sends requests whose replies point to what the sender
// could not publish on itself; the core must not answer there.
func TestReplyInjection(t *testing.T) {
	s := start(t, embedded.Config{NoListen: true})
	core := connect(t, s, bustest.Core)
	if _, err := core.OpenLog(t.Context(), "WAL"); err != nil {
		t.Fatal(err)
	}
	var handled atomic.Int64
	serve := func(context.Context, bus.Message) (bus.Message, error) {
		handled.Add(1)
		return bus.Message{Data: []byte("{}")}, nil
	}
	for _, pattern := range []string{bus.APIPattern(bus.RoleNode, "list"), bus.APIPattern(bus.RoleObserver, "list"), bus.AllHeartbeats} {
		if _, err := core.Serve(t.Context(), pattern, serve); err != nil {
			t.Fatal(err)
		}
	}
	for _, role := range []bus.Role{bus.RoleNode, bus.RoleObserver} {
		_, err := core.Accept(t.Context(), bus.APIPattern(role, "watch"), func(context.Context, bus.Message, bus.Stream) error {
			handled.Add(1)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	spy, _ := rawConn(t, s, bustest.Core)
	var leaked atomic.Int64
	for _, pattern := range []string{"_INBOX.node.n2.>", "_INBOX.core.core-1.x", "$JS.API.STREAM.DELETE.WAL"} {
		if _, err := spy.Subscribe(pattern, func(*natsgo.Msg) { leaked.Add(1) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := spy.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, who := range []bus.Identity{bustest.Node, bustest.Observer} {
		nc, _ := rawConn(t, s, who)
		subjects := []string{bus.APISubject(who, "list"), bus.APISubject(who, "watch")}
		if who.Role == bus.RoleNode {
			subjects = append(subjects, bus.HeartbeatSubject(who.Name))
		}
		for _, subject := range subjects {
			for _, reply := range []string{"_INBOX.node.n2.x", "_INBOX.core.core-1.x", "$JS.API.STREAM.DELETE.WAL", who.Inbox(), who.Inbox() + "x.y", who.Inbox() + ".*"} {
				m := &natsgo.Msg{Subject: subject, Reply: reply, Data: []byte("{}")}
				if strings.HasSuffix(subject, "watch") {
					m.Header = natsgo.Header{"Weft-Stream": []string{"1"}}
				}
				if err := nc.PublishMsg(m); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		// An honest call behind them on the same connection is answered.
		if _, err := nc.Request(bus.APISubject(who, "list"), nil, 5*time.Second); err != nil {
			t.Errorf("%s: honest call: %v", who, err)
		}
	}
	if n := handled.Load(); n != 2 {
		t.Errorf("%d requests were handled, want the 2 honest ones", n)
	}
	if n := leaked.Load(); n != 0 {
		t.Errorf("%d replies went astray", n)
	}
	if _, err := core.OpenLog(t.Context(), "WAL"); err != nil {
		t.Error(err)
	}
}

// TestAcceptorInjection is a node that names somebody else's subject as the
// one on which it receives a stream's frames.
func TestAcceptorInjection(t *testing.T) {
	s := start(t, embedded.Config{NoListen: true})
	core := connect(t, s, bustest.Core)
	nc, _ := rawConn(t, s, bustest.Node)
	for _, target := range []string{"$JS.API.STREAM.DELETE.WAL", "_INBOX.node.n2.x", "_INBOX.core.core-1.x", "weft.v1.event.x"} {
		sub, err := nc.Subscribe(bus.NodeSubject(bustest.Node.Name, "exec"), func(m *natsgo.Msg) {
			if err := m.Respond(append([]byte{'A', 1}, target...)); err != nil {
				t.Error(err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		_, err = core.Open(t.Context(), bus.Message{Subject: bus.NodeSubject(bustest.Node.Name, "exec")})
		if !errors.Is(err, bus.ErrRefused) {
			t.Errorf("target %s: got %v, want it refused", target, err)
		}
		if err := sub.Unsubscribe(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestForgedReplies is a node that was asked once and answers on other inboxes.
func TestForgedReplies(t *testing.T) {
	s := start(t, embedded.Config{NoListen: true})
	core := connect(t, s, bustest.Core)
	nc, failures := rawConn(t, s, bustest.Node)
	if _, err := nc.Subscribe(bus.NodePattern(bustest.Node.Name), func(m *natsgo.Msg) {
		for _, other := range []string{m.Reply + "x", "_INBOX.core.core-2.x", "_INBOX.node.n2.x"} {
			if err := nc.Publish(other, []byte("forged")); err != nil {
				t.Error(err)
			}
		}
		if err := m.Respond([]byte("true")); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	m, err := core.Call(t.Context(), bus.Message{Subject: bus.NodeSubject(bustest.Node.Name, "stat")})
	if err != nil || string(m.Data) != "true" {
		t.Fatalf("got %q, %v", m.Data, err)
	}
	for range 3 {
		wantViolation(t, "answer on another inbox", failures)
	}
}

// TestNamesDoNotInject checks that a name with wildcards grants nothing more.
func TestNamesDoNotInject(t *testing.T) {
	s := start(t, embedded.Config{NoListen: true})
	for _, name := range []string{"*", ">", "n2.>", "a b", "{{name()}}"} {
		who := bus.Identity{Role: bus.RoleNode, Name: name}
		nc, failures := rawConn(t, s, who)
		if err := nc.Publish(bus.HeartbeatSubject("n2"), nil); err != nil {
			t.Fatal(err)
		}
		wantViolation(t, "heartbeat of n2 by "+name, failures)
		if _, err := nc.SubscribeSync(bus.DesiredPattern("n2")); err != nil {
			t.Fatal(err)
		}
		wantViolation(t, "desired of n2 by "+name, failures)
		if err := nc.Publish(bus.HeartbeatSubject(name), nil); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-failures:
			t.Errorf("%q: its own heartbeat: %v", name, err)
		default:
		}
	}
}

func TestForeignCredentialsAreRefused(t *testing.T) {
	s := start(t, embedded.Config{})
	other := start(t, embedded.Config{NoListen: true})
	user, err := other.Authority().Issue(bustest.Core)
	if err != nil {
		t.Fatal(err)
	}
	_, err = nats.Connect(t.Context(), nats.Config{URLs: []string{s.ClientURL()}, Identity: bustest.Core, Creds: user, Logger: quiet()})
	if !errors.Is(err, bus.ErrRefused) {
		t.Errorf("got %v, want it refused", err)
	}
	if nc, err := natsgo.Connect(s.ClientURL()); err == nil {
		nc.Close()
		t.Error("a connection without credentials is accepted")
	}
}

// TestStreamsOverSockets runs one stream over TCP, as nodes and tools do.
func TestStreamsOverSockets(t *testing.T) {
	s := start(t, embedded.Config{})
	core := connect(t, s, bustest.Core)
	if _, err := core.Accept(t.Context(), bus.AllAPI, func(_ context.Context, _ bus.Message, s bus.Stream) error {
		_, err := s.Write(make([]byte, 5<<20))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	user, err := s.Authority().Issue(bustest.Observer)
	if err != nil {
		t.Fatal(err)
	}
	o, err := nats.Connect(t.Context(), nats.Config{URLs: []string{s.ClientURL()}, Identity: bustest.Observer, Creds: user, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = o.Close() }()
	stream, err := o.Open(t.Context(), bus.Message{Subject: bus.APISubject(bustest.Observer, "watch")})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, stream); n != 5<<20 || err != nil {
		t.Fatalf("got %d bytes, %v", n, err)
	}
}
