package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/wasm"
)

// recall takes up what was reported of the pod before this agent's time.
func (k *keeper) recall(pod *corev1.Pod) {
	k.ended = pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	for _, c := range k.containers {
		for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
			for i := range statuses {
				if s := &statuses[i]; s.Name == c.spec.Name {
					recallContainer(c, s)
				}
			}
		}
	}
}

// lostMessage is of a container that nothing is known of any more.
const lostMessage = "The container could not be located when the node's agent started"

// recallContainer continues from a status. What ran then is taken for lost
// until the sandbox says otherwise.
func recallContainer(c *container, s *corev1.ContainerStatus) {
	c.restarts, c.imageID, c.image = s.RestartCount, s.ImageID, s.Image
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
		c.phase, c.recalled = exited, true
		c.exit = &wasm.Exit{
			Reason: wasm.Lost, Code: 137, Message: lostMessage,
			StartedAt: s.State.Running.StartedAt.Time, FinishedAt: time.Now(), // when it was found out
		}
		c.id = instanceID(c)
	case c.last != nil:
		c.id, c.again = instanceID(c), true
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

// reattach finds the instances that still run from before this agent's time,
// or have ended since, whatever was reported of them.
func (k *keeper) reattach(ctx context.Context) {
	sandbox, err := k.agent.config.Runtime.OpenSandbox(ctx, sandboxConfig(k.current))
	if err != nil {
		return // they are lost
	}
	k.sandbox = sandbox
	instances, err := sandbox.Instances(ctx)
	if err != nil {
		return
	}
	for i, c := range k.containers {
		instance, run := newestRun(instances, c.spec.Name)
		for id, old := range instances {
			if name, _, ok := parseInstanceID(id); ok && name == c.spec.Name && old != instance {
				k.release(ctx, old)
			}
		}
		switch {
		case instance == nil:
		case run < c.restarts, run == c.restarts && c.exit != nil && c.exit.Reason != wasm.Lost:
			k.release(ctx, instance) // its end is known
		default:
			k.adopt(ctx, i, instance, run)
		}
	}
}

// adopt goes on with an instance that was found.
func (k *keeper) adopt(ctx context.Context, index int, instance wasm.Instance, run int32) {
	c := k.containers[index]
	if run > c.restarts && c.exit != nil {
		c.last = terminated(k.current, c.id, c.exit)
	}
	if c.image == "" {
		c.image = c.spec.Image
	}
	c.restarts, c.id, c.again = run, instance.ID(), false
	c.phase, c.exit, c.started = running, nil, instance.StartedAt()
	k.instances[index] = instance
	k.await(ctx, index, instance)
}

func newestRun(instances map[string]wasm.Instance, container string) (newest wasm.Instance, run int32) {
	run = -1
	for id, instance := range instances {
		if name, n, ok := parseInstanceID(id); ok && name == container && n > run {
			newest, run = instance, n
		}
	}
	return newest, run
}

// instanceID is unique within the pod's sandbox.
func instanceID(c *container) string { return runID(c.spec.Name, c.restarts) }

func runID(container string, run int32) string { return container + "." + strconv.Itoa(int(run)) }

func parseInstanceID(id string) (container string, run int32, ok bool) {
	i := strings.LastIndexByte(id, '.')
	if i < 0 {
		return "", 0, false
	}
	n, err := strconv.ParseInt(id[i+1:], 10, 32)
	return id[:i], int32(n), err == nil && n >= 0
}

// closeOrphan closes a sandbox that no keeper has.
func (a *Agent) closeOrphan(ctx context.Context, id string) error {
	sandbox, err := a.config.Runtime.OpenSandbox(ctx, wasm.SandboxConfig{ID: id})
	if err == nil {
		err = sandbox.Close(ctx)
	}
	if errors.Is(err, wasm.ErrGone) {
		return nil
	}
	return err
}

// clean removes what is left of pods that are not desired any more: sandboxes
// from before this agent's time, and logs.
func (a *Agent) clean(ctx context.Context, orphans []string) {
	for _, id := range orphans {
		a.config.Logger.Info("close sandbox of a pod that is gone", "uid", id)
		if err := a.closeOrphan(ctx, id); err != nil {
			a.config.Logger.Warn("close sandbox of a pod that is gone", "uid", id, "err", err)
		}
	}
	entries, err := os.ReadDir(a.config.Logs)
	if err != nil {
		return // there are no logs yet
	}
	for _, entry := range entries {
		i := strings.LastIndexByte(entry.Name(), '_')
		if i < 0 || a.keeper(types.UID(entry.Name()[i+1:])) != nil {
			continue
		}
		if err := os.RemoveAll(filepath.Join(a.config.Logs, entry.Name())); err != nil {
			a.config.Logger.Warn("remove logs of a pod that is gone", "err", err)
		}
	}
}
