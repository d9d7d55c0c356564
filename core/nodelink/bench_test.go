package nodelink

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/memory"
	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/registry"
	"github.com/weftrun/weft/core/registry/registrytest"
	"github.com/weftrun/weft/core/store"
)

type noEvents struct{}

func (noEvents) Event(string, corev1.ObjectReference, string, string, string) {}

// benchHub is a hub over a real store whose log is in memory, with pods that
// are bound to n1.
func benchHub(b *testing.B, pods int) (*Hub, context.Context) {
	conn := memory.New().Connect(bus.Identity{Role: bus.RoleCore, Name: "core-1"})
	b.Cleanup(func() { _ = conn.Close() })
	ctx := core.WithUser(context.Background(), core.System("bench"))
	must := func(err error) {
		if err != nil {
			b.Helper()
			b.Fatal(err)
		}
	}
	wal, err := conn.OpenLog(ctx, "WAL")
	must(err)
	snapshots, err := conn.OpenLog(ctx, "SNAPSHOTS")
	must(err)
	key, err := store.LoadOrCreateKey(b.TempDir() + "/key")
	must(err)
	quiet := slog.New(slog.DiscardHandler)
	state, err := store.Open(ctx, store.Config{Log: wal, Snapshots: snapshots, Key: key, Logger: quiet})
	must(err)
	running, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- state.Run(running) }()
	b.Cleanup(func() {
		cancel()
		<-done
	})
	client, err := registry.New(registry.Config{Store: state, Strategies: registry.Builtin()})
	must(err)
	h, err := New(Config{
		Bus: conn, Client: client, Events: noEvents{}, Usage: func(string, core.NodeUsage) {}, Term: func() uint64 { return 1 }, Logger: quiet,
		Blob: func(context.Context, string) (io.ReadCloser, error) { return nil, bus.ErrNotFound },
	})
	must(err)
	_, err = client.Create(ctx, registrytest.Namespace("default"), core.WriteOptions{})
	must(err)
	_, err = client.Create(ctx, &corev1.Node{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: "n1", Annotations: map[string]string{EpochAnnotation: "1"}},
	}, core.WriteOptions{})
	must(err)
	for i := range pods {
		_, err := client.Create(ctx, &corev1.Pod{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("p", i), Labels: map[string]string{"app": "park"}},
			Spec:       corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "c", Image: "file:park.wasm"}}},
		}, core.WriteOptions{})
		must(err)
	}
	return h, ctx
}

// BenchmarkPublish tells a node of 1,000 pods.
func BenchmarkPublish(b *testing.B) {
	h, _ := benchHub(b, 1000)
	var changes []core.Change
	for key, object := range h.config.Client.Snapshot().List(core.Pods, "") {
		changes = append(changes, core.Change{Key: key, Object: object})
	}
	b.ReportAllocs()
	for b.Loop() {
		h.nodes = map[string]*nodeSet{}
		for i := range changes {
			h.podChanged(&changes[i])
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/1000, "µs/pod")
}

// BenchmarkObserve takes in 1,000 statuses, store included.
func BenchmarkObserve(b *testing.B) {
	h, ctx := benchHub(b, 1000)
	ctx = bus.WithCaller(ctx, bus.Identity{Role: bus.RoleNode, Name: "n1"})
	var uids []types.UID
	var names []string
	for key, object := range h.config.Client.Snapshot().List(core.Pods, "") {
		names, uids = append(names, key.Name), append(uids, object.GetUID())
	}
	round := 0
	b.ReportAllocs()
	for b.Loop() {
		for half := range 2 {
			round++
			o := observation{Epoch: 1, Batch: uint64(round)}
			for i := half * 500; i < (half+1)*500; i++ {
				status := benchStatus(fmt.Sprint("round ", round))
				o.Pods = append(o.Pods, observedPod{Namespace: "default", Name: names[i], UID: uids[i], Status: status})
			}
			data, err := json.Marshal(o)
			if err != nil {
				b.Fatal(err)
			}
			m, err := h.observe(ctx, bus.Message{Data: data})
			if err != nil || string(m.Data) != "{}" {
				b.Fatal(string(m.Data), err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/1000, "µs/status")
}

func benchStatus(message string) corev1.PodStatus {
	now := metav1.Now()
	up := true
	s := corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &now, HostIP: "10.0.0.1", Message: message}
	for _, kind := range nodeConditions {
		s.Conditions = append(s.Conditions, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	s.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "c", Image: "file:park.wasm", ImageID: "sha256:x", ContainerID: "weft://x/c.0", Ready: true, Started: &up,
		State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
	}}
	return s
}
