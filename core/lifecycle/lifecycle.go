package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
)

// Events records what happens to objects. Event never blocks. core/events
// implements it.
type Events interface {
	Event(source string, about corev1.ObjectReference, kind, reason, message string)
}

// Config configures a Lifecycle. The zero value of an optional field means its
// default.
type Config struct {
	Client core.Client  // required
	Logger *slog.Logger // required
	// Events takes the events; optional: they are dropped.
	Events Events
	// Workers is how many things are ended at once; optional, 16.
	Workers int
	// NodeGrace is how long a node may be silent; optional,
	// core.NodeMonitorGrace.
	NodeGrace time.Duration
	// EventTTL is how long events are kept; optional, 1 hour.
	EventTTL time.Duration
	// MaxEvents is how many events are kept; optional, 20,000.
	MaxEvents int
	// MaxTerminatedPods is how many ended pods are kept; optional, 12,500.
	MaxTerminatedPods int
}

const (
	retryWatch = 100 * time.Millisecond
	// newKinds is how often the catalogue is asked whether it has changed.
	newKinds = time.Second
	// sweepEvery is how often what only ages is looked through.
	sweepEvery = time.Minute
	// reapAfter is how long a node must be gone before its pods are removed.
	reapAfter = 5 * time.Second
)

// Lifecycle ends what has to end.
type Lifecycle struct {
	config  Config
	client  core.Client
	log     *slog.Logger
	queue   *queue
	started time.Time

	mu sync.Mutex
	// heard is when each node was last heard of, on this process's clock.
	heard map[string]sign
}

// sign is the last sign of life of a node.
type sign struct {
	at     time.Time
	lease  int64                  // the revision of its Lease then
	status corev1.ConditionStatus // its Ready condition then
}

// New returns a Lifecycle that works once Run runs.
func New(c Config) (*Lifecycle, error) {
	if c.Client == nil || c.Logger == nil {
		return nil, errors.New("lifecycle: client and logger are required")
	}
	if c.Workers < 0 || c.NodeGrace < 0 || c.EventTTL < 0 || c.MaxEvents < 0 || c.MaxTerminatedPods < 0 {
		return nil, errors.New("lifecycle: numbers and times must not be negative")
	}
	c.Workers = cmp.Or(c.Workers, 16)
	c.NodeGrace = cmp.Or(c.NodeGrace, core.NodeMonitorGrace)
	c.EventTTL = cmp.Or(c.EventTTL, time.Hour)
	c.MaxEvents = cmp.Or(c.MaxEvents, 20000)
	c.MaxTerminatedPods = cmp.Or(c.MaxTerminatedPods, 12500)
	if c.Events == nil {
		c.Events = noEvents{}
	}
	return &Lifecycle{config: c, client: c.Client, log: c.Logger, queue: newQueue(), heard: map[string]sign{}}, nil
}

type noEvents struct{}

func (noEvents) Event(string, corev1.ObjectReference, string, string, string) {}

// Run works until ctx ends and what was begun is finished. Run it once.
func (l *Lifecycle) Run(ctx context.Context) error {
	ctx = core.WithUser(ctx, core.System("lifecycle"))
	l.started = time.Now()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return l.ensure(ctx) })
	group.Go(func() error { return l.watchKinds(ctx) })
	group.Go(func() error { return l.sweep(ctx) })
	for range l.config.Workers {
		group.Go(func() error { return l.work(ctx) })
	}
	return group.Wait()
}

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// watchKinds keeps one watch for each kind of the catalogue.
func (l *Lifecycle) watchKinds(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	watched := map[core.GroupResource]context.CancelFunc{}
	generation := int64(-1)
	for ctx.Err() == nil {
		if now := l.client.Generation(); now != generation {
			generation = now
			served := map[core.GroupResource]struct{}{}
			for kind := range l.client.Kinds() {
				resource := kind.GroupResource()
				served[resource] = struct{}{}
				if _, known := watched[resource]; known || resource == core.Events {
					continue // events own nothing and have no owners
				}
				inner, cancel := context.WithCancel(ctx)
				watched[resource] = cancel
				running.Go(func() { l.watchKind(inner, resource) })
			}
			for resource, cancel := range watched {
				if _, still := served[resource]; !still {
					cancel()
					delete(watched, resource)
				}
			}
		}
		wait(ctx, newKinds)
	}
	for _, cancel := range watched {
		cancel()
	}
	return nil
}

func (l *Lifecycle) watchKind(ctx context.Context, resource core.GroupResource) {
	for ctx.Err() == nil {
		err := l.watchOnce(ctx, resource)
		if ctx.Err() == nil && !apierrors.IsResourceExpired(err) {
			l.log.Warn("watch ended", "resource", resource.String(), "err", err)
		}
		wait(ctx, retryWatch)
	}
}

func (l *Lifecycle) watchOnce(ctx context.Context, resource core.GroupResource) error {
	snapshot := l.client.Snapshot()
	watch, err := l.client.Watch(resource, "", snapshot.Revision())
	if err != nil {
		return fmt.Errorf("watch %s: %w", resource, err)
	}
	defer watch.Close()
	for key, object := range snapshot.List(resource, "") {
		l.notice(&core.Change{Key: key, Object: object})
	}
	for {
		changes, err := watch.Next(ctx)
		for i := range changes {
			l.notice(&changes[i])
		}
		if err != nil {
			return fmt.Errorf("watch %s: %w", resource, err)
		}
	}
}

// notice turns a change into tasks. It must be quick.
func (l *Lifecycle) notice(c *core.Change) {
	l.noticeOwnership(c)
	if c.Deleted && c.Key.Namespace != "" {
		l.noticeNamespaced(c.Key.Namespace)
	}
	switch c.Key.GroupResource() {
	case core.Namespaces:
		if !c.Deleted && c.Object.GetDeletionTimestamp() != nil {
			l.queue.add(task{empty, c.Key}, 0)
		}
	case core.Nodes:
		l.noticeNode(c)
	case core.Leases:
		l.noticeLease(c)
	case core.Pods:
		l.noticePod(c)
	case core.Jobs:
		l.noticeJob(c)
	}
}

func (l *Lifecycle) work(ctx context.Context) error {
	for {
		it := l.queue.next(ctx)
		if it == nil {
			return nil
		}
		after, err := l.perform(ctx, it.task)
		if apierrors.IsNotFound(err) {
			err = nil // it has ended
		}
		if err != nil && ctx.Err() == nil && !apierrors.IsConflict(err) {
			l.log.Warn("to be tried again", "object", it.key.String(), "err", err)
		}
		l.queue.done(it, after, err)
	}
}

func (l *Lifecycle) perform(ctx context.Context, t task) (time.Duration, error) {
	switch t.part {
	case collect:
		return 0, l.collect(ctx, t.key)
	case empty:
		return l.emptyNamespace(ctx, t.key)
	case watchOver:
		return l.watchNode(ctx, t.key)
	case evict:
		return l.evictPod(ctx, t.key)
	case reap:
		return 0, l.reapPod(ctx, t.key)
	case expire:
		return l.expireJob(ctx, t.key)
	default:
		panic(fmt.Sprintf("lifecycle: no part %d", t.part))
	}
}

// remove deletes an object that must still be the one seen.
func (l *Lifecycle) remove(ctx context.Context, key core.Key, object core.Object, policy metav1.DeletionPropagation) error {
	_, _, err := l.client.Delete(ctx, key, core.DeleteOptions{
		Preconditions: metav1.NewUIDPreconditions(string(object.GetUID())), Propagation: &policy,
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}
