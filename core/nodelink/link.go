package nodelink

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	randv2 "math/rand/v2"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/core"
)

// ErrSuperseded says that another process has registered as this node; this
// one must stop.
var ErrSuperseded = errors.New("nodelink: superseded by another process with this node's name")

// ErrRemoved says that the node was deleted from the cluster; this process must stop,
// and may then register anew.
var ErrRemoved = errors.New("nodelink: this node was removed from the cluster")

// errUnknown says that the core does not know of this registration: its state
// is that of a backup, say.
var errUnknown = errors.New("nodelink: the core does not know of this registration")

// Link is the node's end of the protocol: a core.NodeLink. Run must run for
// reports to be sent.
type Link struct {
	who     bus.Identity
	process string // this one, among all that were ever this node
	dial    func(context.Context) (bus.Bus, error)
	log     *slog.Logger

	connected  chan struct{} // closed once bus is there
	bus        bus.Bus       // to be read once connected is closed
	registered chan struct{} // closed at the first registration
	asking     chan struct{} // holds one element while a registration is under way

	// mu guards what follows.
	mu       sync.Mutex
	node     *corev1.Node // as it was registered
	epoch    int64
	admitted uint64               // the term of the core that registered the node last
	reports  map[types.UID]report // not yet acknowledged, the newest of each
	counter  uint64               // of reports
	batches  uint64               // of this epoch
	most     int                  // pods and events of a batch, each
	events   []core.NodeEvent
	pause    time.Duration // before what a core could not commit is sent again
	term     uint64
	reached  uint64
	digest   digest

	wake chan struct{} // one is enough: there is something to send
}

var _ core.NodeLink = (*Link)(nil)

// report is one observation with its number.
type report struct {
	core.Observed
	number uint64
}

// eventsMax bounds the events that wait to be sent; more are dropped.
const eventsMax = 2000

// NewLink returns the link of the node that b is the connection of.
func NewLink(b bus.Bus, log *slog.Logger) (*Link, error) {
	l, err := DialLink(b.Identity(), nil, log)
	if err == nil {
		l.bus = b
		close(l.connected)
	}
	return l, err
}

// DialLink returns the link of a node whose connection Run makes with dial,
// which tries until its context ends. Until there is a connection everything
// waits, as it does while no core answers. Close closes it.
func DialLink(who bus.Identity, dial func(context.Context) (bus.Bus, error), log *slog.Logger) (*Link, error) {
	if who.Role != bus.RoleNode {
		return nil, fmt.Errorf("nodelink: the connection is that of %s, not of a node", who)
	}
	return &Link{
		who: who, process: rand.Text(), dial: dial, log: log, connected: make(chan struct{}), registered: make(chan struct{}), asking: make(chan struct{}, 1),
		reports: map[types.UID]report{}, most: batchMax, wake: make(chan struct{}, 1),
	}, nil
}

// Close closes the connection that Run made; everything else has ended before.
func (l *Link) Close() error {
	select {
	case <-l.connected:
		if l.dial != nil {
			return l.bus.Close()
		}
	default:
	}
	return nil
}

// connection waits for the connection.
func (l *Link) connection(ctx context.Context) (bus.Bus, error) {
	select {
	case <-l.connected:
		return l.bus, nil
	default:
	}
	select {
	case <-l.connected:
		return l.bus, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("the cluster was not reached yet: %w", bus.ErrUnavailable)
	}
}

func (l *Link) call(ctx context.Context, method string, question, answer any) error {
	data, err := json.Marshal(question)
	if err != nil {
		return fmt.Errorf("%s: encode: %w", method, err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	b, err := l.connection(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	m, err := b.Call(ctx, bus.Message{Subject: bus.APISubject(l.who, method), Data: data})
	if refused, ok := errors.AsType[*bus.CallError](err); ok {
		switch refused.Reason {
		case errSuperseded:
			return ErrSuperseded
		case errRemoved:
			return ErrRemoved
		case errUnregistered:
			return errUnknown
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	if err := json.Unmarshal(m.Data, answer); err != nil {
		return fmt.Errorf("%s: decode answer: %w", method, err)
	}
	return nil
}

// Register implements core.NodeLink.
func (l *Link) Register(ctx context.Context, node *corev1.Node) (int64, error) {
	select {
	case l.asking <- struct{}{}:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	defer func() { <-l.asking }()
	return l.register(ctx, node)
}

// register is Register for who holds asking.
func (l *Link) register(ctx context.Context, node *corev1.Node) (int64, error) {
	var answer registered
	err := l.persist(ctx, func() error {
		err := l.call(ctx, methodRegister, registration{Node: node, Process: l.process}, &answer)
		if forGood(err) {
			return &finalError{err}
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("register node %s: %w", node.Name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.node == nil {
		close(l.registered)
	}
	if l.epoch != answer.Epoch {
		l.batches = 0 // they count within an epoch
	}
	l.node, l.epoch, l.admitted = node, answer.Epoch, answer.Term
	return answer.Epoch, nil
}

// registerAgain has the core that leads say who it is, which it can only if it
// does lead. It returns the core's term.
func (l *Link) registerAgain(ctx context.Context) (term uint64, err error) {
	l.mu.Lock()
	node := l.node
	l.mu.Unlock()
	epoch, err := l.Register(ctx, node)
	if err != nil {
		return 0, err
	}
	l.log.Info("node registered again", "node", node.Name, "epoch", epoch)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.admitted, nil
}

// forGood tells whether the same request would be refused again.
func forGood(err error) bool {
	var call *bus.CallError
	return errors.Is(err, bus.ErrRefused) || (errors.As(err, &call) && strings.HasPrefix(call.Reason, refusedPrefix))
}

// finalError is one that another try will not change.
type finalError struct{ error }

func (e *finalError) Unwrap() error { return e.error }

// persist calls try until it succeeds, fails for good, or ctx ends.
func (l *Link) persist(ctx context.Context, try func() error) error {
	var said time.Time
	for delay := retryFirst; ; delay = min(2*delay, retryLast) {
		err := try()
		var final *finalError
		if err == nil || ended(err) || errors.Is(err, errUnknown) || errors.As(err, &final) {
			return err
		}
		if delay < retryLast || time.Since(said) < sayEvery {
			l.log.Debug("core does not answer, trying again", "err", err)
		} else {
			said = time.Now()
			l.log.Warn("no core answers; pods run on as they are, and it is tried again", "err", err)
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(delay + randv2.N(delay/2)):
		}
	}
}

// ended tells whether this process is not the node any more.
func ended(err error) bool { return errors.Is(err, ErrSuperseded) || errors.Is(err, ErrRemoved) }

// Run sends what the node reports until ctx ends. It returns ErrSuperseded
// when another process has taken this node's name, and ErrRemoved when the
// node was deleted.
func (l *Link) Run(ctx context.Context) error {
	if err := l.connect(ctx); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case <-l.registered:
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.wake:
		}
		// A moment later there may be more for the same call.
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(observeDelay):
		}
		if err := l.deliver(ctx); ended(err) {
			return err
		}
	}
}

// connect makes the connection, if there is none.
func (l *Link) connect(ctx context.Context) error {
	if l.dial == nil {
		return nil
	}
	b, err := l.dial(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil // the end was wanted
		}
		return err
	}
	l.bus = b
	close(l.connected)
	return nil
}

// deliver sends one batch, however long that takes.
func (l *Link) deliver(ctx context.Context) error {
	err := l.persist(ctx, func() error { return l.send(ctx) })
	if errors.Is(err, errUnknown) {
		if _, err = l.registerAgain(ctx); err == nil {
			l.signal()
		}
	}
	return err
}

// send sends one batch of what is not acknowledged.
func (l *Link) send(ctx context.Context) error {
	batch, sent := l.batch()
	if len(batch.Pods) == 0 && len(batch.Events) == 0 {
		return nil
	}
	var answer observed
	err := l.call(ctx, methodObserve, batch, &answer)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.refused(err, batch)
		return err
	}
	l.most = batchMax
	l.events = l.events[min(len(batch.Events), len(l.events)):]
	again := map[types.UID]bool{}
	for _, uid := range answer.Again {
		again[uid] = true
	}
	for uid, number := range sent {
		if !again[uid] && l.reports[uid].number == number {
			delete(l.reports, uid)
		}
	}
	if len(again) > 0 {
		l.pause = min(max(retryFirst, 2*l.pause), retryLast)
		time.AfterFunc(l.pause, l.signal)
	} else {
		l.pause = 0
	}
	if len(l.reports) > len(again) || len(l.events) > 0 {
		l.signal()
	}
	return nil
}

// refused makes the next batch smaller if this one was not to be had: it may
// be too large, or one of its parts cannot be read. What is refused alone is
// given up. The caller holds the lock.
func (l *Link) refused(err error, batch observation) {
	if !forGood(err) {
		return
	}
	if l.most = max(len(batch.Pods), len(batch.Events)) / 2; l.most > 0 {
		return
	}
	l.most = 1
	l.log.Error("the core refuses what this node reports, it is dropped", "err", err)
	for i := range batch.Pods {
		delete(l.reports, batch.Pods[i].UID)
	}
	l.events = l.events[min(len(batch.Events), len(l.events)):]
}

func (l *Link) batch() (batch observation, sent map[types.UID]uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.batches++
	batch = observation{Epoch: l.epoch, Batch: l.batches, Events: l.events[:min(len(l.events), l.most)]}
	sent = map[types.UID]uint64{}
	for uid, o := range l.reports {
		if len(batch.Pods) == l.most {
			break
		}
		batch.Pods = append(batch.Pods, observedPod{Namespace: o.Key.Namespace, Name: o.Key.Name, UID: uid, Status: o.Status, Gone: o.Gone})
		sent[uid] = o.number
	}
	return batch, sent
}

// Report implements core.NodeLink.
func (l *Link) Report(o core.Observed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counter++
	l.reports[o.UID] = report{Observed: o, number: l.counter}
	l.signal()
}

// Event implements core.NodeLink.
func (l *Link) Event(e core.NodeEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.events) < eventsMax {
		l.events = append(l.events, e)
	}
	l.signal()
}

func (l *Link) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Heartbeat implements core.NodeLink.
func (l *Link) Heartbeat(ctx context.Context, status corev1.NodeStatus) error {
	l.mu.Lock()
	beat := heartbeat{Epoch: l.epoch, Term: l.term, Sequence: l.reached, Digest: uint64(l.digest), Status: status}
	l.mu.Unlock()
	data, err := json.Marshal(beat)
	if err != nil {
		return fmt.Errorf("encode heartbeat: %w", err)
	}
	b, err := l.connection(ctx)
	if err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	return b.Publish(ctx, bus.Message{Subject: bus.HeartbeatSubject(l.who.Name), Data: data})
}

// Blob implements core.NodeLink.
func (l *Link) Blob(ctx context.Context, digest string) (io.ReadCloser, error) {
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	b, err := l.connection(opening)
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", digest, err)
	}
	stream, err := b.Open(opening, bus.Message{Subject: bus.APISubject(l.who, methodBlob), Data: []byte(digest)})
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", digest, err)
	}
	return blobReader{stream}, nil
}

// blobReader tells what a core answers in its own words: they reach a user.
type blobReader struct{ bus.Stream }

func (r blobReader) Read(data []byte) (int, error) {
	n, err := r.Stream.Read(data)
	if refused, ok := errors.AsType[*bus.CallError](err); ok {
		err = errors.New(refused.Reason)
	}
	return n, err
}

// Serve implements core.NodeLink.
func (l *Link) Serve(ctx context.Context, s core.NodeServer) error {
	b, err := l.connection(ctx)
	if err != nil {
		return nil //nolint:nilerr // ctx ended before anyone could ask
	}
	serve := func(ctx context.Context, m bus.Message, stream bus.Stream) error {
		var q core.LogQuery
		if err := json.Unmarshal(m.Data, &q); err != nil {
			return fmt.Errorf("log query: %w", err)
		}
		if err := s.Logs(ctx, q, stream); err != nil {
			return err
		}
		return stream.CloseWrite()
	}
	subscription, err := l.subscribe(ctx, func() (bus.Subscription, error) {
		return b.Accept(ctx, bus.NodeSubject(l.who.Name, methodLogs), serve)
	})
	if subscription == nil {
		return err
	}
	<-ctx.Done()
	return subscription.Close()
}

// subscribe makes a subscription, when the carrier can be reached; it returns
// none if ctx ends first.
func (l *Link) subscribe(ctx context.Context, make func() (bus.Subscription, error)) (subscription bus.Subscription, err error) {
	err = l.persist(ctx, func() error {
		var err error
		if subscription, err = make(); err != nil && !errors.Is(err, bus.ErrUnavailable) {
			return &finalError{err}
		}
		return err
	})
	switch {
	case err == nil:
		return subscription, nil
	case ctx.Err() != nil:
		return nil, nil
	}
	return nil, fmt.Errorf("listen to the core: %w", err)
}

// Follow implements core.NodeLink.
func (l *Link) Follow(ctx context.Context, since uint64, sink core.DesiredSink) error {
	b, err := l.connection(ctx)
	if err != nil {
		return nil //nolint:nilerr // ctx ended before there was anything
	}
	f := newFollower(l, since, sink)
	s, err := l.subscribe(ctx, func() (bus.Subscription, error) {
		return b.Subscribe(ctx, bus.DesiredPattern(l.who.Name), f.receive)
	})
	if s == nil {
		return err
	}
	defer func() { _ = s.Close() }() // the connection's end closes it, too
	return f.run(ctx)
}

// held tells what heartbeats say of the set.
func (l *Link) held(term, reached uint64, d digest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.term, l.reached, l.digest = term, reached, d
}

// dismissed returns the reason to stop if this process's epoch is not the
// node's current one, or errUnknown if the core knows only of earlier ones.
func (l *Link) dismissed(epoch int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case epoch == 0:
		return ErrRemoved
	case epoch > l.epoch:
		return ErrSuperseded
	case epoch < l.epoch:
		return errUnknown
	}
	return nil
}
