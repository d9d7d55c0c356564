package nodelink

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/core"
)

// Methods that a node calls on the core (bus.APISubject) and a core on a node
// (bus.NodeSubject).
const (
	methodRegister = "register"
	methodObserve  = "observe"
	methodUsage    = "usage"
	methodSync     = "sync"
	methodBlob     = "blob"
	methodLogs     = "logs"
)

// Headers of messages about desired state.
const (
	headerTerm     = "Term"
	headerSequence = "Sequence"
	headerKey      = "Key" // group/resource/namespace/name
	headerAction   = "Action"
	headerUID      = "Uid"
	headerVersion  = "Version"
	headerEpoch    = "Epoch"
)

// Actions of messages about desired state.
const (
	actionSet   = "set"
	actionUnset = "unset"
	actionMark  = "mark"
	// actionDismiss says the node's current epoch, 0 if it has none: a process
	// with another is to stop.
	actionDismiss = "dismiss"
)

// markUID stands for an object's UID in the subject of a mark.
const markUID = "_mark"

// desired is one message about desired state.
type desired struct {
	term, sequence uint64
	action         string
	key            core.Key
	uid            types.UID
	version        uint64 // of what the node is to hold; part of the digest
	epoch          int64  // of a dismissal
	object         core.Object
}

func (d *desired) message(node string) (bus.Message, error) {
	m := bus.Message{Header: bus.Header{
		headerTerm:     strconv.FormatUint(d.term, 10),
		headerSequence: strconv.FormatUint(d.sequence, 10),
		headerAction:   d.action,
	}}
	if d.action == actionMark || d.action == actionDismiss {
		m.Subject = bus.DesiredSubject(node, core.Nodes.Resource, markUID)
		m.Header[headerEpoch] = strconv.FormatInt(d.epoch, 10)
		return m, nil
	}
	m.Subject = bus.DesiredSubject(node, d.key.Resource, string(d.uid))
	m.Header[headerKey] = formatKey(d.key)
	m.Header[headerUID] = string(d.uid)
	m.Header[headerVersion] = strconv.FormatUint(d.version, 10)
	if d.object != nil {
		data, err := core.Marshal(d.object)
		if err != nil {
			return m, err
		}
		m.Data = data
	}
	return m, nil
}

func parseDesired(m bus.Message) (*desired, error) {
	d := &desired{action: m.Header[headerAction], uid: types.UID(m.Header[headerUID])}
	var err error
	if d.term, err = strconv.ParseUint(m.Header[headerTerm], 10, 64); err != nil {
		return nil, fmt.Errorf("%s: header %s: %w", m.Subject, headerTerm, err)
	}
	if d.sequence, err = strconv.ParseUint(m.Header[headerSequence], 10, 64); err != nil {
		return nil, fmt.Errorf("%s: header %s: %w", m.Subject, headerSequence, err)
	}
	switch d.action {
	case actionMark:
		return d, nil
	case actionDismiss:
		if d.epoch, err = strconv.ParseInt(m.Header[headerEpoch], 10, 64); err != nil {
			return nil, fmt.Errorf("%s: header %s: %w", m.Subject, headerEpoch, err)
		}
		return d, nil
	}
	if d.version, err = strconv.ParseUint(m.Header[headerVersion], 10, 64); err != nil {
		return nil, fmt.Errorf("%s: header %s: %w", m.Subject, headerVersion, err)
	}
	if d.key, err = parseKey(m.Header[headerKey]); err != nil {
		return nil, fmt.Errorf("%s: %w", m.Subject, err)
	}
	switch d.action {
	case actionUnset:
	case actionSet:
		if d.object, err = core.Unmarshal(m.Data); err != nil {
			return nil, fmt.Errorf("%s: %w", m.Subject, err)
		}
	default:
		return nil, fmt.Errorf("%s: unknown action %q", m.Subject, d.action)
	}
	return d, nil
}

func formatKey(k core.Key) string {
	return k.Group + "/" + k.Resource + "/" + k.Namespace + "/" + k.Name
}

func parseKey(text string) (core.Key, error) {
	var parts [4]string
	n := 0
	for i, start := 0, 0; i <= len(text); i++ {
		if i < len(text) && text[i] != '/' {
			continue
		}
		if n == len(parts) {
			return core.Key{}, fmt.Errorf("key %q has too many parts", text)
		}
		parts[n] = text[start:i]
		n++
		start = i + 1
	}
	if n != len(parts) || parts[1] == "" || parts[3] == "" {
		return core.Key{}, fmt.Errorf("key %q is not group/resource/namespace/name", text)
	}
	return core.Key{Group: parts[0], Resource: parts[1], Namespace: parts[2], Name: parts[3]}, nil
}

// version tells states of an object apart as far as a node is concerned: a pod
// whose status alone has changed is the same. The registry raises a pod's
// generation with its spec and when its deletion begins.
func version(object core.Object) uint64 {
	h := fold(fnvOffset, string(object.GetUID()))
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return fold(h, object.GetResourceVersion())
	}
	// The sums are order-free, as maps are.
	h = mix(h, uint64(pod.Generation))
	h = mix(h, pairs(pod.Labels))
	h = mix(h, pairs(pod.Annotations))
	if pod.DeletionTimestamp != nil {
		h = mix(h, uint64(pod.DeletionTimestamp.Unix()))
	}
	if pod.DeletionGracePeriodSeconds != nil {
		h = mix(h, 1+uint64(*pod.DeletionGracePeriodSeconds))
	}
	return h
}

func pairs(m map[string]string) uint64 {
	var sum uint64
	for k, v := range m {
		sum += fold(mix(fold(fnvOffset, k), 0), v)
	}
	return sum
}

// FNV-1a, without the allocations of hash/fnv: this runs at each change of a
// pod.
const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

func fold(h uint64, text string) uint64 {
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * fnvPrime
	}
	return h
}

func mix(h, n uint64) uint64 {
	for range 8 {
		h = (h ^ n&0xff) * fnvPrime
		n >>= 8
	}
	return h
}

// digest is order-free: the sum of the versions held.
type digest uint64

// registration is what a node says to be admitted.
type registration struct {
	Node *corev1.Node `json:"node"`
	// Process is the sender's own, drawn when it started: a request that is
	// handled twice, or late, must not take the node from who sent it.
	Process string `json:"process"`
}

// registered is the answer.
type registered struct {
	Epoch int64  `json:"epoch"`
	Term  uint64 `json:"term"`
}

// heartbeat says that a node is alive.
type heartbeat struct {
	Epoch    int64             `json:"epoch"`
	Term     uint64            `json:"term"`
	Sequence uint64            `json:"sequence"`
	Digest   uint64            `json:"digest"`
	Status   corev1.NodeStatus `json:"status"`
}

// observation is a batch of what a node observed.
type observation struct {
	Epoch int64 `json:"epoch"`
	// Batch counts the calls of one epoch: what an earlier call says must not
	// replace what a later one said.
	Batch  uint64           `json:"batch"`
	Pods   []observedPod    `json:"pods,omitempty"`
	Events []core.NodeEvent `json:"events,omitempty"`
}

type observedPod struct {
	Namespace string           `json:"namespace"`
	Name      string           `json:"name"`
	UID       types.UID        `json:"uid"`
	Status    corev1.PodStatus `json:"status"`
	Gone      bool             `json:"gone,omitempty"`
}

// observed is the answer to a batch: the pods whose status could not be
// committed now and are to be sent again.
type observed struct {
	Again []types.UID `json:"again,omitempty"`
}

// frame is one part of a node's whole set, on a stream: a length and that many
// bytes of JSON, the object within it in the storage encoding. One without an
// object stands for what is gone meanwhile, of which a message will tell.
type frame struct {
	Term     uint64    `json:"term,omitempty"`
	Sequence uint64    `json:"sequence,omitempty"`
	Key      core.Key  `json:"key"`
	UID      types.UID `json:"uid,omitempty"`
	Version  uint64    `json:"version,omitempty"`
	Object   []byte    `json:"object,omitempty"`
	Last     bool      `json:"last,omitempty"` // the set is complete
}

// maxFrame bounds a frame in bytes.
const maxFrame = 4 << 20

func writeFrame(w io.Writer, f frame) error {
	data, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode frame: %w", err)
	}
	head := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(data)), uint32(len(data)))
	_, err = w.Write(append(head, data...))
	return err
}

func readFrame(r io.Reader) (frame, error) {
	var f frame
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return f, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxFrame {
		return f, fmt.Errorf("a frame of %d bytes is over the limit of %d", size, maxFrame)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return f, err
	}
	if err := json.Unmarshal(data, &f); err != nil {
		return f, fmt.Errorf("decode frame: %w", err)
	}
	return f, nil
}

// Times of the protocol.
const (
	markDelay    = 300 * time.Millisecond // after the last message, the mark
	pullDelay    = 50 * time.Millisecond  // after a gap, so that a burst is one pull
	observeDelay = 2 * time.Millisecond   // to gather statuses into one call
	retryFirst   = 100 * time.Millisecond
	retryLast    = time.Second // so that a node is back soon after its core is
	callTimeout  = 10 * time.Second
	pullTimeout  = time.Minute
	openTimeout  = 10 * time.Second // for the other side to answer at all
	sayEvery     = time.Minute      // that no core answers
	doubtEvery   = 10 * time.Second // between two registrations because of a lower term
)

// Marks follow a message that nothing else followed: so many markDelay apart, so
// that a node which missed the message, and some marks as well, pulls within two
// seconds, and then each after twice the time of the one before. A node that is
// away hears no more than marksMax of them.
const (
	marksDense = 6
	marksMax   = 9
)

// markAfter is how long after the message the next mark is due, when there were so many.
func markAfter(marks int) time.Duration {
	dense := min(marks+1, marksDense)
	return markDelay * time.Duration(dense) << (marks + 1 - dense)
}

// Limits of what a node may say.
const (
	batchMax      = 500 // pods and events of one observation, each
	beatMax       = 256 << 10
	conditionsMax = 32 // of a node
	processMax    = 64 // bytes
)
