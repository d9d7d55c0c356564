package bustest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/weftrun/weft/bus"
)

func leaseCases() []Case {
	return []Case{
		{"lease/one holder", leaseOneHolder},
		{"lease/runs out", leaseRunsOut},
		{"lease/only for the core", func(t *testing.T, connect func(bus.Identity) bus.Bus) {
			for _, who := range []bus.Identity{Node, Observer} {
				_, err := connect(who).Acquire(within(t), "leader", "x", time.Second)
				wantError(t, err, bus.ErrRefused)
			}
		}},
	}
}

func leaseOneHolder(t *testing.T, connect func(bus.Identity) bus.Bus) {
	a, b := connect(Core), connect(Core2)
	asked := time.Now()
	held := must(a.Acquire(within(t), "leader", "a", 2*time.Second))(t)
	if d := held.Deadline(); d.Before(asked.Add(2*time.Second)) || d.After(time.Now().Add(2*time.Second)) {
		t.Fatalf("deadline %s after the request", d.Sub(asked))
	}
	_, err := b.Acquire(within(t), "leader", "b", 2*time.Second)
	wantError(t, err, bus.ErrConflict)
	other := must(b.Acquire(within(t), "other.name", "b", 2*time.Second))(t)
	<-briefly(t).Done()
	before := held.Deadline()
	check(t, held.Renew(within(t)))
	if !held.Deadline().After(before) {
		t.Fatal("renewing did not move the deadline")
	}
	// The same holder takes it again, and what it held before is lost.
	again := must(a.Acquire(within(t), "leader", "a", 2*time.Second))(t)
	wantError(t, held.Renew(within(t)), bus.ErrConflict)
	wantError(t, held.Resign(within(t)), bus.ErrConflict)
	check(t, again.Resign(within(t)))
	taken := must(b.Acquire(within(t), "leader", "b", 2*time.Second))(t)
	wantError(t, again.Renew(within(t)), bus.ErrConflict)
	check(t, taken.Renew(within(t)))
	check(t, other.Resign(within(t)))
}

func leaseRunsOut(t *testing.T, connect func(bus.Identity) bus.Bus) {
	a, b := connect(Core), connect(Core2)
	held := must(a.Acquire(within(t), "leader", "a", time.Second))(t)
	begin := time.Now()
	for {
		_, err := b.Acquire(within(t), "leader", "b", time.Second)
		if err == nil {
			break
		}
		wantError(t, err, bus.ErrConflict)
		if time.Since(begin) > 10*time.Second {
			t.Fatal("it does not run out")
		}
		<-briefly(t).Done()
	}
	if now := time.Now(); now.Before(held.Deadline()) {
		t.Fatalf("taken %s before its deadline", held.Deadline().Sub(now))
	}
	wantError(t, held.Renew(within(t)), bus.ErrConflict)
	wantError(t, held.Resign(within(t)), bus.ErrConflict)
}

func blobCases() []Case {
	return []Case{
		{"blob/put, get, list, delete", blobLife},
		{"blob/limit", blobLimit},
		{"blob/only for the core", func(t *testing.T, connect func(bus.Identity) bus.Bus) {
			for _, who := range []bus.Identity{Node, Observer} {
				b := connect(who)
				_, err := b.PutBlob(within(t), "x", 10, strings.NewReader("x"))
				wantError(t, err, bus.ErrRefused)
				_, _, err = b.GetBlob(within(t), "x")
				wantError(t, err, bus.ErrRefused)
				wantError(t, b.DeleteBlob(within(t), "x"), bus.ErrRefused)
				_, err = b.ListBlobs(within(t))
				wantError(t, err, bus.ErrRefused)
			}
		}},
	}
}

func wantBlob(t *testing.T, b bus.Bus, name string, content []byte) {
	t.Helper()
	info, r, err := b.GetBlob(within(t), name)
	check(t, err)
	got := must(io.ReadAll(r))(t)
	check(t, r.Close())
	if !bytes.Equal(got, content) || info.Size != int64(len(content)) || info.Name != name || info.Modified.IsZero() {
		t.Fatalf("blob %s: got %d bytes and %+v, want %d bytes", name, len(got), info, len(content))
	}
}

func blobLife(t *testing.T, connect func(bus.Identity) bus.Bus) {
	c := connect(Core)
	if l := must(c.ListBlobs(within(t)))(t); len(l) != 0 {
		t.Fatalf("a new carrier lists %v", l)
	}
	_, _, err := c.GetBlob(within(t), "none")
	wantError(t, err, bus.ErrNotFound)
	wantError(t, c.DeleteBlob(within(t), "none"), bus.ErrNotFound)
	large := bytes.Repeat([]byte("module"), 1<<18) // more than one chunk
	name := "sha256:ab/c d.wasm"
	info := must(c.PutBlob(within(t), name, int64(len(large)), bytes.NewReader(large)))(t)
	if info.Name != name || info.Size != int64(len(large)) {
		t.Fatalf("put: got %+v", info)
	}
	must(c.PutBlob(within(t), "empty", 0, strings.NewReader("")))(t)
	wantBlob(t, c, name, large)
	wantBlob(t, c, "empty", nil)
	must(c.PutBlob(within(t), name, 100, strings.NewReader("new")))(t)
	wantBlob(t, connect(Core2), name, []byte("new"))
	var names []string
	for _, i := range must(c.ListBlobs(within(t)))(t) {
		names = append(names, i.Name)
	}
	if got := fmt.Sprint(names); got != fmt.Sprint([]string{"empty", name}) {
		t.Fatalf("list: got %s", got)
	}
	check(t, c.DeleteBlob(within(t), name))
	_, _, err = c.GetBlob(within(t), name)
	wantError(t, err, bus.ErrNotFound)
	wantError(t, c.DeleteBlob(within(t), name), bus.ErrNotFound)
}

func blobLimit(t *testing.T, connect func(bus.Identity) bus.Bus) {
	c := connect(Core)
	_, err := c.PutBlob(within(t), "x", 999_999, bytes.NewReader(make([]byte, 1_000_000)))
	wantError(t, err, bus.ErrRefused)
	_, _, err = c.GetBlob(within(t), "x")
	wantError(t, err, bus.ErrNotFound)
	must(c.PutBlob(within(t), "x", 3, strings.NewReader("old")))(t)
	_, err = c.PutBlob(within(t), "x", 3, strings.NewReader("more"))
	wantError(t, err, bus.ErrRefused)
	broken := errors.New("broken source")
	_, err = c.PutBlob(within(t), "x", 100, io.MultiReader(strings.NewReader("begin"), failing{broken}))
	if !errors.Is(err, broken) {
		t.Fatalf("got %v, want the source's error", err)
	}
	wantBlob(t, c, "x", []byte("old"))
	_, err = c.PutBlob(within(t), "", 100, strings.NewReader("x"))
	wantError(t, err, bus.ErrRefused)
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func closeCases() []Case {
	return []Case{
		{"close/ends all", closeEndsAll},
		{"close/waits for handlers", func(t *testing.T, connect func(bus.Identity) bus.Bus) {
			c, o := connect(Core), connect(Observer)
			entered, leave := make(chan struct{}, 1), make(chan struct{}) // one handler
			must(c.Serve(within(t), bus.AllAPI, func(context.Context, bus.Message) (bus.Message, error) {
				entered <- struct{}{}
				<-leave
				return bus.Message{}, nil
			}))(t)
			called := make(chan error, 1) // one result
			go func() {
				_, err := o.Call(within(t), bus.Message{Subject: bus.APISubject(Observer, "x")})
				called <- err
			}()
			receive(t, entered)
			closed := make(chan error, 1) // one result
			go func() { closed <- c.Close() }()
			silence(t, closed)
			close(leave)
			check(t, receive(t, closed))
			check(t, o.Close())
			<-called
		}},
	}
}

func closeEndsAll(t *testing.T, connect func(bus.Identity) bus.Bus) {
	c := connect(Core)
	if c.Identity() != Core {
		t.Fatalf("got identity %s", c.Identity())
	}
	select {
	case <-c.Done():
		t.Fatal("done before it was closed")
	default:
	}
	l := openLog(t, c, "WAL")
	lease := must(c.Acquire(within(t), "x", "y", time.Second))(t)
	check(t, c.Close())
	check(t, c.Close())
	receive(t, c.Done())
	ctx := within(t)
	wantError(t, c.Publish(ctx, bus.Message{Subject: "weft.v1.x"}), bus.ErrUnavailable)
	wantError(t, c.Flush(ctx), bus.ErrUnavailable)
	_, err := c.Subscribe(ctx, "weft.v1.x", func(bus.Message) {})
	wantError(t, err, bus.ErrUnavailable)
	_, err = c.Call(ctx, bus.Message{Subject: "weft.v1.x"})
	wantError(t, err, bus.ErrUnavailable)
	_, err = c.Open(ctx, bus.Message{Subject: "weft.v1.x"})
	wantError(t, err, bus.ErrUnavailable)
	_, err = l.Append(ctx, 0, nil)
	wantError(t, err, bus.ErrUnavailable)
	_, _, err = l.Bounds(ctx)
	wantError(t, err, bus.ErrUnavailable)
	wantError(t, lease.Renew(ctx), bus.ErrUnavailable)
	_, err = c.ListBlobs(ctx)
	wantError(t, err, bus.ErrUnavailable)
}
