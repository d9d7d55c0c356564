package feed_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/memory"
	"github.com/weftrun/weft/core"
)

// mirror keeps a copy of all ConfigMaps by the rules of the package's
// documentation, and nothing else.
type mirror struct {
	t    testing.TB
	tool bus.Bus

	mu        sync.Mutex
	listed    int64            // position of a namespace that is not in positions
	positions map[string]int64 // by namespace
	heard     map[string]time.Time
	objects   map[string]string // namespace/name: value
	resumes   int
	lists     int
}

func newMirror(t testing.TB, tool bus.Bus) *mirror {
	t.Helper()
	m := &mirror{t: t, tool: tool, heard: map[string]time.Time{}}
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err := tool.Subscribe(t.Context(), "weft.v1.event.core.configmaps.>", func(msg bus.Message) {
		var e event
		if err := json.Unmarshal(msg.Data, &e); err != nil {
			t.Error(err)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.receive(&e)
	})
	if err != nil {
		t.Fatal(err)
	}
	m.list()
	return m
}

func (m *mirror) position(namespace string) int64 {
	if p, ok := m.positions[namespace]; ok {
		return p
	}
	return m.listed
}

func (m *mirror) receive(e *event) {
	namespace := strings.Split(e.Subject, "/")[2]
	m.heard[namespace] = time.Now()
	at := m.position(namespace)
	switch {
	case e.bookmark() && e.Revision > at:
		m.resume(namespace)
	case e.bookmark():
		m.positions[namespace] = max(at, e.Through)
	case e.Revision <= at: // old
	case e.Previous > at:
		m.resume(namespace)
	default:
		m.positions[namespace] = e.Revision
		m.apply(e)
	}
}

func (m *mirror) apply(e *event) {
	c := e.configMap(m.t)
	if e.ObjectOrNone.Type == "DELETED" {
		delete(m.objects, c.Namespace+"/"+c.Name)
	} else {
		m.objects[c.Namespace+"/"+c.Name] = c.Data["v"]
	}
}

// silence resumes what was not heard of for long.
func (m *mirror) silence() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for namespace, when := range m.heard {
		if time.Since(when) > 3*time.Minute {
			m.heard[namespace] = time.Now()
			m.resume(namespace)
		}
	}
}

func (m *mirror) resume(namespace string) {
	m.resumes++
	for {
		var r resumed
		err := m.ask("resume", map[string]any{"resource": "configmaps", "namespace": namespace, "from": fmt.Sprint(m.position(namespace)), "limit": 7}, &r)
		if err != nil && strings.Contains(err.Error(), `"code":410`) {
			m.list()
			return
		}
		if err != nil {
			m.t.Error(err)
			return
		}
		for i := range r.Events {
			m.apply(&r.Events[i])
		}
		m.positions[namespace] = max(m.position(namespace), number(m.t, r.Revision))
		if !r.More {
			return
		}
	}
}

// ask tries again, as requests get lost as well.
func (m *mirror) ask(method string, request map[string]any, answer any) error {
	for {
		ctx, cancel := context.WithTimeout(m.t.Context(), time.Second)
		err := ask(ctx, m.tool, method, request, answer)
		cancel()
		if !errors.Is(err, bus.ErrUnavailable) && !errors.Is(err, bus.ErrNotFound) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (m *mirror) list() {
	m.lists++
	m.objects, m.positions = map[string]string{}, map[string]int64{}
	next := ""
	for first := true; first || next != ""; first = false {
		var page listed
		if err := m.ask("list", map[string]any{"resource": "configmaps", "limit": 4, "continue": next}, &page); err != nil {
			m.t.Error(err)
			return
		}
		next, m.listed = page.Continue, number(m.t, page.Revision)
		for _, item := range page.Items {
			var c corev1.ConfigMap
			if err := json.Unmarshal(item, &c); err != nil {
				m.t.Error(err)
			}
			m.objects[c.Namespace+"/"+c.Name] = c.Data["v"]
		}
	}
}

// TestNoGapGoesUnnoticed drops messages of every sort, restarts the feed while
// things change, and outruns what is kept; every time a mirror that follows
// the rules ends up with exactly what there is.
func TestNoGapGoesUnnoticed(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, func(t *testing.T, f *fixture, hub *memory.Hub, tool bus.Bus) {
				random := rand.New(rand.NewPCG(seed, 7))
				dice := rand.New(rand.NewPCG(seed, 8))
				var loss atomic.Int64 // in a thousand; the hub calls one at a time
				hub.OnDeliver(func(_, to bus.Identity, _ bus.Message) memory.Fate {
					return memory.Fate{Drop: to == observer && dice.Int64N(1000) < loss.Load()}
				})
				var m *mirror
				for round := range 8 {
					loss.Store([]int64{300, 900, 20, 999}[random.IntN(4)])
					steps := random.IntN(60)
					if random.IntN(4) == 0 {
						steps = ringEvents + 50
					}
					restart := random.IntN(3) == 0
					if restart {
						f.stop()
					}
					f.change(random, steps)
					if restart {
						f.startFeed()
						f.change(random, random.IntN(3))
					}
					if m == nil {
						loss.Store(0)
						m = newMirror(t, tool)
						continue
					}
					settle(time.Duration(random.IntN(3000)) * time.Millisecond)
					loss.Store(0)
					for range 5 {
						settle(time.Minute)
						m.silence()
					}
					synctest.Wait()
					m.mu.Lock()
					if d := cmp.Diff(f.all(), m.objects); d != "" {
						t.Errorf("round %d: %s", round, d)
					}
					m.mu.Unlock()
				}
				if m.resumes == 0 {
					t.Error("nothing was ever resumed")
				}
				t.Logf("%d resumes, %d lists", m.resumes, m.lists)
			})
		})
	}
}

// change makes random changes of ConfigMaps.
func (f *fixture) change(random *rand.Rand, steps int) {
	f.Helper()
	for range steps {
		namespace, name := string(rune('a'+random.IntN(3))), fmt.Sprintf("m%d", random.IntN(5))
		_, exists := f.client.Snapshot().Get(mapKey(namespace, name))
		switch {
		case !exists:
			f.create(configMap(namespace, name, fmt.Sprint(random.Int())))
		case random.IntN(3) == 0:
			f.delete(mapKey(namespace, name))
		default:
			f.set(namespace, name, fmt.Sprint(random.Int()))
		}
		if random.IntN(10) == 0 {
			time.Sleep(time.Duration(random.IntN(2000)) * time.Millisecond)
		}
	}
}

func (f *fixture) all() map[string]string {
	all := map[string]string{}
	for key, o := range f.client.Snapshot().List(core.ConfigMaps, "") {
		all[key.Namespace+"/"+key.Name] = o.(*corev1.ConfigMap).Data["v"]
	}
	return all
}

func TestResumeReturnsWhatIsMissing(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture, _ *memory.Hub, tool bus.Bus) {
		seen := record(t, tool, bus.AllEvents)
		f.create(configMap("a", "m", "first"))
		from := f.client.Snapshot().Revision()
		for i := range 20 {
			f.set("a", "m", fmt.Sprint(i))
			f.create(configMap("b", fmt.Sprint("m", i), "x"))
		}
		settle(time.Second)
		var want, got []string
		for _, e := range seen() {
			if !e.bookmark() && strings.HasPrefix(e.Subject, "core/configmaps/a/") && e.Revision > from {
				want = append(want, string(e.ID)+e.Type+string(e.ObjectOrNone.Object))
			}
		}
		at := fmt.Sprint(from)
		for more := true; more; {
			var r resumed
			f.ask(tool, "resume", map[string]any{"group": "core", "resource": "configmaps", "namespace": "a", "from": at, "limit": 6}, &r)
			if len(r.Events) > 6 {
				t.Errorf("%d events", len(r.Events))
			}
			for _, e := range r.Events {
				got = append(got, string(e.ID)+e.Type+string(e.ObjectOrNone.Object))
			}
			at, more = r.Revision, r.More
		}
		if d := cmp.Diff(want, got); d != "" || len(want) != 20 {
			t.Errorf("%d wanted: %s", len(want), d)
		}
		if newest := f.client.Snapshot().Revision(); number(t, at) != newest {
			t.Errorf("resumed up to %s, the newest is %d", at, newest)
		}
		about := map[string]any{"resource": "configmaps", "from": fmt.Sprint(f.client.Snapshot().Revision() + 1)}
		f.wantProblem(tool, "resume", about, 410, "another history")
		for i := range 2 * ringEvents {
			f.set("a", "m", fmt.Sprint("more", i))
		}
		about["from"] = fmt.Sprint(from)
		f.wantProblem(tool, "resume", about, 410, "")
	})
}

func TestPagesHaveLimits(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture, _ *memory.Hub, tool bus.Bus) {
		from := f.client.Snapshot().Revision()
		for i := range 5 {
			f.create(configMap("a", fmt.Sprint("m", i), strings.Repeat("x", 400<<10)))
		}
		count, pages, next := 0, 0, ""
		for first := true; first || next != ""; first = false {
			var page listed
			f.ask(tool, "list", map[string]any{"resource": "configmaps", "continue": next}, &page)
			count, pages, next = count+len(page.Items), pages+1, page.Continue
		}
		if count != 5 || pages != 3 {
			t.Errorf("%d items in %d pages", count, pages)
		}
		count, pages = 0, 0
		at := fmt.Sprint(from)
		for more := true; more; pages++ {
			var r resumed
			f.ask(tool, "resume", map[string]any{"resource": "configmaps", "from": at}, &r)
			count, at, more = count+len(r.Events), r.Revision, r.More
		}
		if count != 5 || pages != 3 {
			t.Errorf("%d events in %d pages", count, pages)
		}
	})
}

func TestRequestsAreChecked(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture, _ *memory.Hub, tool bus.Bus) {
		for _, c := range []struct {
			method  string
			request map[string]any
			code    int
			part    string
		}{
			{"list", map[string]any{"resource": "boats"}, 404, "boats"},
			{"list", map[string]any{"resource": "pods", "limit": -1}, 400, "limit"},
			{"list", map[string]any{"resource": "pods", "limit": 1001}, 400, "1000"},
			{"list", map[string]any{"resource": "pods", "continue": "x"}, 400, "continue"},
			{"list", map[string]any{"resource": "pods", "name": "x"}, 400, "name"},
			{"list", map[string]any{"resource": "nodes", "namespace": "a"}, 400, "namespace"},
			{"list", map[string]any{"resource": strings.Repeat("x", 17<<10)}, 400, "bytes"},
			{"get", map[string]any{"resource": "pods", "namespace": "a"}, 400, "name"},
			{"get", map[string]any{"resource": "pods", "name": "x"}, 400, "namespace"},
			{"get", map[string]any{"resource": "pods", "namespace": "a", "name": "x"}, 404, "x"},
			{"resume", map[string]any{"resource": "pods"}, 400, "from"},
			{"resume", map[string]any{"resource": "pods", "from": "-1"}, 400, "from"},
			{"kinds", map[string]any{"x": 1}, 400, "x"},
		} {
			f.wantProblem(tool, c.method, c.request, c.code, c.part)
		}
	})
}

func TestBookmarks(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture, _ *memory.Hub, tool bus.Bus) {
		f.create(configMap("a", "m", "x"))
		f.create(configMap("b", "m", "x"))
		settle(2 * time.Minute)
		seen := record(t, tool, "weft.v1.event.core.configmaps.*."+bus.BookmarkName)
		settle(20 * time.Second)
		if n := len(seen()); n < 4 || n > 6 {
			t.Errorf("%d bookmarks of two quiet namespaces in 20 s", n)
		}
		f.set("a", "m", "y")
		f.delete(mapKey("b", "m"))
		before := len(seen())
		settle(20 * time.Second)
		if n := len(seen()) - before; n < 38 || n > 42 {
			t.Errorf("%d bookmarks of two changed namespaces in 20 s", n)
		}
		newest := f.client.Snapshot().Revision()
		f.create(&corev1.Event{ObjectMeta: configMap("a", "e", "").ObjectMeta, TypeMeta: typeMeta("Event"), InvolvedObject: corev1.ObjectReference{Namespace: "a"}})
		settle(2 * time.Second)
		last := seen()[len(seen())-1]
		if last.Revision != newest && last.Revision != newest-1 || last.Through <= newest {
			t.Errorf("bookmark %s, the newest of others is %d", last.RawData, f.client.Snapshot().Revision())
		}
		settle(11 * time.Minute)
		before = len(seen())
		settle(30 * time.Second)
		for _, e := range seen()[before:] {
			if e.Subject == "core/configmaps/b" {
				t.Error("an empty namespace still has bookmarks")
			}
		}
	})
}
