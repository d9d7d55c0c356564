package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/embedded"
	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/feed"
	"github.com/weftrun/weft/core/registry"
	"github.com/weftrun/weft/core/store"
)

// cluster is what a subscriber sees of one: a NATS server and a feed.
type cluster struct {
	*testing.T
	server *embedded.Server
	client *registry.Registry
	creds  []byte
}

func start(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{T: t}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	var err error
	c.server, err = embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir(), Unsynced: true, Logger: slog.New(slog.DiscardHandler)})
	c.must(err)
	t.Cleanup(c.server.Shutdown)
	b, err := c.server.Connect(t.Context(), bus.Identity{Role: bus.RoleCore, Name: "core"})
	c.must(err)
	t.Cleanup(func() { c.must(b.Close()) })
	wal, err := b.OpenLog(t.Context(), "WAL")
	c.must(err)
	snapshots, err := b.OpenLog(t.Context(), "SNAPSHOTS")
	c.must(err)
	key, err := store.NewKey(bytes.Repeat([]byte{7}, 32))
	c.must(err)
	kept, err := store.Open(t.Context(), store.Config{Log: wal, Snapshots: snapshots, Key: key, Logger: log})
	c.must(err)
	c.client, err = registry.New(registry.Config{Store: kept, Strategies: registry.Builtin(), Logger: log})
	c.must(err)
	f, err := feed.New(feed.Config{Bus: b, Client: c.client, Term: func() uint64 { return uint64(kept.Term()) }, Logger: log})
	c.must(err)
	c.creds, err = c.server.Authority().Issue(bus.Identity{Role: bus.RoleObserver, Name: "observer"})
	c.must(err)
	for _, part := range []func(context.Context) error{kept.Run, c.client.Run, f.Run} {
		c.run(part)
	}
	_, err = c.client.Create(t.Context(), &corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{Name: "default"}}, core.WriteOptions{})
	c.must(err)
	return c
}

// run runs a part until the test ends; those started last end first.
func (c *cluster) run(part func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.Context()))
	var group sync.WaitGroup
	group.Go(func() {
		if err := part(ctx); err != nil && ctx.Err() == nil {
			c.Errorf("a part ended: %v", err)
		}
	})
	c.Cleanup(func() {
		cancel()
		group.Wait()
	})
}

func (c *cluster) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

// output is a buffer for two goroutines.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func (o *output) await(t *testing.T, what string, done func(text string) bool) {
	t.Helper()
	for begin := time.Now(); !done(o.String()); time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > 15*time.Second {
			t.Fatalf("%s: not within 15 s:\n%s", what, o)
		}
	}
}

// TestMissesNothing loses each third message; each change is printed once.
func TestMissesNothing(t *testing.T) {
	c := start(t)
	var out output
	s, err := newSubscriber("observer", "weft.v1.event.core.configmaps.>", &out)
	c.must(err)
	s.drop = 3
	c.run(func(ctx context.Context) error {
		return s.run(ctx, c.server.ClientURL(), nats.UserCredentialBytes(c.creds))
	})
	out.await(t, "list", func(text string) bool { return strings.Contains(text, "LISTED    core/configmaps/: 0 objects") })
	var want []string
	for i := range 40 {
		o, err := c.client.Create(t.Context(), &corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("m", i)}}, core.WriteOptions{})
		c.must(err)
		want = append(want, "ADDED     core/configmaps/default/"+o.GetName()+" at "+o.GetResourceVersion()+",")
	}
	printed := regexp.MustCompile(`(?m)^(ADDED|MODIFIED|DELETED) .* at \d+,`)
	out.await(t, "events", func(text string) bool { return len(printed.FindAllString(text, -1)) >= len(want) })
	if got := printed.FindAllString(out.String(), -1); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q, want %q", got, want)
	}
	if !strings.Contains(out.String(), "GAP ") {
		t.Errorf("no gap was noticed:\n%s", &out)
	}
}

// TestObserverPublishesNothing tries what its credentials forbid.
func TestObserverPublishesNothing(t *testing.T) {
	c := start(t)
	failures := make(chan error, 16) // more than there are subjects below
	nc, err := nats.Connect(c.server.ClientURL(), nats.UserCredentialBytes(c.creds), nats.CustomInboxPrefix("_INBOX.observer.observer"),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { failures <- err }))
	c.must(err)
	defer nc.Close()
	for _, subject := range []string{"weft.v1.event.core.pods.default.a", "weft.v1.desired.n.pods.x", "weft.v1.heartbeat.n", "$JS.API.STREAM.LIST", "x"} {
		c.must(nc.Publish(subject, []byte("{}")))
		c.must(nc.Flush())
		select {
		case err := <-failures:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("%s: %v", subject, err)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%s: it is permitted", subject)
		}
	}
	m, err := nc.Request("weft.v1.api.observer.observer.list", []byte(`{"resource": "boats"}`), 5*time.Second)
	for begin := time.Now(); errors.Is(err, nats.ErrNoResponders) && time.Since(begin) < 15*time.Second; { // until the feed serves
		time.Sleep(10 * time.Millisecond)
		m, err = nc.Request("weft.v1.api.observer.observer.list", []byte(`{"resource": "boats"}`), 5*time.Second)
	}
	c.must(err)
	if m.Header.Get("Weft-Error") == "" || !strings.Contains(string(m.Data), `"code":404`) {
		t.Errorf("got %v %s", m.Header, m.Data)
	}
}

func TestPatterns(t *testing.T) {
	for pattern, ok := range map[string]bool{
		"weft.v1.event.>": true, "weft.v1.event.core.>": true, "weft.v1.event.core.pods.default.*": true, "weft.v1.event.*.*.*.*": true,
		"weft.v1.event.core.pods.default.>": true, "weft.v1.event.core.pods.default.a": false, "weft.v1.event.core.pods.*": false, "weft.>": false, "": false,
	} {
		if _, err := newSubscriber("x", pattern, nil); (err == nil) != ok {
			t.Errorf("%q: %v", pattern, err)
		}
	}
}
