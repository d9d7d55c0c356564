package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/coretest"
	"github.com/weftrun/weft/core/coretest/mapstore"
)

func newClient() *mapstore.Client {
	return mapstore.NewClient(
		mapstore.Kind(schema.GroupVersionKind{Version: "v1", Kind: "Pod"}, "pods", true),
		mapstore.Kind(schema.GroupVersionKind{Version: "v1", Kind: "Node"}, "nodes", false),
	)
}

func start(t *testing.T, client core.Client) *coretest.Events {
	t.Helper()
	events := &coretest.Events{}
	s, err := New(Config{Client: client, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Events: events})
	if err != nil {
		t.Fatal(err)
	}
	coretest.Run(t, s.Run)
	return events
}

func create(t *testing.T, client core.Client, o core.Object) {
	t.Helper()
	if _, err := client.Create(t.Context(), o, core.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
}

func podNamed(t *testing.T, client core.Client, name string) *corev1.Pod {
	t.Helper()
	o, ok := client.Snapshot().Get(core.Key{Resource: "pods", Namespace: "default", Name: name})
	if !ok {
		t.Fatalf("no pod %s", name)
	}
	return o.(*corev1.Pod)
}

func TestWaitsSaysWhyAndGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := newClient()
		events := start(t, client)
		create(t, client, testNode("a", "1", "1Gi", 10))
		synctest.Wait()
		create(t, client, testPod("big", "2", ""))
		time.Sleep(time.Second)
		synctest.Wait()
		pod := podNamed(t, client, "big")
		if !hasCondition(pod, "Unschedulable", "0/1 nodes are available: 1 Insufficient cpu.") {
			t.Errorf("conditions: %+v", pod.Status.Conditions)
		}
		before := client.Snapshot().Revision()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if after := client.Snapshot().Revision(); after != before {
			t.Errorf("%d writes while nothing changed", after-before)
		}
		create(t, client, testNode("b", "4", "4Gi", 10))
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if got := podNamed(t, client, "big").Spec.NodeName; got != "b" {
			t.Errorf("it is on %q", got)
		}
		want := []string{
			"default-scheduler big Warning FailedScheduling: 0/1 nodes are available: 1 Insufficient cpu.",
			"default-scheduler big Normal Scheduled: Successfully assigned default/big to b",
		}
		if got := events.Lines(); !slices.Equal(got, want) {
			t.Errorf("events %q", got)
		}
	})
}

func TestAttemptsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := newClient()
		var mu sync.Mutex
		attempts := 0
		s, err := New(Config{
			Client: client, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
			Attempted: func(took time.Duration, err error) {
				mu.Lock()
				defer mu.Unlock()
				if attempts++; took < 0 || err != nil {
					t.Errorf("took %s: %v", took, err)
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		coretest.Run(t, s.Run)
		create(t, client, testNode("a", "1", "1Gi", 10))
		create(t, client, testPod("fits", "", ""))
		create(t, client, testPod("big", "2", ""))
		time.Sleep(time.Second)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if attempts != 1 {
			t.Errorf("%d attempts were told, want that of the one that fits", attempts)
		}
	})
}

func TestRoomThatBecomesFreeIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := newClient()
		start(t, client)
		create(t, client, testNode("a", "1", "1Gi", 1))
		create(t, client, testPod("first", "", ""))
		time.Sleep(time.Second)
		create(t, client, testPod("second", "", ""))
		time.Sleep(time.Second)
		synctest.Wait()
		if podNamed(t, client, "second").Spec.NodeName != "" {
			t.Fatal("two pods on a node for one")
		}
		zero := int64(0)
		if _, _, err := client.Delete(t.Context(), core.Key{Resource: "pods", Namespace: "default", Name: "first"}, core.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := podNamed(t, client, "second").Spec.NodeName; got != "a" {
			t.Errorf("it is on %q", got)
		}
	})
}

func TestGatedAndForeignPodsAreLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := newClient()
		start(t, client)
		create(t, client, testNode("a", "1", "1Gi", 10))
		create(t, client, testPod("gated", "", "", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "x/y"}} }))
		create(t, client, testPod("foreign", "", "", func(p *corev1.Pod) { p.Spec.SchedulerName = "other" }))
		time.Sleep(time.Minute)
		synctest.Wait()
		gated := podNamed(t, client, "gated")
		if gated.Spec.NodeName != "" || !hasCondition(gated, "SchedulingGated", gatedMessage) {
			t.Errorf("gated: %+v", gated.Status.Conditions)
		}
		if podNamed(t, client, "foreign").Spec.NodeName != "" {
			t.Error("another scheduler's pod was bound")
		}
		_, err := client.Mutate(t.Context(), core.KeyFor(core.Pods, gated), func(o core.Object) error {
			o.(*corev1.Pod).Spec.SchedulingGates = nil
			return nil
		}, core.WriteOptions{})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if podNamed(t, client, "gated").Spec.NodeName != "a" {
			t.Error("the pod whose gate was lifted still waits")
		}
	})
}

func TestRefusedBindingIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := newClient()
		var mu sync.Mutex
		refusals := 2
		client.Refuse = func(verb string, key core.Key, _ core.Object) error {
			mu.Lock()
			defer mu.Unlock()
			if verb != "update" || key.Resource != "pods" || refusals == 0 {
				return nil
			}
			refusals--
			return apierrors.NewInternalError(errors.New("no"))
		}
		start(t, client)
		create(t, client, testNode("a", "1", "1Gi", 1))
		create(t, client, testPod("p", "", ""))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := podNamed(t, client, "p").Spec.NodeName; got != "a" {
			t.Errorf("it is on %q", got)
		}
	})
}

// BenchmarkScheduler1000 is the whole way of 1,000 pods on 100 nodes: watched,
// placed and bound, over a store in maps.
func BenchmarkScheduler1000(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		client := newClient()
		for i := range 100 {
			if _, err := client.Create(b.Context(), testNode(fmt.Sprintf("n%d", i), "1000", "1000Gi", 1000), core.WriteOptions{}); err != nil {
				b.Fatal(err)
			}
		}
		for i := range 1000 {
			if _, err := client.Create(b.Context(), testPod(fmt.Sprintf("p%d", i), "10m", "16Mi"), core.WriteOptions{}); err != nil {
				b.Fatal(err)
			}
		}
		s, err := New(Config{Client: client, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error, 1)
		b.StartTimer()
		go func() { done <- s.Run(ctx) }()
		if _, err := client.WaitFor(ctx, 2100); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		cancel()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
