package feed_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/memory"
	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/feed"
	"github.com/weftrun/weft/core/registry"
	"github.com/weftrun/weft/core/store"
)

var (
	theCore  = bus.Identity{Role: bus.RoleCore, Name: "core"}
	observer = bus.Identity{Role: bus.RoleObserver, Name: "tool"}
)

// fixture is a store, a registry and a feed over a bus.
type fixture struct {
	testing.TB
	client *registry.Registry
	bus    bus.Bus
	term   uint64
	stop   func() // the feed
}

// start runs them until the test ends. The store keeps few events, so that a
// test can outrun it.
func start(t testing.TB, b bus.Bus) *fixture {
	t.Helper()
	strategies := registry.Builtin()
	durability := map[core.GroupResource]core.Durability{}
	for _, s := range strategies {
		durability[s.Kind.GroupResource()] = s.Kind.Durability
	}
	f := &fixture{TB: t, bus: b}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	wal, err := b.OpenLog(t.Context(), "WAL")
	f.must(err)
	snapshots, err := b.OpenLog(t.Context(), "SNAPSHOTS")
	f.must(err)
	key, err := store.NewKey(bytes.Repeat([]byte{7}, 32))
	f.must(err)
	kept, err := store.Open(t.Context(), store.Config{
		Log: wal, Snapshots: snapshots, Key: key, Logger: log, RingEvents: ringEvents,
		Durability: func(r core.GroupResource) core.Durability { return durability[r] },
	})
	f.must(err)
	f.client, err = registry.New(registry.Config{Store: kept, Strategies: strategies, Logger: log})
	f.must(err)
	stopStore := f.run(kept.Run)
	stopRegistry := f.run(f.client.Run)
	f.startFeed()
	t.Cleanup(func() {
		f.stop()
		stopRegistry()
		stopStore()
	})
	for _, name := range []string{"a", "b", "c"} {
		f.create(&corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	return f
}

const ringEvents = 300

// startFeed begins a new term.
func (f *fixture) startFeed() {
	f.Helper()
	f.term++
	term := f.term
	log := slog.New(slog.NewTextHandler(f.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	fd, err := feed.New(feed.Config{Bus: f.bus, Client: f.client, Term: func() uint64 { return term }, Logger: log})
	f.must(err)
	f.stop = f.run(fd.Run)
}

func (f *fixture) run(part func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(f.Context()))
	var group sync.WaitGroup
	group.Go(func() {
		if err := part(ctx); err != nil && ctx.Err() == nil {
			f.Errorf("a part ended: %v", err)
		}
	})
	return func() {
		cancel()
		group.Wait()
	}
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) create(o core.Object) core.Object {
	f.Helper()
	kept, err := f.client.Create(core.WithUser(f.Context(), core.System("test")), o, core.WriteOptions{})
	f.must(err)
	return kept
}

func (f *fixture) set(namespace, name, value string) {
	f.Helper()
	_, err := f.client.Mutate(f.Context(), mapKey(namespace, name), func(o core.Object) error {
		o.(*corev1.ConfigMap).Data = map[string]string{"v": value}
		return nil
	}, core.WriteOptions{FieldManager: "test"})
	f.must(err)
}

func (f *fixture) delete(key core.Key) {
	f.Helper()
	_, _, err := f.client.Delete(f.Context(), key, core.DeleteOptions{})
	f.must(err)
}

func mapKey(namespace, name string) core.Key {
	return core.Key{Resource: core.ConfigMaps.Resource, Namespace: namespace, Name: name}
}

func configMap(namespace, name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: map[string]string{"v": value}}
}

// event is what a subscriber makes of a message.
type event struct {
	SpecVersion  string    `json:"specversion"`
	ID           string    `json:"id"`
	Source       string    `json:"source"`
	Type         string    `json:"type"`
	Subject      string    `json:"subject"`
	Time         time.Time `json:"time"`
	ContentType  string    `json:"datacontenttype"`
	Revision     int64     `json:"weftrevision,string"`
	Previous     int64     `json:"weftprevious,string"`
	Through      int64     `json:"weftthrough,string"`
	Term         string    `json:"weftterm"`
	DataRef      string    `json:"dataref"`
	NATSSubject  string    `json:"-"`
	RawData      json.RawMessage
	ObjectOrNone struct {
		Type   string          `json:"type"`
		Object json.RawMessage `json:"object"`
	} `json:"data"`
}

func (e *event) bookmark() bool { return strings.Contains(e.Type, "bookmark") }

func (e *event) configMap(t testing.TB) *corev1.ConfigMap {
	t.Helper()
	var c corev1.ConfigMap
	if err := json.Unmarshal(e.ObjectOrNone.Object, &c); err != nil {
		t.Fatalf("%s: %v", e.ObjectOrNone.Object, err)
	}
	return &c
}

// ask sends a request as an observer.
func ask(ctx context.Context, b bus.Bus, method string, request map[string]any, answer any) error {
	data, err := json.Marshal(request)
	if err != nil {
		return err
	}
	m, err := b.Call(ctx, bus.Message{Subject: bus.APISubject(b.Identity(), method), Data: data})
	if err != nil {
		return err
	}
	if len(m.Data) > 1<<20+8<<10 && method != "get" {
		return fmt.Errorf("an answer of %d bytes", len(m.Data))
	}
	return json.Unmarshal(m.Data, answer)
}

func (f *fixture) ask(b bus.Bus, method string, request map[string]any, answer any) {
	f.Helper()
	if err := ask(f.Context(), b, method, request, answer); err != nil {
		f.Fatalf("%s %v: %v", method, request, err)
	}
}

// wantProblem checks the code of a refusal, and that it is JSON.
func (f *fixture) wantProblem(b bus.Bus, method string, request map[string]any, code int, part string) {
	f.Helper()
	err := ask(f.Context(), b, method, request, new(any))
	var p struct {
		Code            int
		Reason, Message string
	}
	call, ok := err.(*bus.CallError) //nolint:errorlint // it comes unwrapped
	if !ok || json.Unmarshal([]byte(call.Reason), &p) != nil || p.Code != code || p.Reason == "" || !strings.Contains(p.Message, part) {
		f.Errorf("%s %v: got %v, want code %d and %q", method, request, err, code, part)
	}
}

type resumed struct {
	Events   []event `json:"events"`
	Revision string  `json:"revision"`
	More     bool    `json:"more"`
}

type listed struct {
	Items    []json.RawMessage `json:"items"`
	Revision string            `json:"revision"`
	Continue string            `json:"continue"`
}

// record collects what an observer is sent.
func record(t testing.TB, b bus.Bus, pattern string) func() []event {
	t.Helper()
	var mu sync.Mutex
	var events []event
	_, err := b.Subscribe(t.Context(), pattern, func(m bus.Message) {
		var e event
		if err := json.Unmarshal(m.Data, &e); err != nil {
			t.Errorf("%s: %v: %s", m.Subject, err, m.Data)
		}
		e.NATSSubject, e.RawData = m.Subject, m.Data
		mu.Lock()
		defer mu.Unlock()
		events = append(events, e)
	})
	if err != nil {
		t.Fatal(err)
	}
	return func() []event {
		mu.Lock()
		defer mu.Unlock()
		return append([]event{}, events...)
	}
}

func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// inBubble runs a test over a bus in memory.
func inBubble(t *testing.T, test func(t *testing.T, f *fixture, hub *memory.Hub, tool bus.Bus)) {
	synctest.Test(t, func(t *testing.T) {
		hub := memory.New()
		b := hub.Connect(theCore)
		t.Cleanup(func() { _ = b.Close() })
		tool := hub.Connect(observer)
		t.Cleanup(func() { _ = tool.Close() })
		f := start(t, b)
		settle(time.Second)
		test(t, f, hub, tool)
	})
}

func typeMeta(kind string) metav1.TypeMeta { return metav1.TypeMeta{APIVersion: "v1", Kind: kind} }

func number(t testing.TB, revision string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(revision, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
