package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/coretest"
	"github.com/weftrun/weft/core/coretest/mapstore"
)

// stuck is a controller of ConfigMaps that takes its time.
type stuck struct {
	takes time.Duration // at most; no longer than it is let

	mu            sync.Mutex
	running, most int
}

func (*stuck) Describe() core.Description {
	return core.Description{Name: "stuck", Kind: mapKind, Resource: core.ConfigMaps}
}

func (*stuck) Relate(core.Object) []core.Relation { return nil }

func (s *stuck) Decide(ctx context.Context, _ core.Observation) (core.Decision, error) {
	s.count(1)
	defer s.count(-1)
	select {
	case <-ctx.Done():
		return core.Decision{}, &core.SetAsideError{Reason: "it did not answer"}
	case <-time.After(s.takes):
		return core.Decision{}, nil
	}
}

func (s *stuck) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running += n
	s.most = max(s.most, s.running)
}

func newMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
}

// TestOneKindDoesNotHoldUpOthers has more objects of a controller that hangs,
// or is slow, than there are workers.
func TestOneKindDoesNotHoldUpOthers(t *testing.T) {
	for name, takes := range map[string]time.Duration{"hangs": time.Hour, "is slow": 9 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bad := &stuck{takes: takes}
				f := start(t, newClient(), &scripted{decide: keepReplicas}, bad)
				for i := range 50 {
					f.create(newMap(fmt.Sprintf("m%d", i)))
				}
				time.Sleep(time.Second)
				for i := range 20 {
					begin := time.Now()
					f.create(newReplicaSet(fmt.Sprintf("web-%d", i), 1))
					for len(f.pods()) < i+1 {
						time.Sleep(time.Millisecond)
					}
					if took := time.Since(begin); took > 200*time.Millisecond {
						t.Fatalf("another kind waited %s", took)
					}
				}
				time.Sleep(5 * time.Minute)
				bad.mu.Lock()
				defer bad.mu.Unlock()
				if bad.most > maxTogether {
					t.Errorf("%d were decided at once", bad.most)
				}
			})
		})
	}
}

// changing is a source whose controllers come and go.
type changing struct {
	mu          sync.Mutex
	controllers []core.Controller
	changed     chan struct{}
}

func (c *changing) Controllers() ([]core.Controller, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.controllers, c.changed
}

func (c *changing) set(controllers ...core.Controller) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.controllers = controllers
	close(c.changed)
	c.changed = make(chan struct{})
}

// TestKindWithoutControllerSaysSo removes a controller, and brings it back.
func TestKindWithoutControllerSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		definition := schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}
		client := mapstore.NewClient(mapstore.Kind(podKind, "pods", true), mapstore.Kind(rsKind, "replicasets", true),
			mapstore.Kind(secretKind, "secrets", true), mapstore.Kind(definition, "customresourcedefinitions", false))
		source := &changing{changed: make(chan struct{})}
		events := &coretest.Events{}
		r, err := New(Config{Client: client, Source: source, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Events: events})
		if err != nil {
			t.Fatal(err)
		}
		coretest.Run(t, r.Run)
		named := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: "replicasets.apps"}}
		named.SetGroupVersionKind(definition)
		for _, o := range []core.Object{named, newReplicaSet("web", 0)} {
			if _, err := client.Create(t.Context(), o, core.WriteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		steps := []struct {
			controllers []core.Controller
			want        string
		}{
			{[]core.Controller{&scripted{decide: keepReplicas}}, ""},
			{nil, "replicaset-controller replicasets.apps Warning ControllerGone: controller replicaset is gone"},
			{nil, ""},
			{[]core.Controller{&scripted{decide: keepReplicas}}, "replicaset-controller replicasets.apps Normal ControllerServes: controller replicaset serves replicasets.apps again"},
		}
		for i, step := range steps {
			before := len(events.Lines())
			source.set(step.controllers...)
			synctest.Wait() // at once
			if after := len(events.Lines()); step.want == "" && after != before || step.want != "" && !events.Has(step.want) {
				t.Errorf("step %d: events %q, want %q", i, events.Lines(), step.want)
			}
		}
		if !events.Has("replicaset-controller web Warning SetAside: controller replicaset is gone, with its plugin") {
			t.Errorf("the object does not say so: %q", events.Lines())
		}
	})
}
