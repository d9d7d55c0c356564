package cluster

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/memory"
)

// TestWhereabouts follows who leads through a take-over and a resignation.
func TestWhereabouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := memory.New()
		conn := hub.Connect(bus.Identity{Role: bus.RoleCore, Name: "one"})
		defer func() { _ = conn.Close() }()
		w := newWhereabouts(slog.New(slog.NewTextHandler(t.Output(), nil)))
		heard, err := w.listen(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = heard.Close() }()
		say := func(a announcement) {
			t.Helper()
			if err := a.publish(t.Context(), conn); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		want := func(server string) context.Context {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			got, leads, _ := w.leader(ctx)
			if got != server {
				t.Fatalf("%q leads, want %q", got, server)
			}
			return leads
		}
		want("")
		say(announcement{Server: "https://a", Term: 3})
		first := want("https://a")
		say(announcement{Server: "https://old", Term: 2})
		want("https://a")
		say(announcement{Server: "https://b", Term: 4})
		if want("https://b"); first.Err() == nil {
			t.Error("what was asked of the leader before goes on")
		}
		say(announcement{Server: "https://b", Term: 4, Resigned: true})
		want("")
		select {
		case <-w.resigned:
		default:
			t.Error("nobody was told of the resignation")
		}
		say(announcement{Server: "https://b", Term: 4}) // a straggler
		want("")
		if err := conn.Publish(t.Context(), bus.Message{Subject: bus.LeaderSubject, Data: []byte("{")}); err != nil {
			t.Fatal(err)
		}
		say(announcement{Server: "https://c", Term: 5})
		want("https://c")
	})
}
