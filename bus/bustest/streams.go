package bustest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/weftrun/weft/bus"
)

func streamCases() []Case {
	return []Case{
		{"stream/both ways, whoever opens", streamBothWays},
		{"stream/flow control", streamFlow},
		{"stream/nobody accepts", func(t *testing.T, connect func(bus.Identity) bus.Bus) {
			_, err := connect(Observer).Open(within(t), bus.Message{Subject: bus.APISubject(Observer, "watch")})
			wantError(t, err, bus.ErrNotFound)
		}},
		{"stream/error and what was written before it", streamError},
		{"stream/half close", streamHalfClose},
		{"stream/opener closes", streamOpenerCloses},
		{"stream/subscription ends", streamSubscriptionEnds},
		{"stream/lost peer", streamLostPeer},
		{"stream/own close", func(t *testing.T, connect func(bus.Identity) bus.Bus) {
			c, n := connect(Core), connect(Node)
			must(n.Accept(within(t), bus.NodeSubject(Node.Name, "x"), func(ctx context.Context, _ bus.Message, _ bus.Stream) error {
				<-ctx.Done() // the opener closes
				return nil
			}))(t)
			s := must(c.Open(within(t), bus.Message{Subject: bus.NodeSubject(Node.Name, "x")}))(t)
			read := make(chan error, 1) // one result
			go func() {
				_, err := s.Read(make([]byte, 1))
				read <- err
			}()
			silence(t, read)
			check(t, s.Close())
			check(t, s.Close())
			if err := receive(t, read); err == nil {
				t.Fatal("a read of a closed stream succeeds")
			}
			if _, err := s.Write([]byte("x")); err == nil {
				t.Fatal("a write to a closed stream succeeds")
			}
		}},
	}
}

// streamBothWays echoes more than a window in each role.
func streamBothWays(t *testing.T, connect func(bus.Identity) bus.Bus) {
	c, n, odd, o := connect(Core), connect(Node), connect(OddNode), connect(Observer)
	mirror := func(ctx context.Context, m bus.Message, s bus.Stream) error {
		if _, err := fmt.Fprintf(s, "%s %s %s\n", bus.Caller(ctx), m.Header["Key"], m.Data); err != nil {
			return err
		}
		_, err := io.Copy(s, s)
		return err
	}
	must(c.Accept(within(t), bus.AllAPI, mirror))(t)
	must(n.Accept(within(t), bus.NodePattern(Node.Name), mirror))(t)
	must(odd.Accept(within(t), bus.NodePattern(OddNode.Name), mirror))(t)
	for _, open := range []struct {
		from    bus.Bus
		subject string
		who     string
	}{
		{o, bus.APISubject(Observer, "watch"), "observer/tool"},
		{n, bus.APISubject(Node, "watch"), "node/n1"},
		{odd, bus.APISubject(OddNode, "watch"), OddNode.String()},
		{c, bus.NodeSubject(Node.Name, "exec"), "core/"},
		{c, bus.NodeSubject(OddNode.Name, "exec"), "core/"},
		{c, bus.APISubject(Core, "watch"), "core/core-1"},
	} {
		s := must(open.from.Open(within(t), bus.Message{Subject: open.subject, Header: bus.Header{"Key": "v"}, Data: []byte("d")}))(t)
		content := make([]byte, 1<<20) // four windows
		must(rand.NewChaCha8([32]byte{}).Read(content))(t)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := s.Write(content); err != nil {
				t.Errorf("%s: write: %v", open.subject, err)
			}
			if err := s.CloseWrite(); err != nil {
				t.Errorf("%s: close write: %v", open.subject, err)
			}
		})
		got := must(io.ReadAll(s))(t)
		wg.Wait()
		if want := append([]byte(open.who+" v d\n"), content...); !bytes.Equal(got, want) {
			t.Errorf("%s: got %d bytes, want %d, beginning %.60q", open.subject, len(got), len(want), got)
		}
		check(t, s.Close())
	}
}

func streamFlow(t *testing.T, connect func(bus.Identity) bus.Bus) {
	c, o := connect(Core), connect(Observer)
	wrote := make(chan int, 1024) // one for each KiB below
	must(c.Accept(within(t), bus.AllAPI, func(_ context.Context, _ bus.Message, s bus.Stream) error {
		for i := range 512 {
			if _, err := s.Write(make([]byte, 1<<10)); err != nil {
				return err
			}
			wrote <- i
		}
		return nil
	}))(t)
	s := must(o.Open(within(t), bus.Message{Subject: bus.APISubject(Observer, "x")}))(t)
	for range 256 {
		receive(t, wrote)
	}
	silence(t, wrote) // a window's worth is on its way
	if n := len(must(io.ReadAll(s))(t)); n != 512<<10 {
		t.Fatalf("read %d bytes", n)
	}
}

func streamError(t *testing.T, connect func(bus.Identity) bus.Bus) {
	c, o := connect(Core), connect(Observer)
	must(c.Accept(within(t), bus.AllAPI, func(_ context.Context, _ bus.Message, s bus.Stream) error {
		_, err := s.Write([]byte("before"))
		return errors.Join(err, errors.New("too old"))
	}))(t)
	s := must(o.Open(within(t), bus.Message{Subject: bus.APISubject(Observer, "x")}))(t)
	got, err := io.ReadAll(s)
	var remote *bus.CallError
	if string(got) != "before" || !errors.As(err, &remote) || remote.Reason != "too old" {
		t.Fatalf("got %q and %v", got, err)
	}
	if _, err := s.Write([]byte("x")); err == nil {
		t.Fatal("a write to whoever ended the stream succeeds")
	}
	check(t, s.Close())
}

func streamHalfClose(t *testing.T, connect func(bus.Identity) bus.Bus) {
	c, n := connect(Core), connect(Node)
	must(n.Accept(within(t), bus.NodePattern(Node.Name), func(_ context.Context, _ bus.Message, s bus.Stream) error {
		all, err := io.ReadAll(s) // ends with the opener's CloseWrite
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(s, "%d bytes", len(all))
		return err
	}))(t)
	s := must(c.Open(within(t), bus.Message{Subject: bus.NodeSubject(Node.Name, "put")}))(t)
	must(s.Write(make([]byte, 1000)))(t)
	check(t, s.CloseWrite())
	if _, err := s.Write([]byte("x")); err == nil {
		t.Fatal("a write after CloseWrite succeeds")
	}
	if got := string(must(io.ReadAll(s))(t)); got != "1000 bytes" {
		t.Fatalf("got %q", got)
	}
	check(t, s.Close())
}

func streamOpenerCloses(t *testing.T, connect func(bus.Identity) bus.Bus) {
	c, o := connect(Core), connect(Observer)
	ended := make(chan error, 1) // one result
	must(c.Accept(within(t), bus.AllAPI, func(ctx context.Context, _ bus.Message, s bus.Stream) error {
		<-ctx.Done() // a handler hears of it though it neither reads nor writes
		got, err := io.ReadAll(s)
		if string(got) != "last words" {
			err = errors.Join(err, fmt.Errorf("read %q", got))
		}
		if _, werr := s.Write([]byte("x")); werr == nil {
			err = errors.Join(err, errors.New("a write to whoever closed the stream succeeds"))
		}
		ended <- err
		return nil
	}))(t)
	s := must(o.Open(within(t), bus.Message{Subject: bus.APISubject(Observer, "x")}))(t)
	must(s.Write([]byte("last words")))(t)
	check(t, s.Close())
	check(t, receive(t, ended))
}

func streamSubscriptionEnds(t *testing.T, connect func(bus.Identity) bus.Bus) {
	c, o := connect(Core), connect(Observer)
	ended := make(chan error, 1) // one result
	sub := must(c.Accept(within(t), bus.AllAPI, func(_ context.Context, _ bus.Message, s bus.Stream) error {
		_, err := s.Read(make([]byte, 1))
		ended <- err
		return err
	}))(t)
	s := must(o.Open(within(t), bus.Message{Subject: bus.APISubject(Observer, "x")}))(t)
	check(t, sub.Close())
	wantError(t, receive(t, ended), bus.ErrUnavailable)
	if _, err := s.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Fatalf("got %v, want an error: the content is not whole", err)
	}
}

// streamLostPeer needs a carrier that can lose one; a closed connection is the
// nearest that all have.
func streamLostPeer(t *testing.T, connect func(bus.Identity) bus.Bus) {
	c, n := connect(Core), connect(Node)
	must(n.Accept(within(t), bus.NodePattern(Node.Name), func(ctx context.Context, _ bus.Message, _ bus.Stream) error {
		<-ctx.Done()
		return ctx.Err()
	}))(t)
	s := must(c.Open(within(t), bus.Message{Subject: bus.NodeSubject(Node.Name, "exec")}))(t)
	begin := time.Now()
	check(t, n.Close())
	if _, err := s.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Fatalf("got %v, want an error", err)
	}
	if took := time.Since(begin); took > 30*time.Second {
		t.Fatalf("noticed after %s", took)
	}
}
