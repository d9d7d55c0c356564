package executor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weftrun/weft/wasm/wasmtest"
)

// An agent of version 1 says these to an executor of today, word by word, and
// hears what it knows of.
func TestAgentOfVersion1(t *testing.T) {
	dir := t.TempDir()
	s, err := newServer(&wasmtest.Fake{}, boot{Nonce: "n", Socket: filepath.Join(dir, "s"), Dir: dir, Orphan: time.Minute, Silence: time.Minute}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.run(ctx); err != nil {
			t.Error(err)
		}
		s.closeExits()
	})
	defer running.Wait()
	defer cancel()
	conn, err := net.Dial("unix", filepath.Join(dir, "s")) //nolint:noctx // it is there
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	early := ""
	for _, talk := range [...]struct{ say, hear string }{
		{`{"op":"hello","nonce":"n","version":1}`, `{"op":"hello","version":2}`},
		{`{"id":1,"op":"ping"}`, `{"id":1,"op":"ping"}`},
		{`{"id":2,"op":"prepare","digest":"sha256:a","path":"/a"}`, `{"id":2,"op":"prepare","minMemory":65536}`},
		{`{"id":3,"op":"open","sandbox":"uid","hostname":"h"}`, `{"id":3,"op":"open"}`},
		{`{"id":4,"op":"sandboxes"}`, `{"id":4,"op":"sandboxes","ids":["uid"]}`},
		{`{"id":5,"op":"start","sandbox":"uid","digest":"sha256:a","path":"/a","program":{"ID":"c.0","Args":["run","forever"]}}`, `"id":"c.0"`},
		{`{"id":6,"op":"usage","sandbox":"uid","instance":"c.0"}`, `"usage"`},
		{`{"id":7,"op":"kill","sandbox":"uid","instance":"c.0"}`, `{"id":7,"op":"kill"}`},
		{``, `"op":"ended"`},
		{`{"id":8,"op":"instances","sandbox":"uid"}`, `"Code":137`},
		{`{"id":9,"op":"release","sandbox":"uid","instance":"c.0"}`, `{"id":9,"op":"release"}`},
		{`{"id":10,"op":"close","sandbox":"uid"}`, `{"id":10,"op":"close"}`},
		{`{"id":11,"op":"something of version 3"}`, `does not know`},
	} {
		if talk.say != "" {
			if _, err := conn.Write(frame(talk.say)); err != nil {
				t.Fatal(err)
			}
		}
		got := early
		for early = ""; got == "" || talk.say != "" && strings.Contains(got, `"op":"ended"`); {
			early = got // an end may be told before the answer to the kill
			var buf []byte
			m, err := readMessage(conn, &buf)
			if err != nil {
				t.Fatalf("%s: %v", talk.say, err)
			}
			text, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			got = string(text)
		}
		if !strings.Contains(got, talk.hear) {
			t.Errorf("%s: got %s, want %s", talk.say, got, talk.hear)
		}
	}
}

// An executor of version 1 is found again by an agent of today, which asks it
// for nothing that it does not know; so is one that says more than we know.
func TestExecutorOfAnotherVersion(t *testing.T) {
	for _, c := range [...]struct {
		hello string
		asked string
	}{
		{`{"op":"hello","version":1}`, "hello sandboxes"},
		{`{"op":"hello","version":9,"extra":{"a":1}}`, "hello sandboxes slots"},
	} {
		dir := t.TempDir()
		socket := filepath.Join(dir, socketName)
		listener, err := net.Listen("unix", socket) //nolint:noctx // it returns at once
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, stateName), fmt.Appendf(nil, `{"nonce":"n","socket":%q}`, socket), 0o600); err != nil {
			t.Fatal(err)
		}
		asked := make(chan []string, 1) // the one list
		go func() { asked <- answer(listener, c.hello) }()
		client, err := New(Config{Command: []string{"false"}, Dir: dir, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1) // the one end
		go func() { ended <- client.Run(ctx) }()
		if ids, err := client.Sandboxes(t.Context()); err != nil || !slices.Equal(ids, []string{"uid"}) {
			t.Errorf("got %v, %v", ids, err)
		}
		if err := client.setSlots(t.Context(), 3); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if got := strings.Join(<-asked, " "); got != c.asked {
			t.Errorf("it was asked %q, want %q", got, c.asked)
		}
		_ = listener.Close() // was for one connection
	}
}

// answer plays an executor until its agent leaves, and returns what it was
// asked besides signs of life.
func answer(listener net.Listener, hello string) (asked []string) {
	conn, err := listener.Accept()
	if err != nil {
		return []string{err.Error()}
	}
	defer conn.Close()
	var buf []byte
	for {
		m, err := readMessage(conn, &buf)
		if err != nil {
			return asked
		}
		reply := fmt.Sprintf(`{"id":%d,"op":%q,"ids":["uid"]}`, m.ID, m.Op)
		if m.Op == opHello {
			reply = hello
		}
		if m.Op != opPing {
			asked = append(asked, string(m.Op))
		}
		if _, err := bytes.NewReader(frame(reply)).WriteTo(conn); err != nil {
			return asked
		}
	}
}
