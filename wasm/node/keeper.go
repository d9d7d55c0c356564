package node

import (
	"context"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/wasm"
)

// keeper keeps one pod as it is desired.
type keeper struct {
	agent *Agent
	key   core.Key
	log   *slog.Logger
	wake  chan struct{} // one is enough: something below has changed

	// mu guards what follows.
	mu      sync.Mutex
	pod     *corev1.Pod
	dropped bool
	results []result
	live    map[string]bool // containers with an instance that runs

	// The rest belongs to run.
	containers []*container
	instances  map[int]wasm.Instance
	sandbox    wasm.Sandbox
	reported   corev1.PodStatus
	stopAt     time.Time // when stopping: the end of the grace period
	failure    string    // why the node itself ends the pod
	tasks      sync.WaitGroup
}

// result is what became of a container's start, or how its instance ended.
type result struct {
	index    int
	instance wasm.Instance // it runs; or
	exit     *wasm.Exit    // it ended; or
	imageID  string        // it was found, with either
	reason   string        // it could not be started yet
	message  string
}

func newKeeper(a *Agent, key core.Key, pod *corev1.Pod) *keeper {
	k := &keeper{
		agent: a, key: key, pod: pod, wake: make(chan struct{}, 1), instances: map[int]wasm.Instance{},
		log:      a.config.Logger.With("object", key.Namespace+"/"+key.Name),
		reported: pod.Status, live: map[string]bool{},
	}
	for i := range pod.Spec.Containers {
		k.containers = append(k.containers, &container{spec: &pod.Spec.Containers[i]})
	}
	k.recall(pod)
	return k
}

// recall takes up what was reported of the pod before this agent's time.
func (k *keeper) recall(pod *corev1.Pod) {
	for _, c := range k.containers {
		for i := range pod.Status.ContainerStatuses {
			if s := &pod.Status.ContainerStatuses[i]; s.Name == c.spec.Name {
				recallContainer(c, s)
			}
		}
	}
}

// recallContainer continues from a status. What ran then is taken for lost
// until the sandbox says otherwise.
func recallContainer(c *container, s *corev1.ContainerStatus) {
	c.restarts, c.imageID = s.RestartCount, s.ImageID
	c.last = s.LastTerminationState.Terminated
	switch {
	case s.State.Terminated != nil:
		t := s.State.Terminated
		c.phase = exited
		c.exit = &wasm.Exit{
			Reason: reasonFrom(t.Reason), Code: t.ExitCode, Message: t.Message,
			StartedAt: t.StartedAt.Time, FinishedAt: t.FinishedAt.Time,
		}
		c.id = instanceID(c)
	case s.State.Running != nil:
		c.phase = exited
		c.exit = &wasm.Exit{
			Reason: wasm.Lost, Code: 137, Message: "The container could not be located when the node's agent started",
			StartedAt: s.State.Running.StartedAt.Time, FinishedAt: s.State.Running.StartedAt.Time,
		}
		c.id = instanceID(c)
	case c.last != nil:
		c.restarts++
	}
}

func reasonFrom(reason string) wasm.Reason {
	for _, r := range []wasm.Reason{wasm.OutOfMemory, wasm.NotStarted, wasm.Lost} {
		if terminatedReason(&wasm.Exit{Reason: r}) == reason {
			return r
		}
	}
	return wasm.Exited
}

// update hands over a newer state of the pod.
func (k *keeper) update(pod *corev1.Pod) {
	k.mu.Lock()
	k.pod = pod
	k.mu.Unlock()
	k.nudge()
}

// drop says that the pod is not desired any more.
func (k *keeper) drop() {
	k.mu.Lock()
	k.dropped = true
	k.mu.Unlock()
	k.nudge()
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

func (k *keeper) setLive(container string, live bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.live[container] = live
}

// runs tells whether a container has an instance that runs.
func (k *keeper) runs(container string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.live[container]
}

// take returns the newest desired state and what has happened since.
func (k *keeper) take() (pod *corev1.Pod, dropped bool, results []result) {
	k.mu.Lock()
	defer k.mu.Unlock()
	results, k.results = k.results, nil
	return k.pod, k.dropped, results
}

// run keeps the pod until it is gone, or ctx ends.
func (k *keeper) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer k.tasks.Wait()
	defer cancel()
	k.reattach(ctx)
	for ctx.Err() == nil {
		pod, dropped, results := k.take()
		for _, r := range results {
			k.settle(ctx, pod, r)
		}
		if ctx.Err() != nil {
			return
		}
		gone, wait := k.act(ctx, pod, dropped)
		if gone {
			return
		}
		k.sleep(ctx, wait)
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
	wait = k.deadline(pod, now)
	stopping := k.stopRequested(pod, dropped, now)
	s := next(pod.Spec.RestartPolicy, k.containers, stopping, now)
	if len(s.retry) > 0 {
		for _, i := range s.retry {
			k.schedule(pod, k.containers[i], now)
		}
		s = next(pod.Spec.RestartPolicy, k.containers, stopping, now)
	}
	if s.stop {
		k.stop(ctx, now)
	}
	for _, i := range s.start {
		k.start(ctx, pod, i)
	}
	if s.done {
		k.closeSandbox(ctx)
	}
	over := s.done && (dropped || pod.DeletionTimestamp != nil)
	k.report(pod, over, now)
	if over {
		k.removeLogs(pod)
		return true, 0
	}
	if s.wait > 0 && (wait == 0 || s.wait < wait) {
		wait = s.wait
	}
	return false, wait
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
		end = now.Add(time.Duration(grace) * time.Second)
	case k.failure != "":
		end = now.Add(graceOf(pod))
	default:
		return false
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

func graceOf(pod *corev1.Pod) time.Duration {
	if pod.Spec.TerminationGracePeriodSeconds == nil {
		return 30 * time.Second
	}
	return time.Duration(*pod.Spec.TerminationGracePeriodSeconds) * time.Second
}

// deadline enforces the pod's activeDeadlineSeconds and returns how long it
// still has; 0 means no limit.
func (k *keeper) deadline(pod *corev1.Pod, now time.Time) time.Duration {
	if pod.Spec.ActiveDeadlineSeconds == nil || k.reported.StartTime == nil || k.failure != "" {
		return 0
	}
	left := k.reported.StartTime.Add(time.Duration(*pod.Spec.ActiveDeadlineSeconds) * time.Second).Sub(now)
	if left > 0 {
		return left
	}
	if phase := phaseOf(pod.Spec.RestartPolicy, k.containers); phase == corev1.PodSucceeded || phase == corev1.PodFailed {
		return 0
	}
	k.failure = "DeadlineExceeded"
	k.event(pod, corev1.EventTypeNormal, "DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
	return 0
}

// report tells the core how the pod is, if that is news.
func (k *keeper) report(pod *corev1.Pod, gone bool, now time.Time) {
	status := statusOf(pod, k.containers, &k.reported, k.agent.hostIP(), now)
	if k.failure != "" {
		status.Reason, status.Message = k.failure, "Pod was active on the node longer than the specified deadline"
		if status.Phase == corev1.PodSucceeded || (gone && status.Phase == corev1.PodPending) {
			status.Phase = corev1.PodFailed
		}
	}
	if !gone && equality.Semantic.DeepEqual(status, k.reported) {
		return
	}
	k.reported = status
	k.agent.config.Link.Report(core.Observed{Key: k.key, UID: pod.UID, Status: *status.DeepCopy(), Gone: gone})
}
