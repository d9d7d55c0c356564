package scheduler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
)

// Events records what happens to objects. Event never blocks. core/events
// implements it.
type Events interface {
	Event(source string, about corev1.ObjectReference, kind, reason, message string)
}

// Config configures a Scheduler. The zero value of an optional field means
// its default.
type Config struct {
	Client core.Client  // required
	Logger *slog.Logger // required
	// Events takes the events; optional: they are dropped.
	Events Events
	// Attempted hears how long it took to place a pod and to write its binding,
	// or the error of that; optional. It is called concurrently and must be
	// fast.
	Attempted func(took time.Duration, err error)
	// Name is the spec.schedulerName of the pods that it places; optional,
	// "default-scheduler".
	Name string
	// Binds is how many bindings and conditions are written at once;
	// optional, 64.
	Binds int
	// Retry is after how long waiting pods are tried again although nothing
	// has changed; optional, 1 minute.
	Retry time.Duration
}

// The pace of retries.
const (
	retryWatch = 100 * time.Millisecond
	// minPause and maxPause bound how soon pods that did not fit are tried
	// again after room became free: the more often one was tried in vain, the
	// longer.
	minPause = 50 * time.Millisecond
	maxPause = 10 * time.Second
	// bindPause is how long a pod waits whose binding was refused.
	bindPause = time.Second
)

// Scheduler places pods.
type Scheduler struct {
	config Config
	inbox  chan update // unbuffered: a watch waits until its changes are taken
	slots  chan struct{}

	// The rest belongs to Run's own goroutine.
	state   *State
	fresh   map[types.UID]*corev1.Pod // to be placed now
	waiting map[types.UID]*waiter     // did not fit
	flying  map[types.UID]struct{}    // being bound
	freed   bool                      // room may have become free
	synced  map[core.GroupResource]struct{}
}

// waiter is a pod that did not fit.
type waiter struct {
	pod      *corev1.Pod
	message  string
	attempts int
	notBefore,
	noLater time.Time
}

// update is what reaches Run's goroutine.
type update struct {
	resource core.GroupResource
	changes  []core.Change
	reset    core.Snapshot // all of the resource anew
	done     *binding      // a binding has ended
}

type binding struct {
	pod *corev1.Pod
	err error
}

// New returns a Scheduler that works once Run runs.
func New(c Config) (*Scheduler, error) {
	if c.Client == nil || c.Logger == nil {
		return nil, errors.New("scheduler: client and logger are required")
	}
	if c.Binds < 0 || c.Retry < 0 {
		return nil, errors.New("scheduler: binds and retry must not be negative")
	}
	c.Name = cmp.Or(c.Name, corev1.DefaultSchedulerName)
	c.Binds, c.Retry = cmp.Or(c.Binds, 64), cmp.Or(c.Retry, time.Minute)
	if c.Events == nil {
		c.Events = noEvents{}
	}
	if c.Attempted == nil {
		c.Attempted = func(time.Duration, error) {}
	}
	return &Scheduler{
		config: c, inbox: make(chan update), slots: make(chan struct{}, c.Binds), // one token for each write under way
		state: NewState(nil), fresh: map[types.UID]*corev1.Pod{}, waiting: map[types.UID]*waiter{}, flying: map[types.UID]struct{}{}, synced: map[core.GroupResource]struct{}{},
	}, nil
}

type noEvents struct{}

func (noEvents) Event(string, corev1.ObjectReference, string, string, string) {}

// Run places pods until ctx ends and bindings under way are finished. Run it
// once.
func (s *Scheduler) Run(ctx context.Context) error {
	ctx = core.WithUser(ctx, core.System("scheduler"))
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.follow(ctx, core.Nodes) })
	group.Go(func() error { return s.follow(ctx, core.Pods) })
	group.Go(func() error { return s.loop(ctx, group) })
	return group.Wait()
}

// follow hands the changes of a resource over to the loop.
func (s *Scheduler) follow(ctx context.Context, resource core.GroupResource) error {
	for ctx.Err() == nil {
		err := s.followOnce(ctx, resource)
		if ctx.Err() == nil && !apierrors.IsResourceExpired(err) {
			s.config.Logger.Warn("watch ended", "resource", resource.String(), "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryWatch):
		}
	}
	return nil
}

func (s *Scheduler) followOnce(ctx context.Context, resource core.GroupResource) error {
	snapshot := s.config.Client.Snapshot()
	watch, err := s.config.Client.Watch(resource, "", snapshot.Revision())
	if err != nil {
		return fmt.Errorf("watch %s: %w", resource, err)
	}
	defer watch.Close()
	if !s.send(ctx, update{resource: resource, reset: snapshot}) {
		return nil
	}
	for {
		changes, err := watch.Next(ctx)
		if len(changes) > 0 && !s.send(ctx, update{changes: changes}) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch %s: %w", resource, err)
		}
	}
}

func (s *Scheduler) send(ctx context.Context, u update) bool {
	select {
	case s.inbox <- u:
		return true
	case <-ctx.Done():
		return false
	}
}

// loop owns the state.
func (s *Scheduler) loop(ctx context.Context, group *errgroup.Group) error {
	timer := time.NewTimer(s.config.Retry)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case u := <-s.inbox:
			s.take(u)
			s.drain()
		case <-timer.C:
		}
		now := time.Now() //nolint:forbidigo // the loop has a clock, Place has none
		s.wakeWaiting(now)
		s.placeFresh(ctx, group, now)
		timer.Reset(s.nextWake(now))
	}
}

// drain takes all that is there already, so that one placement serves it.
func (s *Scheduler) drain() {
	for {
		select {
		case u := <-s.inbox:
			s.take(u)
		default:
			return
		}
	}
}

func (s *Scheduler) take(u update) {
	switch {
	case u.reset != nil:
		s.reset(u.resource, u.reset)
	case u.done != nil:
		s.bound(u.done)
	default:
		for i := range u.changes {
			s.change(&u.changes[i])
		}
	}
}

// reset begins anew with all objects of one resource; what is being bound
// stays assumed.
func (s *Scheduler) reset(resource core.GroupResource, snapshot core.Snapshot) {
	s.freed = true
	s.synced[resource] = struct{}{}
	if resource == core.Nodes {
		s.resetNodes(snapshot)
		return
	}
	there := map[types.UID]struct{}{}
	for _, o := range snapshot.List(core.Pods, "") {
		if pod, ok := o.(*corev1.Pod); ok {
			there[pod.UID] = struct{}{}
			s.change(&core.Change{Object: pod})
		}
	}
	for _, pod := range s.known() {
		if _, ok := there[pod.UID]; !ok {
			s.forget(pod)
		}
	}
}

func (s *Scheduler) resetNodes(snapshot core.Snapshot) {
	there := map[string]struct{}{}
	for _, o := range snapshot.List(core.Nodes, "") {
		if n, ok := o.(*corev1.Node); ok {
			there[n.Name] = struct{}{}
			s.state.SetNode(n)
		}
	}
	for _, name := range s.state.names() {
		if _, ok := there[name]; !ok {
			s.state.RemoveNode(name)
		}
	}
}

// known returns all pods that are remembered and not being bound.
func (s *Scheduler) known() (pods []*corev1.Pod) {
	for uid, b := range s.state.pods {
		if _, flying := s.flying[uid]; !flying {
			pods = append(pods, b.pod)
		}
	}
	for _, on := range s.state.loose {
		for uid, pod := range on {
			if _, flying := s.flying[uid]; !flying {
				pods = append(pods, pod)
			}
		}
	}
	for _, pod := range s.fresh {
		pods = append(pods, pod)
	}
	for _, w := range s.waiting {
		pods = append(pods, w.pod)
	}
	return pods
}

func (s *Scheduler) change(c *core.Change) {
	switch o := c.Object.(type) {
	case *corev1.Node:
		if c.Deleted {
			s.state.RemoveNode(o.Name)
		} else if s.state.SetNode(o) {
			s.freed = true
		}
	case *corev1.Pod:
		if c.Deleted {
			s.forget(o)
			return
		}
		if _, flying := s.flying[o.UID]; flying && o.Spec.NodeName == "" {
			return // it is assumed to be bound
		}
		s.freed = s.state.SetPod(o) || s.freed
		s.consider(o)
	}
}

func (s *Scheduler) forget(pod *corev1.Pod) {
	delete(s.fresh, pod.UID)
	delete(s.waiting, pod.UID)
	s.freed = s.state.RemovePod(pod) || s.freed
}

// consider decides whether a pod is to be placed.
func (s *Scheduler) consider(pod *corev1.Pod) {
	if pod.Spec.NodeName != "" || pod.DeletionTimestamp != nil || ended(pod) || cmp.Or(pod.Spec.SchedulerName, corev1.DefaultSchedulerName) != s.config.Name {
		delete(s.fresh, pod.UID)
		delete(s.waiting, pod.UID)
		return
	}
	if _, flying := s.flying[pod.UID]; flying {
		return
	}
	if w, ok := s.waiting[pod.UID]; ok && !matters(w.pod, pod) {
		w.pod = pod
		return
	}
	delete(s.waiting, pod.UID)
	s.fresh[pod.UID] = pod
}

// matters tells whether a pod that waits has changed so that it may fit now.
func matters(a, b *corev1.Pod) bool {
	return a.Generation != b.Generation || len(a.Spec.SchedulingGates) != len(b.Spec.SchedulingGates)
}

// wakeWaiting tries again what did not fit, when room may have become free or
// it has waited long enough.
func (s *Scheduler) wakeWaiting(now time.Time) {
	for uid, w := range s.waiting {
		if (s.freed && !now.Before(w.notBefore)) || !now.Before(w.noLater) {
			s.fresh[uid] = w.pod
			continue
		}
		if s.freed {
			w.noLater = w.notBefore // room is there; only its own pause is not over
		}
	}
	s.freed = false
}

func (s *Scheduler) nextWake(now time.Time) time.Duration {
	next := now.Add(s.config.Retry)
	for _, w := range s.waiting {
		if w.noLater.Before(next) {
			next = w.noLater
		}
	}
	return max(next.Sub(now), time.Millisecond)
}

func (s *Scheduler) placeFresh(ctx context.Context, group *errgroup.Group, now time.Time) {
	if len(s.fresh) == 0 || len(s.synced) < 2 {
		return // before nodes and pods are both known, reasons would be wrong
	}
	pods := make([]*corev1.Pod, 0, len(s.fresh))
	for uid, pod := range s.fresh {
		if len(pod.Spec.SchedulingGates) > 0 {
			s.wait(ctx, group, Placement{Pod: pod, Message: gatedMessage}, corev1.PodReasonSchedulingGated, now)
			s.waiting[uid].noLater = now.Add(gatedRetry)
			continue
		}
		pods = append(pods, pod)
	}
	clear(s.fresh)
	for _, placement := range Place(pods, s.state) {
		if placement.Node == "" {
			s.wait(ctx, group, placement, corev1.PodReasonUnschedulable, now)
			continue
		}
		s.state.assume(placement.Pod, placement.Node)
		delete(s.waiting, placement.Pod.UID)
		s.flying[placement.Pod.UID] = struct{}{}
		group.Go(func() error { return s.bind(ctx, placement, now) })
	}
}

const (
	gatedMessage = "Scheduling is blocked due to non-empty scheduling gates"
	gatedRetry   = time.Hour // a gate's removal is a change, which wakes the pod
)

// wait notes that a pod must wait, and says so.
func (s *Scheduler) wait(ctx context.Context, group *errgroup.Group, p Placement, reason string, now time.Time) {
	w := s.waiting[p.Pod.UID]
	if w == nil {
		w = &waiter{}
		s.waiting[p.Pod.UID] = w
	}
	w.pod = p.Pod
	w.attempts++
	w.notBefore = now.Add(min(minPause<<min(w.attempts-1, 20), maxPause))
	w.noLater = now.Add(s.config.Retry)
	told := w.message == p.Message
	w.message = p.Message
	if reason == corev1.PodReasonUnschedulable && !told {
		s.config.Events.Event(s.config.Name, reference(p.Pod), corev1.EventTypeWarning, "FailedScheduling", p.Message)
	}
	if told || hasCondition(p.Pod, reason, p.Message) {
		return
	}
	group.Go(func() error { return s.tell(ctx, p.Pod, reason, p.Message) })
}

// bound ends a binding.
func (s *Scheduler) bound(b *binding) {
	delete(s.flying, b.pod.UID)
	if b.err == nil {
		return
	}
	kept, ok := s.config.Client.Snapshot().Get(core.KeyFor(core.Pods, b.pod))
	pod, isPod := kept.(*corev1.Pod)
	if !ok || !isPod || pod.UID != b.pod.UID {
		s.forget(b.pod)
		return
	}
	s.state.SetPod(pod) // where it is, if anywhere
	s.consider(pod)
	if _, again := s.fresh[pod.UID]; again {
		delete(s.fresh, pod.UID)
		at := time.Now().Add(bindPause) //nolint:forbidigo // the loop has a clock, Place has none
		s.waiting[pod.UID] = &waiter{pod: pod, notBefore: at, noLater: at}
	}
}
