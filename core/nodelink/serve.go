package nodelink

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/core"
)

// EpochAnnotation on a Node holds its epoch: the number of registrations.
const EpochAnnotation = "node.weft.run/epoch"

// ProcessAnnotation on a Node tells the process that has the current epoch.
const ProcessAnnotation = "node.weft.run/process"

// What a process is told that is not, or no longer, this node.
const (
	errSuperseded = "superseded: another process has registered as this node"
	errRemoved    = "removed: this node is not in the cluster any more"
	// errUnregistered: the core's history does not have this registration.
	errUnregistered = "unregistered: this node's registration is not known, register again"
)

// refusedPrefix begins the reason of a refusal that the same request would
// meet again. All other errors are worth another try.
const refusedPrefix = "refused: "

func refuse(err error) error { return fmt.Errorf(refusedPrefix+"%w", err) }

// register admits a node and raises its epoch.
func (h *Hub) register(ctx context.Context, m bus.Message) (bus.Message, error) {
	ctx = core.WithUser(ctx, core.System("node-hub"))
	name := bus.Caller(ctx).Name
	leave, err := h.gate.enter(name, methodRegister, callsMax)
	if err != nil {
		return bus.Message{}, err
	}
	defer leave()
	r, err := parseRegistration(name, m.Data)
	if err != nil {
		return bus.Message{}, refuse(err)
	}
	epoch, err := h.admit(ctx, r)
	if final(err) {
		return bus.Message{}, refuse(err)
	}
	if err != nil {
		return bus.Message{}, fmt.Errorf("register node %s: %w", name, err)
	}
	if err := h.renew(ctx, name); err != nil {
		return bus.Message{}, fmt.Errorf("register node %s: %w", name, err)
	}
	if err := h.leads(ctx); err != nil { // perhaps nothing had to be written
		return bus.Message{}, fmt.Errorf("register node %s: %w", name, err)
	}
	h.config.Logger.Info("node registered", "node", name, "epoch", epoch)
	return reply(registered{Epoch: epoch, Term: h.config.Term()})
}

// leads returns an error if what this core knows may not be the truth any more:
// one that stood still and did not notice yet that another leads must not tell a
// node that its pods are gone, or that what it observed is taken care of. It is
// to be asked after what the answer is made of was read.
func (h *Hub) leads(ctx context.Context) error {
	if _, err := h.config.Client.WaitFor(ctx, 0); err != nil {
		return fmt.Errorf("this core may not lead any more: %w", err)
	}
	return nil
}

// restrictedLabels are those by which an administrator sets nodes apart; a node
// may not claim them.
const restrictedLabels = "node-restriction.kubernetes.io/"

func parseRegistration(name string, data []byte) (*registration, error) {
	var r registration
	if len(data) > beatMax {
		return nil, fmt.Errorf("%d bytes are more than %d", len(data), beatMax)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("not a node: %w", err)
	}
	switch {
	case r.Node == nil:
		return nil, errors.New("there is no node in it")
	case r.Node.Name != name:
		return nil, fmt.Errorf("node %q may not register as %q", name, r.Node.Name)
	case len(r.Process) > processMax:
		return nil, fmt.Errorf("the process's name has %d bytes, at most %d are permitted", len(r.Process), processMax)
	case len(r.Node.Status.Conditions) > conditionsMax:
		return nil, fmt.Errorf("%d conditions are more than %d", len(r.Node.Status.Conditions), conditionsMax)
	}
	for label := range r.Node.Labels {
		if strings.HasPrefix(label, restrictedLabels) {
			return nil, fmt.Errorf("node %q may not give itself the label %q", name, label)
		}
	}
	return &r, nil
}

// admit gives the process the node's next epoch, unless it has the current one.
func (h *Hub) admit(ctx context.Context, r *registration) (int64, error) {
	node := r.Node
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
		epoch = epochOf(o)
		if epoch == 0 || r.Process == "" || o.GetAnnotations()[ProcessAnnotation] != r.Process {
			epoch++
		}
		o.SetLabels(merged(o.GetLabels(), node.Labels))
		o.SetAnnotations(merged(o.GetAnnotations(), node.Annotations, map[string]string{
			EpochAnnotation: strconv.FormatInt(epoch, 10), ProcessAnnotation: r.Process,
		}))
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

func merged(all ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range all {
		maps.Copy(out, m)
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

// node returns a node and its epoch, which is 0 if there is none.
func (h *Hub) node(name string) (*corev1.Node, int64) {
	object, ok := h.config.Client.Snapshot().Get(core.Key{Resource: core.Nodes.Resource, Name: name})
	if !ok {
		return nil, 0
	}
	node, ok := object.(*corev1.Node)
	if !ok {
		return nil, 0
	}
	return node, epochOf(node)
}

// sync sends a node its whole set.
func (h *Hub) sync(ctx context.Context, _ bus.Message, s bus.Stream) error {
	name := bus.Caller(ctx).Name
	leave, err := h.gate.enter(name, methodSync, callsMax)
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	frames, objects := h.frames(name)
	if err := h.leads(ctx); err != nil {
		return fmt.Errorf("send node %s its set: %w", name, err)
	}
	out := bufio.NewWriterSize(s, 64<<10)
	for i := range frames {
		if objects[i] != nil {
			if frames[i].Object, err = core.Marshal(objects[i]); err != nil {
				return err
			}
		}
		if err := writeFrame(out, frames[i]); err != nil {
			return fmt.Errorf("send node %s its set: %w", name, err)
		}
		frames[i].Object = nil
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("send node %s its set: %w", name, err)
	}
	return s.CloseWrite()
}

// frames takes a node's set from a snapshot that is no older than the messages
// published so far; those that follow have higher numbers. The versions are
// those published, so that the node's digest is the hub's, and each newer
// state has a message yet to come.
func (h *Hub) frames(node string) ([]frame, []core.Object) {
	h.mu.Lock()
	defer h.mu.Unlock()
	set := h.set(node)
	snapshot := h.config.Client.Snapshot()
	frames := make([]frame, 0, len(set.held)+1)
	objects := make([]core.Object, 0, len(set.held)+1)
	for key, held := range set.held {
		object, ok := snapshot.Get(key)
		if !ok || object.GetUID() != held.uid {
			object = nil // it was removed since; a message will say so
		}
		frames = append(frames, frame{Key: key, UID: held.uid, Version: held.version})
		objects = append(objects, object)
	}
	return append(frames, frame{Term: h.config.Term(), Sequence: set.sequence, Last: true}), append(objects, nil)
}

// blob sends content of the cluster's own store.
func (h *Hub) blob(ctx context.Context, m bus.Message, s bus.Stream) error {
	leave, err := h.gate.enter(bus.Caller(ctx).Name, methodBlob, streamsMax)
	if err != nil {
		return err
	}
	defer leave()
	content, err := h.config.Blob(ctx, string(m.Data))
	if errors.Is(err, bus.ErrNotFound) {
		return fmt.Errorf("there is no module %.80s: push it with weft push", m.Data)
	}
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
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	stream, err := h.config.Bus.Open(opening, bus.Message{Subject: bus.NodeSubject(node, methodLogs), Data: query})
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
	if call, ok := errors.AsType[*bus.CallError](err); ok {
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
