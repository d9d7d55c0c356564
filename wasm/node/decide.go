package node

import (
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

// container is what a keeper knows of one container. next and statusOf read
// it; the keeper's loop alone writes it.
type container struct {
	spec     *corev1.Container
	phase    phase
	due      time.Time // when waiting: not before
	delay    time.Duration
	reason   string // when waiting
	message  string
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
	stop  bool  // ask all that run to stop
	done  bool  // nothing runs and nothing ever will
	wait  time.Duration
}

// next decides what to do with a pod's containers. wait is how long nothing
// will change by itself; 0 means until something happens.
func next(policy corev1.RestartPolicy, containers []*container, stopping bool, now time.Time) step {
	var s step
	active := false
	for i, c := range containers {
		switch c.phase {
		case running, starting:
			active = true
			s.stop = s.stop || (stopping && c.phase == running && !c.stopping)
		case waiting:
			if stopping {
				continue
			}
			active = true
			s.add(i, c.due.Sub(now))
		case exited:
			if !stopping && restarts(policy, c.exit) {
				active = true
				s.retry = append(s.retry, i)
			}
		}
	}
	s.done = !active
	return s
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

// restarts tells whether a container that ended so is started again.
func restarts(policy corev1.RestartPolicy, exit *wasm.Exit) bool {
	switch policy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return exit.Code != 0
	}
	return true
}

// backoff returns how long to wait before the next start, given the last delay
// and how long the container ran. The first restart is immediate.
func backoff(last, ran time.Duration, restarts int32) time.Duration {
	switch {
	case restarts == 0:
		return 0
	case last == 0 || ran >= backoffReset:
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
