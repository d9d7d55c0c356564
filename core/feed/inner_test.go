package feed

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/memory"
	"github.com/weftrun/weft/core"
)

// TestTurns checks that bookmarks of many namespaces stay within their budget
// and leave none out.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memory.New().Connect(bus.Identity{Role: bus.RoleCore, Name: "core"})
		defer func() { _ = b.Close() }()
		count := map[string]int{}
		sub, err := b.Subscribe(t.Context(), bus.AllEvents, func(m bus.Message) { count[bus.Tokens(m.Subject)[3]]++ })
		if err != nil {
			t.Fatal(err)
		}
		f := &Feed{config: Config{Bus: b, Term: func() uint64 { return 1 }, Logger: slog.New(slog.DiscardHandler)}}
		w := newFollower(f, &core.Kind{Resource: "pods", Namespaced: true})
		w.spaces = map[string]*space{}
		const quiet, changed = 2500, 2500
		for i := range quiet {
			w.space(fmt.Sprint("q", i))
		}
		for i := range changed {
			w.space(fmt.Sprint("c", i)).changed = time.Now().Add(time.Hour)
		}
		for range 25 {
			w.bookmarks(t.Context(), 5)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if err := sub.Close(); err != nil {
			t.Fatal(err)
		}
		for i := range quiet {
			if n := count[fmt.Sprint("q", i)]; n != 1 {
				t.Fatalf("quiet namespace %d: %d bookmarks in 25 s, want 1", i, n)
			}
		}
		for i := range changed {
			if n := count[fmt.Sprint("c", i)]; n < 9 || n > 11 {
				t.Fatalf("changed namespace %d: %d bookmarks in 25 s, want 10", i, n)
			}
		}
	})
}

// TestForgotten checks that a namespace that comes back begins no lower than
// what was said of any that was forgotten.
func TestForgotten(t *testing.T) {
	w := newFollower(&Feed{}, &core.Kind{Resource: "pods", Namespaced: true})
	w.spaces = map[string]*space{}
	for i := range 5 {
		w.space(fmt.Sprint(i)).newest = int64(10 + i)
	}
	var visited []string
	w.round(&w.quiet, 10, func(s *space) bool {
		visited = append(visited, s.namespace)
		if s.newest%2 == 0 {
			w.forget(s)
		}
		return true
	})
	if len(visited) != 5 || len(w.order) != 2 || len(w.spaces) != 2 {
		t.Errorf("visited %v, left %d and %d", visited, len(w.order), len(w.spaces))
	}
	if s := w.space("new"); s.newest != 14 {
		t.Errorf("a new namespace begins at %d, want 14", s.newest)
	}
}

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits()
		one, other := bus.Identity{Role: bus.RoleObserver, Name: "one"}, bus.Identity{Role: bus.RoleObserver, Name: "other"}
		var leave []func()
		for range atOnce {
			done, err := l.enter(t.Context(), one)
			if err != nil {
				t.Fatal(err)
			}
			leave = append(leave, done)
		}
		waited := make(chan error, atOnceEach) // one for each that waits
		for range atOnceEach - atOnce {
			go func() {
				done, err := l.enter(t.Context(), one)
				if err == nil {
					done()
				}
				waited <- err
			}()
		}
		synctest.Wait()
		if _, err := l.enter(t.Context(), one); problemOf(err).Code != 429 {
			t.Errorf("got %v, want it refused", err)
		}
		go func() {
			done, err := l.enter(t.Context(), other)
			if err == nil {
				done()
			}
			waited <- err
		}()
		synctest.Wait()
		for _, done := range leave {
			done()
		}
		for range atOnceEach - atOnce + 1 {
			if err := <-waited; err != nil {
				t.Error(err)
			}
		}
		if len(l.active) != 0 || len(l.slots) != 0 {
			t.Errorf("%d active, %d slots are left", len(l.active), len(l.slots))
		}
	})
}

func FuzzRequests(f *testing.F) {
	f.Add([]byte(`{"group":"core","resource":"pods","namespace":"_","limit":5,"continue":"eyJyIjoxLCJuIjoiYSIsIm8iOiJiIn0"}`))
	f.Add([]byte(`{"resource":"pods","from":"12"}{}`))
	f.Add([]byte(place{Revision: 1, Namespace: "a", Name: "b"}.String()))
	f.Fuzz(func(t *testing.T, data []byte) {
		check := func(err error) {
			if err == nil {
				return
			}
			var p problem
			if json.Unmarshal([]byte(problemOf(err).Error()), &p) != nil || p.Code != 400 || p.Message == "" {
				t.Errorf("%v is no refusal", err)
			}
		}
		r, err := decode[listRequest](data)
		check(err)
		_, err = entries(r.Limit)
		check(err)
		_, err = parsePlace(r.Continue)
		check(err)
		_, err = decode[getRequest](data)
		check(err)
		resume, err := decode[resumeRequest](data)
		check(err)
		_, err = revisionOf(resume.From)
		check(err)
		if p, err := parsePlace(string(data)); err == nil {
			if q, err := parsePlace(p.String()); err != nil || p != q {
				t.Errorf("%v became %v, %v", p, q, err)
			}
		}
	})
}

// FuzzText checks that texts that are written without escapes need none.
func FuzzText(f *testing.F) {
	for _, s := range []string{"a", `"`, `\`, "\n", "ü", "\xff", "\x7f", "<>&"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e := newEncoder("")
		e.text(s)
		var back string
		if err := json.Unmarshal(e.bytes(), &back); err != nil || back != strings.ToValidUTF8(s, "\ufffd") && back != s && !strings.ContainsRune(back, '\ufffd') {
			t.Errorf("%q became %s, then %q (%v)", s, e.bytes(), back, err)
		}
	})
}

// aPod is like one that a Deployment made and a node runs.
func aPod() *corev1.Pod {
	now := metav1.Now()
	yes := true
	return &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: "web-7c5ddbdf54-x2x9k", GenerateName: "web-7c5ddbdf54-", Namespace: "default", UID: "8c0b2a3f-5d3f-4a4e-9d6a-6f4a2b1c0d9e",
			ResourceVersion: "123456", CreationTimestamp: now, Labels: map[string]string{"app": "web", "pod-template-hash": "7c5ddbdf54"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-7c5ddbdf54", UID: "u", Controller: &yes, BlockOwnerDeletion: &yes}},
			ManagedFields:   []metav1.ManagedFieldsEntry{{Manager: "test", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{}}`)}}},
		Spec: corev1.PodSpec{NodeName: "node-1", RestartPolicy: corev1.RestartPolicyAlways, Containers: []corev1.Container{{Name: "web", Image: "file:modules/hello.wasm", Args: []string{"a", "b"},
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("10m"), "memory": resource.MustParse("8Mi")}}}},
			Tolerations: []corev1.Toleration{{Key: "node.kubernetes.io/not-ready", Operator: "Exists", Effect: "NoExecute"}, {Key: "node.kubernetes.io/unreachable", Operator: "Exists", Effect: "NoExecute"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.0.0.1", StartTime: &now,
			Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: "True", LastTransitionTime: now}, {Type: corev1.PodScheduled, Status: "True", LastTransitionTime: now}},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "web", Ready: true, Image: "hello.wasm", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}}}},
	}
}

// BenchmarkEvent is the hot path: an event of a pod, up to the carrier.
func BenchmarkEvent(b *testing.B) {
	e := newEncoder("/weft")
	pod := aPod()
	change := core.Change{Key: core.KeyFor(core.Pods, pod), Object: pod, Old: pod, Revision: 123456, Previous: 123455}
	b.ReportAllocs()
	for b.Loop() {
		e.reset()
		if err := e.event(&change, change.Previous, 3, time.Now()); err != nil {
			b.Fatal(err)
		}
		_ = bus.EventSubject(change.Key.Group, change.Key.Resource, change.Key.Namespace, change.Key.Name)
	}
	b.ReportMetric(float64(len(e.bytes())), "bytes")
}

// BenchmarkTick is the bookmarks' second with 10,000 quiet namespaces.
func BenchmarkTick(b *testing.B) {
	c := memory.New().Connect(bus.Identity{Role: bus.RoleCore, Name: "core"})
	defer func() { _ = c.Close() }()
	f := &Feed{config: Config{Bus: c, Term: func() uint64 { return 1 }, Logger: slog.New(slog.DiscardHandler)}}
	w := newFollower(f, &core.Kind{Resource: "pods", Namespaced: true})
	w.spaces = map[string]*space{}
	for i := range 10000 {
		w.space(fmt.Sprint("q", i))
	}
	for b.Loop() {
		w.bookmarks(b.Context(), 5)
	}
}
