package node

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/wasm"
)

// keeper keeps one pod as it is desired.
type keeper struct {
	agent *Agent
	key   core.Key
	uid   types.UID
	log   *slog.Logger
	wake  chan struct{} // one is enough: something below has changed

	// mu guards what follows.
	mu      sync.Mutex
	pod     *corev1.Pod
	dropped bool
	again   bool // it was desired anew after it had been dropped
	// seenByCore is the status that a whole set came with, until it has been
	// compared.
	seenByCore *corev1.PodStatus
	changed    bool // a ConfigMap or Secret has
	starved    bool // a container waits for a ConfigMap or Secret
	resend     bool // the core may not have what was reported last
	results    []result
	views      []view // of the containers, for who asks for logs

	// The rest belongs to run.
	current    *corev1.Pod // what containers' specs point into
	containers []*container
	instances  map[int]wasm.Instance
	over       []wasm.Instance            // ended, and to be released once that is on the disk
	cancels    map[int]context.CancelFunc // of starts that are under way
	sandbox    wasm.Sandbox
	touched    bool // there may be a sandbox
	ended      bool // the pod had ended before this agent's time
	born       time.Time
	told       bool // something was reported
	started    bool // that it runs, or has run, was reported
	reported   corev1.PodStatus
	stopAt     time.Time // when stopping: the end of the grace period
	failure    string    // why the node itself ends the pod
	tasks      sync.WaitGroup
}

// result is what became of a container's start, or how its instance ended.
type result struct {
	index    int
	sandbox  wasm.Sandbox  // it was opened, with any of what follows
	instance wasm.Instance // it runs; or
	exit     *wasm.Exit    // it ended; or
	imageID  string        // it was found, with either
	reason   string        // it could not be started yet
	message  string
	soon     bool // the runtime was gone: try again soon
	news     bool // it is still being started, and message is why that takes long
}

func newKeeper(a *Agent, key core.Key, pod *corev1.Pod, found bool) *keeper {
	k := &keeper{
		agent: a, key: key, uid: pod.UID, pod: pod, current: pod, wake: make(chan struct{}, 1),
		instances: map[int]wasm.Instance{}, cancels: map[int]context.CancelFunc{},
		log:  a.config.Logger.With("object", key.Namespace+"/"+key.Name),
		born: time.Now(), reported: pod.Status, touched: found, started: found || leftPending(&pod.Status),
	}
	for i := range pod.Spec.InitContainers {
		c := &container{spec: &pod.Spec.InitContainers[i], role: initial}
		if p := c.spec.RestartPolicy; p != nil && *p == corev1.ContainerRestartPolicyAlways {
			c.role = sidecar
		}
		k.containers = append(k.containers, c)
	}
	for i := range pod.Spec.Containers {
		k.containers = append(k.containers, &container{spec: &pod.Spec.Containers[i]})
	}
	k.recall(pod)
	k.views = make([]view, len(k.containers))
	k.show()
	return k
}

// update hands over a newer state of the pod.
func (k *keeper) update(pod *corev1.Pod) {
	k.mu.Lock()
	k.pod, k.again = pod, k.dropped
	k.mu.Unlock()
	k.nudge()
}

// verify compares what the core has of a pod with what was reported, or, of a
// pod resumed, has it reported anew: whether that arrived is not known.
func (k *keeper) verify(pod *corev1.Pod, resumed bool) {
	k.mu.Lock()
	k.seenByCore, k.resend = &pod.Status, k.resend || resumed
	k.mu.Unlock()
	k.nudge()
}

// drop says that the pod is not desired any more.
func (k *keeper) drop() {
	k.mu.Lock()
	k.dropped, k.again = true, false
	k.mu.Unlock()
	k.nudge()
}

// revived returns the pod if it is desired although it had been dropped.
func (k *keeper) revived() *corev1.Pod {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.again {
		return nil
	}
	return k.pod
}

// referentsChanged has containers try again that lacked a ConfigMap or Secret.
func (k *keeper) referentsChanged() {
	k.mu.Lock()
	starved := k.starved
	k.changed = true
	k.mu.Unlock()
	if starved {
		k.nudge()
	}
}

func (k *keeper) nudge() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *keeper) push(r result) {
	k.mu.Lock()
	k.results = append(k.results, r)
	k.mu.Unlock()
	k.nudge()
}

// take returns the newest desired state and what has happened since.
func (k *keeper) take() (pod *corev1.Pod, dropped, changed bool, results []result) {
	k.mu.Lock()
	defer k.mu.Unlock()
	results, k.results = k.results, nil
	changed, k.changed = k.changed, false
	return k.pod, k.dropped, changed, results
}

// run keeps the pod until it is gone, or ctx ends.
func (k *keeper) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer k.tasks.Wait()
	defer cancel()
	k.agent.config.Timings.Worker(time.Since(k.born))
	if k.touched {
		k.reattach(ctx)
	}
	for ctx.Err() == nil {
		pod, dropped, changed, results := k.take()
		k.point(pod)
		for _, r := range results {
			k.settle(ctx, pod, r)
		}
		if changed {
			k.feed()
		}
		if ctx.Err() != nil {
			return // what failed now failed because the agent stops
		}
		gone, wait := k.act(ctx, pod, dropped)
		if gone {
			return
		}
		k.sleep(ctx, wait)
	}
}

// point has the containers' specs be those of the newest state.
func (k *keeper) point(pod *corev1.Pod) {
	if pod == k.current {
		return
	}
	k.current = pod
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			for _, c := range k.containers {
				if c.spec.Name == list[i].Name {
					c.spec = &list[i]
				}
			}
		}
	}
}

// feed has those containers try at once that lacked a ConfigMap, Secret or
// RuntimeClass.
func (k *keeper) feed() {
	for _, c := range k.containers {
		if c.phase == waiting && (c.reason == configError || c.reason == sandboxError) {
			c.due = time.Time{}
		}
		c.fed = true
	}
}

func (k *keeper) sleep(ctx context.Context, wait time.Duration) {
	var timeout <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-ctx.Done():
	case <-k.wake:
	case <-timeout:
	}
}

// act does what is to be done now. It returns true when the pod is over and
// done with.
func (k *keeper) act(ctx context.Context, pod *corev1.Pod, dropped bool) (gone bool, wait time.Duration) {
	now := time.Now()
	wait = shorter(k.deadline(pod, now), k.age(pod, now))
	stopping := k.stopRequested(pod, dropped, now)
	s := next(pod.Spec.RestartPolicy, k.containers, stopping, now)
	if len(s.retry) > 0 {
		for _, i := range s.retry {
			k.schedule(pod, k.containers[i], now)
		}
		s = next(pod.Spec.RestartPolicy, k.containers, stopping, now)
	}
	if !stopping {
		s.stop = append(s.stop, k.outdated()...)
	}
	for _, i := range s.stop {
		k.stop(ctx, pod, i, now)
	}
	for _, i := range s.start {
		k.start(ctx, pod, i)
	}
	k.show()
	over := s.done && (dropped || pod.DeletionTimestamp != nil)
	wait = shorter(wait, s.wait)
	see := seen{stopping: stopping, done: s.done, failure: k.failure, hostIP: k.agent.hostIP(), now: now}
	news, hold := k.news(pod, over, see)
	k.letGo(ctx, pod, s.done)
	if over {
		if again, ok := k.durable(); !ok {
			return false, again
		}
		k.removeLogs(pod)
	}
	if news != nil {
		k.agent.config.Link.Report(*news)
	}
	return over, shorter(wait, hold)
}

// letGo forgets instances that have ended, and the sandbox when all is done,
// now that the ledger has how they ended.
func (k *keeper) letGo(ctx context.Context, pod *corev1.Pod, done bool) {
	for _, instance := range k.over {
		k.release(ctx, instance)
	}
	k.over = nil
	if done {
		k.closeSandbox(ctx, pod)
	}
}

// shorter returns the shorter of two waits, where 0 means for ever.
func shorter(a, b time.Duration) time.Duration {
	if a <= 0 || (b > 0 && b < a) {
		return b
	}
	return a
}

// stopRequested tells whether the pod's containers are to stop, and notes how
// long they may take.
func (k *keeper) stopRequested(pod *corev1.Pod, dropped bool, now time.Time) bool {
	var end time.Time
	switch {
	case dropped:
		end = now
	case pod.DeletionTimestamp != nil:
		grace := int64(0)
		if pod.DeletionGracePeriodSeconds != nil {
			grace = *pod.DeletionGracePeriodSeconds
		}
		// From now on, not from the timestamp: clocks of machines differ.
		end = now.Add(seconds(grace))
	case k.failure != "":
		end = now.Add(graceOf(pod))
	default:
		return k.ended
	}
	if k.stopAt.IsZero() || end.Before(k.stopAt) {
		if !k.stopAt.IsZero() { // a shorter grace: ask again
			for _, c := range k.containers {
				c.stopping = false
			}
		}
		k.stopAt = end
	}
	return true
}

// seconds converts what a manifest says, which may be more than a Duration
// holds: a century is as good as for ever.
func seconds(n int64) time.Duration {
	const century = 100 * 365 * 24 * time.Hour
	return time.Duration(min(n, int64(century/time.Second))) * time.Second
}

func graceOf(pod *corev1.Pod) time.Duration {
	if pod.Spec.TerminationGracePeriodSeconds == nil {
		return 30 * time.Second
	}
	return seconds(*pod.Spec.TerminationGracePeriodSeconds)
}

// deadline enforces the pod's activeDeadlineSeconds and returns how long it
// still has; 0 means no limit.
func (k *keeper) deadline(pod *corev1.Pod, now time.Time) time.Duration {
	if pod.Spec.ActiveDeadlineSeconds == nil || k.failure != "" || k.ended {
		return 0
	}
	begin := k.born
	if k.reported.StartTime != nil {
		begin = k.reported.StartTime.Time
	}
	left := begin.Add(seconds(*pod.Spec.ActiveDeadlineSeconds)).Sub(now)
	if left > 0 {
		return left
	}
	if next(pod.Spec.RestartPolicy, k.containers, false, now).done {
		return 0
	}
	k.failure = deadlineExceeded
	k.event(pod, corev1.EventTypeNormal, deadlineExceeded, deadlineMessage)
	return 0
}

// holdReport is how long the news that a pod is being started is held back: by
// then most run, and that is one report less for each.
const holdReport = 500 * time.Millisecond

// news writes down how the pod is and returns it for the core, if that is news,
// or returns how long to wait before it is.
func (k *keeper) news(pod *corev1.Pod, gone bool, see seen) (*core.Observed, time.Duration) {
	if hold := k.born.Add(holdReport).Sub(see.now); !gone && !k.told && hold > 0 && k.unremarkable() {
		return nil, hold
	}
	status := k.reported
	if !k.ended {
		status = statusOf(pod, k.containers, &k.reported, see)
	}
	if same := k.ended || equality.Semantic.DeepEqual(status, k.reported); !k.mustResend() && !gone && same {
		return nil, 0
	}
	k.reported, k.told = status, true
	if !k.started && leftPending(&status) {
		k.started = true
		k.agent.config.Timings.PodStart(time.Since(k.born))
	}
	o := core.Observed{Key: k.key, UID: k.uid, Status: status, Gone: gone}
	k.agent.config.Ledger.Observe(o)
	return &o, 0
}

// leftPending tells whether a pod has left behind the time before it ran.
func leftPending(s *corev1.PodStatus) bool { return s.Phase != "" && s.Phase != corev1.PodPending }

// mustResend tells whether the core is to be told again what it was told.
func (k *keeper) mustResend() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	resend := k.resend || (k.told && k.seenByCore != nil && !sameLife(k.seenByCore, &k.reported))
	k.resend, k.seenByCore = false, nil
	return resend
}

// sameLife tells whether two statuses agree in what matters to anyone: the
// phase, and the runs of the containers.
func sameLife(a, b *corev1.PodStatus) bool {
	return a.Phase == b.Phase && a.Reason == b.Reason &&
		slices.EqualFunc(a.ContainerStatuses, b.ContainerStatuses, sameRun) &&
		slices.EqualFunc(a.InitContainerStatuses, b.InitContainerStatuses, sameRun)
}

func sameRun(a, b corev1.ContainerStatus) bool {
	return a.Name == b.Name && a.RestartCount == b.RestartCount && a.ContainerID == b.ContainerID && a.Ready == b.Ready &&
		(a.State.Running == nil) == (b.State.Running == nil) && (a.State.Terminated == nil) == (b.State.Terminated == nil)
}

// durable returns once what the disk says will not have the pod run again after
// a loss of power, or false with the time after which to try again: the core
// must not hear before that it is gone, since another node may then run it.
func (k *keeper) durable() (wait time.Duration, ok bool) {
	if err := k.agent.config.Ledger.Sync(); err != nil {
		k.log.Error("that the pod has stopped cannot be written to the disk, so the core is not told yet", "err", err)
		return retryDisk, false
	}
	return 0, true
}

// retryDisk is how long to wait for a disk that takes nothing.
const retryDisk = 5 * time.Second

// unremarkable tells whether all containers merely wait for their first start.
func (k *keeper) unremarkable() bool {
	for _, c := range k.containers {
		if (c.phase != waiting && c.phase != starting) || c.last != nil || c.reason != "" {
			return false
		}
	}
	return k.failure == ""
}
