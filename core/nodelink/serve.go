package nodelink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/core"
)

// EpochAnnotation on a Node holds its epoch: the number of registrations.
const EpochAnnotation = "node.weft.run/epoch"

// errSuperseded is what a node with an older epoch is told.
const errSuperseded = "superseded: another process has registered as this node"

// register admits a node and raises its epoch.
func (h *Hub) register(ctx context.Context, m bus.Message) (bus.Message, error) {
	ctx = core.WithUser(ctx, core.System("node-hub"))
	var r registration
	if err := json.Unmarshal(m.Data, &r); err != nil || r.Node == nil {
		return bus.Message{}, fmt.Errorf("register: not a node: %w", err)
	}
	name := bus.Caller(ctx).Name
	if r.Node.Name != name {
		return bus.Message{}, fmt.Errorf("register: node %q may not register as %q", name, r.Node.Name)
	}
	epoch, err := h.admit(ctx, r.Node)
	if err != nil {
		return bus.Message{}, fmt.Errorf("register node %s: %w", name, err)
	}
	if err := h.renew(ctx, name); err != nil {
		return bus.Message{}, fmt.Errorf("register node %s: %w", name, err)
	}
	h.config.Logger.Info("node registered", "node", name, "epoch", epoch)
	return reply(registered{Epoch: epoch, Term: h.config.Term()})
}

func (h *Hub) admit(ctx context.Context, node *corev1.Node) (int64, error) {
	key := core.Key{Resource: core.Nodes.Resource, Name: node.Name}
	created := node.DeepCopy()
	created.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}
	created.Annotations = merged(created.Annotations, map[string]string{EpochAnnotation: "0"})
	_, err := h.config.Client.Create(ctx, created, core.WriteOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return 0, err
	}
	var epoch int64
	_, err = h.config.Client.Mutate(ctx, key, func(o core.Object) error {
		epoch = epochOf(o) + 1
		o.SetLabels(merged(o.GetLabels(), node.Labels))
		o.SetAnnotations(merged(o.GetAnnotations(), node.Annotations, map[string]string{EpochAnnotation: strconv.FormatInt(epoch, 10)}))
		return nil
	}, core.WriteOptions{})
	if err != nil {
		return 0, err
	}
	return epoch, h.nodeStatus(ctx, key, node.Status)
}

// nodeStatus writes what a node says of itself if it says anything new.
func (h *Hub) nodeStatus(ctx context.Context, key core.Key, status corev1.NodeStatus) error {
	_, err := h.config.Client.Mutate(ctx, key, func(o core.Object) error {
		node, ok := o.(*corev1.Node)
		if !ok {
			return fmt.Errorf("%s is a %T", key, o)
		}
		mergeNodeStatus(&node.Status, status, metav1.Now())
		return nil
	}, core.WriteOptions{Subresource: "status"})
	return err
}

func merged(maps ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range maps {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

func epochOf(object metav1.Object) int64 {
	epoch, err := strconv.ParseInt(object.GetAnnotations()[EpochAnnotation], 10, 64)
	if err != nil {
		return 0
	}
	return epoch
}

// current tells whether an epoch is the node's newest.
func (h *Hub) current(name string, epoch int64) (*corev1.Node, bool) {
	object, ok := h.config.Client.Snapshot().Get(core.Key{Resource: core.Nodes.Resource, Name: name})
	if !ok {
		return nil, false
	}
	node, ok := object.(*corev1.Node)
	return node, ok && epochOf(node) == epoch
}

// observe commits a batch of what a node observed.
func (h *Hub) observe(ctx context.Context, m bus.Message) (bus.Message, error) {
	ctx = core.WithUser(ctx, core.System("node-hub"))
	var o observation
	if err := json.Unmarshal(m.Data, &o); err != nil {
		return bus.Message{}, fmt.Errorf("observe: %w", err)
	}
	name := bus.Caller(ctx).Name
	if _, ok := h.current(name, o.Epoch); !ok {
		return bus.Message{}, errors.New(errSuperseded)
	}
	var mu sync.Mutex
	var answer observed
	var group errgroup.Group
	group.SetLimit(128)
	for i := range o.Pods {
		group.Go(func() error {
			if err := h.observePod(ctx, name, &o.Pods[i]); err != nil {
				h.config.Logger.Warn("commit observed status", "node", name, "object", o.Pods[i].Namespace+"/"+o.Pods[i].Name, "err", err)
				mu.Lock()
				defer mu.Unlock()
				answer.Again = append(answer.Again, o.Pods[i].UID)
			}
			return nil
		})
	}
	for _, e := range o.Events {
		h.config.Events.Event("kubelet", e.About, e.Type, e.Reason, e.Message)
	}
	_ = group.Wait() // the functions return no errors
	return reply(answer)
}

var errForeign = errors.New("not this node's")

func (h *Hub) observePod(ctx context.Context, node string, p *observedPod) error {
	key := core.Key{Resource: core.Pods.Resource, Namespace: p.Namespace, Name: p.Name}
	_, err := h.config.Client.Mutate(ctx, key, func(o core.Object) error {
		pod, ok := o.(*corev1.Pod)
		if !ok || pod.UID != p.UID || pod.Spec.NodeName != node {
			return errForeign
		}
		mergePodStatus(&pod.Status, &p.Status)
		return nil
	}, core.WriteOptions{Subresource: "status"})
	if errors.Is(err, errForeign) || apierrors.IsNotFound(err) {
		return nil // another pod of that name, or none: there is nothing to say
	}
	if err != nil || !p.Gone {
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
	tokens := bus.Tokens(m.Subject)
	var beat heartbeat
	if len(tokens) != 2 || json.Unmarshal(m.Data, &beat) != nil {
		h.config.Logger.Warn("heartbeat cannot be read", "subject", m.Subject)
		return
	}
	name := tokens[1]
	node, ok := h.current(name, beat.Epoch)
	if !ok {
		return // the observe call tells that process
	}
	if err := h.renew(ctx, name); err != nil {
		h.config.Logger.Warn("renew lease", "node", name, "err", err)
	}
	after := node.Status.DeepCopy()
	if mergeNodeStatus(after, beat.Status, metav1.Now()) {
		if err := h.nodeStatus(ctx, core.Key{Resource: core.Nodes.Resource, Name: name}, beat.Status); err != nil {
			h.config.Logger.Warn("update node status", "node", name, "err", err)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	set := h.set(name)
	if beat.Term != h.config.Term() || beat.Sequence != set.sequence {
		h.mark(name, set)
	} else if digest(beat.Digest) != set.digest {
		h.config.Logger.Warn("node does not hold what it should, it is made to pull", "node", name)
		set.sequence += 2
		h.mark(name, set)
	}
}

// sync sends a node its whole set.
func (h *Hub) sync(ctx context.Context, _ bus.Message, s bus.Stream) error {
	name := bus.Caller(ctx).Name
	frames, err := h.frames(name)
	if err != nil {
		return err
	}
	for _, f := range frames {
		if err := writeFrame(s, f); err != nil {
			return fmt.Errorf("send node %s its set: %w", name, err)
		}
	}
	return s.CloseWrite()
}

// frames takes a node's set from a snapshot that is no older than the messages
// published so far; those that follow have higher numbers.
func (h *Hub) frames(node string) ([]frame, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	set := h.set(node)
	snapshot := h.config.Client.Snapshot()
	frames := make([]frame, 0, len(set.held)+1)
	for key := range set.held {
		object, ok := snapshot.Get(key)
		if pod := podOf(object); !ok || (pod != nil && pod.Spec.NodeName != node) {
			continue // it was removed since; a message will say so
		}
		data, err := core.Marshal(object)
		if err != nil {
			return nil, err
		}
		now := item{uid: object.GetUID(), version: version(object), refs: set.held[key].refs}
		frames = append(frames, frame{Key: key, UID: now.uid, Version: now.version, Object: data})
	}
	return append(frames, frame{Term: h.config.Term(), Sequence: set.sequence, Last: true}), nil
}

// blob sends content of the cluster's own store.
func (h *Hub) blob(ctx context.Context, m bus.Message, s bus.Stream) error {
	content, err := h.config.Blob(ctx, string(m.Data))
	if err != nil {
		return err
	}
	defer func() { _ = content.Close() }() // only read
	if _, err := io.Copy(s, content); err != nil {
		return fmt.Errorf("send blob %s: %w", m.Data, err)
	}
	return s.CloseWrite()
}

// Logs writes a container's log lines, as its node has them, to w. The error
// is apierrors.IsServiceUnavailable when the node does not answer.
func (h *Hub) Logs(ctx context.Context, pod *corev1.Pod, q core.LogQuery, w io.Writer) error {
	query, err := json.Marshal(q)
	if err != nil {
		return fmt.Errorf("encode log query: %w", err)
	}
	node := pod.Spec.NodeName
	stream, err := h.config.Bus.Open(ctx, bus.Message{Subject: bus.NodeSubject(node, methodLogs), Data: query})
	if errors.Is(err, bus.ErrNotFound) || errors.Is(err, bus.ErrUnavailable) {
		return apierrors.NewServiceUnavailable(fmt.Sprintf("node %s of pod %s/%s does not answer: %v", node, pod.Namespace, pod.Name, err))
	}
	if err != nil {
		return fmt.Errorf("ask node %s for logs: %w", node, err)
	}
	defer func() { _ = stream.Close() }() // the answer has been read, or is not wanted
	stop := context.AfterFunc(ctx, func() { _ = stream.Close() })
	defer stop()
	if _, err := io.Copy(w, stream); err != nil && ctx.Err() == nil {
		return logError(err)
	}
	return nil
}

// logError keeps what a node says a user did wrong apart from what is broken.
func logError(err error) error {
	var call *bus.CallError
	if errors.As(err, &call) {
		return apierrors.NewBadRequest(call.Reason)
	}
	return fmt.Errorf("read logs: %w", err)
}

func reply(answer any) (bus.Message, error) {
	data, err := json.Marshal(answer)
	if err != nil {
		return bus.Message{}, fmt.Errorf("encode answer: %w", err)
	}
	return bus.Message{Data: data}, nil
}
