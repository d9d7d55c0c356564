package sim

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/nodelink"
	"github.com/weftrun/weft/wasm/image"
	"github.com/weftrun/weft/wasm/node"
	"github.com/weftrun/weft/wasm/node/ledger"
	"github.com/weftrun/weft/wasm/wasmtest"
)

// machine is a node: an executor that goes on while the agent is away, and the
// agent, if it runs.
type machine struct {
	w      *world
	who    bus.Identity
	folder string
	rt     *wasmtest.Fake
	stop   func() // ends the agent; nil: it does not run
}

type images struct{}

func (images) Resolve(_ context.Context, ref string, _ image.Policy) (image.Image, error) {
	return image.Image{Digest: "sha256:" + ref, Path: "/" + ref + ".wasm"}, nil
}

func (m *machine) object() *corev1.Node {
	room := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("100"),
	}
	return &corev1.Node{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: m.who.Name, Labels: map[string]string{corev1.LabelHostname: m.who.Name}},
		Status: corev1.NodeStatus{
			Capacity: room, Allocatable: room,
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "Simulated"}},
		},
	}
}

// start starts the agent, if it does not run, and again if it ends because its
// node was deleted, as whatever supervises it does.
func (m *machine) start() {
	if m.stop != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(m.w.t.Context()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for m.once(ctx) {
			sleep(ctx, time.Second)
		}
	}()
	m.stop = func() {
		m.w.hub.Cut(m.who, true) // what it does while it ends has no effect
		cancel()
		<-ended
		m.w.hub.Cut(m.who, m.w.isCut(m.who))
		m.stop = nil
		m.w.noteAbsence(m)
	}
	m.w.noteAbsence(m)
}

// once runs the agent, and tells whether it is to be started again.
func (m *machine) once(ctx context.Context) (again bool) {
	t := m.w.t
	kept, err := ledger.Open(ledger.Config{Dir: filepath.Join(m.folder, "ledger"), Logger: m.w.log, Unsynced: true})
	if err != nil {
		t.Error(err)
		return false
	}
	defer func() { _ = kept.Close() }() // every record is in the file already
	var conn bus.Bus
	link, err := nodelink.DialLink(m.who, func(context.Context) (bus.Bus, error) {
		conn = m.w.hub.Connect(m.who)
		return conn, nil
	}, m.w.log)
	if err != nil {
		t.Error(err)
		return false
	}
	defer func() { _ = link.Close() }() // it is over
	agent, err := node.New(node.Config{
		Node: m.object(), Link: link, Runtime: m.rt, Images: images{}, Ledger: kept, Logs: filepath.Join(m.folder, "logs"), Logger: m.w.log,
	})
	if err != nil {
		t.Error(err)
		return false
	}
	group, working := errgroup.WithContext(ctx)
	for name, run := range map[string]func(context.Context) error{"ledger": kept.Run, "link": link.Run, "agent": agent.Run} {
		group.Go(func() error {
			err := run(working)
			if err != nil && working.Err() == nil && !errors.Is(err, nodelink.ErrRemoved) {
				t.Errorf("seed %d: %s of node %s ended: %v", m.w.seed, name, m.who.Name, err)
			}
			return err
		})
	}
	if !errors.Is(group.Wait(), nodelink.ErrRemoved) || ctx.Err() != nil {
		return false
	}
	if err := agent.Abandon(ctx); err != nil { // as cmd/internal/cluster does
		m.w.note("agent of %s: stop all pods: %v", m.who.Name, err)
	}
	return true
}

// running returns the pods that have a container running here, by UID; the
// value is the pod's name.
func (m *machine) running() map[string]string { return m.rt.Running() }

var _ core.NodeLink = (*nodelink.Link)(nil)
