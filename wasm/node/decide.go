package node

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/weftrun/weft/wasm"
)

// Restart back-off, as the kubelet's: the delay doubles with each restart and
// starts anew after a container has run for a while.
const (
	backoffFirst = 10 * time.Second
	backoffLast  = 5 * time.Minute
	backoffReset = 10 * time.Minute
)

// phase is where a container stands.
type phase int

const (
	waiting  phase = iota // to be started, at once or at container.due
	starting              // its start is under way
	running
	exited // and not to be started again, unless next says so
)

// role is what a container is to its pod.
type role int

const (
	main    role = iota
	initial      // runs to its end before the next begins
	sidecar      // an init container that goes on beside the others
)

// container is what a keeper knows of one container. next and statusOf read
// it; the keeper's loop alone writes it.
type container struct {
	spec     *corev1.Container
	role     role
	phase    phase
	due      time.Time // when waiting: not before
	delay    time.Duration
	reason   string // when waiting
	message  string
	failed   time.Time // when waiting after a failed pull: since when
	told     string    // the failure that an event told of last
	again    bool      // the next start is a restart
	fed      bool      // ConfigMaps or Secrets have changed since the last start
	replace  bool      // it was stopped because its image has changed
	recalled bool      // it was gone when the agent started
	image    string    // that the newest instance was started with
	restarts int32
	imageID  string
	id       string // of the newest instance
	started  time.Time
	exit     *wasm.Exit // of the newest instance, when exited
	last     *corev1.ContainerStateTerminated
	stopping bool
}

// step is what to do with a pod now.
type step struct {
	start []int // containers to start
	retry []int // containers that ended and wait for another start, from now on
	stop  []int // containers to stop
	done  bool  // nothing runs and nothing ever will
	wait  time.Duration
}

// next decides what to do with a pod's containers, which come in the order of
// their start. wait is how long nothing will change by itself; 0 means until
// something happens.
//
// Init containers start one after the other, the rest once they are done.
// Sidecars end last, in reverse order, when nothing else is left to run.
func next(policy corev1.RestartPolicy, containers []*container, stopping bool, now time.Time) step {
	var s, side step
	begun := begun(containers)
	ready, over, work := true, stopping, false
	for i, c := range containers {
		to := &s
		if c.role == sidecar {
			to = &side
		}
		active := to.consider(i, c, policy, over, ready || begun, now)
		over = over || (c.role == initial && c.phase == exited && !active && c.exit.Code != 0)
		work = work || (active && c.role != sidecar)
		ready = ready && (c.role == main || c.passed())
	}
	if work {
		side.stop = nil
		s.merge(side)
		return s
	}
	s.done = !s.stopSidecar(containers)
	return s
}

// consider adds what is to be done with one container, and tells whether it
// runs or will. over says that the pod's work is to end, and turn that it is
// this container's to start.
func (s *step) consider(i int, c *container, policy corev1.RestartPolicy, over, turn bool, now time.Time) (active bool) {
	switch c.phase {
	case waiting:
		if !over && turn {
			s.add(i, c.due.Sub(now))
		}
		return !over
	case exited:
		if over || !c.restartsUnder(policy) {
			return false
		}
		s.retry = append(s.retry, i)
		return true
	}
	if over && !c.stopping {
		s.stop = append(s.stop, i)
	}
	return true
}

// stopSidecar stops the last sidecar that runs, and tells whether there is one.
func (s *step) stopSidecar(containers []*container) bool {
	for i, c := range slices.Backward(containers) {
		if c.role != sidecar || (c.phase != running && c.phase != starting) {
			continue
		}
		if !c.stopping {
			s.stop = append(s.stop, i)
		}
		return true
	}
	return false
}

func (s *step) add(i int, wait time.Duration) {
	if wait <= 0 {
		s.start = append(s.start, i)
		return
	}
	if s.wait == 0 || wait < s.wait {
		s.wait = wait
	}
}

func (s *step) merge(o step) {
	s.start = append(s.start, o.start...)
	s.retry = append(s.retry, o.retry...)
	if o.wait > 0 && (s.wait == 0 || o.wait < s.wait) {
		s.wait = o.wait
	}
}

// passed tells whether those that come after an init container may start.
func (c *container) passed() bool {
	if c.role == sidecar {
		return c.phase == running || c.ranBefore()
	}
	return c.phase == exited && c.exit.Code == 0
}

func (c *container) ranBefore() bool { return c.last != nil || c.phase == exited }

// begun tells whether the main containers were reached: then the init
// containers are done with for good.
func begun(containers []*container) bool {
	for _, c := range containers {
		if c.role == main && (c.phase == running || c.ranBefore()) {
			return true
		}
	}
	return false
}

// initialized tells whether all init containers are done.
func initialized(containers []*container) bool {
	if begun(containers) {
		return true
	}
	for _, c := range containers {
		if c.role != main && !c.passed() {
			return false
		}
	}
	return true
}

// restartsUnder tells whether a container that ended is started again in a pod
// of that policy.
func (c *container) restartsUnder(policy corev1.RestartPolicy) bool {
	switch {
	case c.replace:
		return true
	case c.role == sidecar:
		policy = corev1.RestartPolicyAlways
	case c.role == initial && policy == corev1.RestartPolicyAlways:
		policy = corev1.RestartPolicyOnFailure
	}
	switch policy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return c.exit.Code != 0
	}
	return true
}

// backoff returns how long to wait before the next start, given the last delay
// and how long the container ran. The first restart is immediate, and so is
// that of one that ran for long.
func backoff(last, ran time.Duration, restarts int32) time.Duration {
	switch {
	case restarts == 0 || ran >= backoffReset:
		return 0
	case last == 0:
		return backoffFirst
	}
	return min(2*last, backoffLast)
}

// terminatedReason is Kubernetes' word for how a container ended.
func terminatedReason(exit *wasm.Exit) string {
	switch exit.Reason {
	case wasm.OutOfMemory:
		return "OOMKilled"
	case wasm.NotStarted:
		return "StartError"
	case wasm.Lost:
		return "ContainerStatusUnknown"
	}
	if exit.Code == 0 {
		return "Completed"
	}
	return "Error"
}
