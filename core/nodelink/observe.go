package nodelink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/core"
)

// writersMax bounds the statuses of one batch that are committed at once.
const writersMax = 128

// observe commits a batch of what a node observed.
func (h *Hub) observe(ctx context.Context, m bus.Message) (bus.Message, error) {
	ctx = core.WithUser(ctx, core.System("node-hub"))
	name := bus.Caller(ctx).Name
	leave, err := h.gate.enter(name, methodObserve, callsMax)
	if err != nil {
		return bus.Message{}, err
	}
	defer leave()
	o, err := parseObservation(m.Data)
	if err != nil {
		return bus.Message{}, refuse(err)
	}
	node, epoch := h.node(name)
	if err := h.leads(ctx); err != nil {
		return bus.Message{}, err
	}
	switch {
	case epoch == 0:
		return bus.Message{}, errors.New(errRemoved)
	case epoch < o.Epoch:
		return bus.Message{}, errors.New(errUnregistered)
	case epoch > o.Epoch:
		return bus.Message{}, errors.New(errSuperseded)
	}
	current, ok := h.begin(node, o.Epoch, o.Batch)
	if !ok {
		return bus.Message{}, fmt.Errorf("observe: batch %d was overtaken by a later one", o.Batch)
	}
	h.record(name, o.Events)
	var mu sync.Mutex
	var answer observed
	var group errgroup.Group
	group.SetLimit(writersMax)
	for i := range o.Pods {
		p := &o.Pods[i]
		group.Go(func() error {
			err := h.observePod(ctx, name, p, current)
			if err == nil {
				return nil
			}
			level := slog.LevelWarn
			if apierrors.IsServiceUnavailable(err) {
				level = slog.LevelDebug // the store tells why
			}
			h.config.Logger.Log(ctx, level, "commit observed status", "node", name, "object", p.Namespace+"/"+p.Name, "err", err)
			if !final(err) {
				mu.Lock()
				defer mu.Unlock()
				answer.Again = append(answer.Again, p.UID)
			}
			return nil
		})
	}
	_ = group.Wait() // the functions return no errors
	// Of a pod that is not there nothing was written, so nothing was fenced.
	if err := h.leads(ctx); err != nil {
		return bus.Message{}, err
	}
	return reply(answer)
}

func parseObservation(data []byte) (*observation, error) {
	var o observation
	if err := json.Unmarshal(data, &o); err != nil {
		return nil, err
	}
	if len(o.Pods) > batchMax || len(o.Events) > batchMax {
		return nil, fmt.Errorf("%d pods and %d events: at most %d of each are permitted", len(o.Pods), len(o.Events), batchMax)
	}
	return &o, nil
}

// final tells whether a status that was refused so would be refused again.
func final(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsForbidden(err) || apierrors.IsRequestEntityTooLargeError(err)
}

// record passes on the events about this node and its pods.
func (h *Hub) record(node string, events []core.NodeEvent) {
	snapshot := h.config.Client.Snapshot()
	for i := range events {
		e := &events[i]
		switch e.About.Kind {
		case "Pod":
			object, ok := snapshot.Get(core.Key{Resource: core.Pods.Resource, Namespace: e.About.Namespace, Name: e.About.Name})
			if pod := podOf(object); !ok || pod == nil || pod.UID != e.About.UID || pod.Spec.NodeName != node {
				continue
			}
		case "Node":
			if e.About.Name != node {
				continue
			}
		default:
			continue
		}
		if e.Type != corev1.EventTypeNormal && e.Type != corev1.EventTypeWarning {
			continue
		}
		h.config.Events.Event("kubelet", e.About, e.Type, e.Reason, e.Message)
	}
}

var errForeign = errors.New("not this node's")

// observePod commits one status. It is nobody's business here whether the pod
// is another node's, or of another UID, or gone: there is then nothing to say.
func (h *Hub) observePod(ctx context.Context, node string, p *observedPod, current func() bool) error {
	key := core.Key{Resource: core.Pods.Resource, Namespace: p.Namespace, Name: p.Name}
	deleting := false
	_, err := h.config.Client.Mutate(ctx, key, func(o core.Object) error {
		pod, ok := o.(*corev1.Pod)
		if !ok || pod.UID != p.UID || pod.Spec.NodeName != node || !current() {
			return errForeign
		}
		deleting = pod.DeletionTimestamp != nil
		mergePodStatus(&pod.Status, &p.Status)
		return nil
	}, core.WriteOptions{Subresource: "status"})
	if errors.Is(err, errForeign) || apierrors.IsNotFound(err) {
		return nil
	}
	if p.Gone && final(err) {
		h.config.Logger.Warn("last status of a pod is refused", "node", node, "object", p.Namespace+"/"+p.Name, "err", err)
		err = nil // the pod goes all the same
	}
	if err != nil || !p.Gone || !deleting {
		return err
	}
	now := int64(0)
	_, _, err = h.config.Client.Delete(ctx, key, core.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &p.UID}, GracePeriodSeconds: &now,
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// heartbeat renews the node's Lease, takes in its status, and notices when the
// node does not hold what it should.
func (h *Hub) heartbeat(ctx context.Context, m bus.Message) {
	name, beat, err := parseHeartbeat(m)
	if err != nil {
		h.config.Logger.Warn("heartbeat cannot be read", "subject", m.Subject, "err", err)
		return
	}
	node, epoch := h.node(name)
	if node == nil || epoch != beat.Epoch {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.dismiss(name, epoch)
		return
	}
	if err := h.renew(ctx, name); err != nil && ctx.Err() == nil {
		h.config.Logger.Warn("renew lease", "node", name, "err", err)
	}
	after := node.Status.DeepCopy()
	if mergeNodeStatus(after, beat.Status, metav1.Now()) {
		if err := h.nodeStatus(ctx, core.Key{Resource: core.Nodes.Resource, Name: name}, beat.Status); err != nil && ctx.Err() == nil {
			h.config.Logger.Warn("update node status", "node", name, "err", err)
		}
	}
	h.compare(name, beat)
}

func parseHeartbeat(m bus.Message) (name string, beat *heartbeat, err error) {
	tokens := bus.Tokens(m.Subject)
	if len(tokens) != 2 {
		return "", nil, errors.New("the subject names no node")
	}
	if len(m.Data) > beatMax {
		return "", nil, fmt.Errorf("%d bytes are more than %d", len(m.Data), beatMax)
	}
	beat = &heartbeat{}
	if err := json.Unmarshal(m.Data, beat); err != nil {
		return "", nil, err
	}
	if n := len(beat.Status.Conditions); n > conditionsMax {
		return "", nil, fmt.Errorf("%d conditions are more than %d", n, conditionsMax)
	}
	return tokens[1], beat, nil
}

// compare holds what a node says that it has against what it should have.
func (h *Hub) compare(name string, beat *heartbeat) {
	h.mu.Lock()
	defer h.mu.Unlock()
	set := h.set(name)
	if beat.Term != h.config.Term() || beat.Sequence != set.sequence {
		h.mark(name, set) // unless what it lacks is on its way, it pulls
		return
	}
	set.acknowledged = set.sequence
	if digest(beat.Digest) != set.digest {
		h.config.Logger.Warn("node does not hold what it should, it is made to pull", "node", name)
		set.gap()
		h.mark(name, set)
	}
}
