package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/image"
)

// instanceID is unique within the pod's sandbox.
func instanceID(c *container) string { return c.spec.Name + "." + strconv.Itoa(int(c.restarts)) }

// reattach finds the instances that still run from before this agent's time.
func (k *keeper) reattach(ctx context.Context) {
	pod, _, _ := k.take()
	known := false
	for _, c := range k.containers {
		known = known || (c.exit != nil && c.exit.Reason == wasm.Lost)
	}
	if !known {
		return
	}
	sandbox, err := k.agent.config.Runtime.OpenSandbox(ctx, sandboxConfig(pod))
	if err != nil {
		return // they are lost
	}
	k.sandbox = sandbox
	instances, err := sandbox.Instances(ctx)
	if err != nil {
		return
	}
	for i, c := range k.containers {
		if instance, ok := instances[c.id]; ok && c.exit != nil && c.exit.Reason == wasm.Lost {
			c.phase, c.exit, c.started = running, nil, instance.StartedAt()
			k.instances[i] = instance
			k.setLive(c.spec.Name, true)
			k.await(ctx, i, instance)
		}
	}
}

func sandboxConfig(pod *corev1.Pod) wasm.SandboxConfig {
	return wasm.SandboxConfig{ID: string(pod.UID), Hostname: hostname(pod)}
}

// start begins to start a container; settle hears how it went.
func (k *keeper) start(ctx context.Context, pod *corev1.Pod, index int) {
	c := k.containers[index]
	if c.last != nil && c.reason == crashLoop {
		k.event(pod, corev1.EventTypeNormal, "Restarting", fmt.Sprintf("Restarting container %s, restart %d", c.spec.Name, c.restarts))
	}
	c.phase, c.stopping = starting, false
	if c.reason != crashLoop && c.reason != errPull && c.reason != pullBackOff {
		c.reason, c.message = "ContainerCreating", ""
	}
	id := instanceID(c)
	if k.sandbox == nil {
		sandbox, err := k.agent.config.Runtime.OpenSandbox(ctx, sandboxConfig(pod))
		if err != nil {
			k.push(result{index: index, reason: "RunContainerError", message: err.Error()})
			return
		}
		k.sandbox = sandbox
	}
	sandbox := k.sandbox
	k.tasks.Go(func() {
		select {
		case k.agent.starts <- struct{}{}:
		case <-ctx.Done():
			return
		}
		defer func() { <-k.agent.starts }()
		k.push(k.launch(ctx, pod, sandbox, index, id))
	})
}

// Reasons of a container that waits.
const (
	crashLoop   = "CrashLoopBackOff"
	errPull     = "ErrImagePull"
	pullBackOff = "ImagePullBackOff"
)

// launch finds the image, prepares it and starts an instance.
func (k *keeper) launch(ctx context.Context, pod *corev1.Pod, sandbox wasm.Sandbox, index int, id string) result {
	c := k.containers[index].spec // never written
	found, err := k.agent.config.Images.Resolve(ctx, c.Image, image.Policy(c.ImagePullPolicy))
	if err != nil {
		reason := errPull
		var known *image.Error
		if errors.As(err, &known) {
			reason = string(known.Reason)
		}
		return result{index: index, reason: reason, message: err.Error()}
	}
	vars, env, err := environment(pod, c, k.agent.referent)
	if err != nil {
		return result{index: index, reason: "CreateContainerConfigError", message: err.Error()}
	}
	module, err := k.agent.config.Runtime.Prepare(ctx, found.Digest, found.Path)
	if err != nil {
		reason := "CreateContainerError"
		if errors.Is(err, wasm.ErrInvalidModule) {
			reason = errPull
		}
		return result{index: index, reason: reason, message: err.Error()}
	}
	name := strings.TrimSuffix(path.Base(found.Path), ".wasm")
	instance, err := sandbox.Start(ctx, module, wasm.Program{
		ID: id, Args: arguments(c, name, vars), Env: env,
		Log:    wasm.Log{Path: k.agent.logPath(pod, id)},
		Limits: limits(c),
	})
	if err != nil {
		return result{index: index, imageID: found.Digest, reason: "RunContainerError", message: err.Error()}
	}
	return result{index: index, instance: instance, imageID: found.Digest}
}

func limits(c *corev1.Container) wasm.Limits {
	return wasm.Limits{
		MemoryBytes: c.Resources.Limits.Memory().Value(),
		CPUMillis:   c.Resources.Limits.Cpu().MilliValue(),
		CPUShares:   c.Resources.Requests.Cpu().MilliValue(),
	}
}

// settle takes in what became of a start, or how an instance ended.
func (k *keeper) settle(ctx context.Context, pod *corev1.Pod, r result) {
	c := k.containers[r.index]
	if r.imageID != "" {
		c.imageID = r.imageID
	}
	switch {
	case ctx.Err() != nil:
		return // what fails now fails because the agent stops
	case r.instance != nil:
		k.setLive(c.spec.Name, true)
		c.phase, c.id, c.started = running, r.instance.ID(), r.instance.StartedAt()
		c.reason, c.message = "", ""
		k.instances[r.index] = r.instance
		k.event(pod, corev1.EventTypeNormal, "Started", "Started container "+c.spec.Name)
		k.await(ctx, r.index, r.instance)
	case r.exit != nil:
		k.setLive(c.spec.Name, false)
		c.phase, c.exit = exited, r.exit
		if instance := k.instances[r.index]; instance != nil {
			if err := instance.Release(ctx); err != nil && !errors.Is(err, wasm.ErrGone) {
				k.log.Debug("release instance", "err", err)
			}
			delete(k.instances, r.index)
		}
		if r.exit.Reason == wasm.Lost {
			k.sandbox = nil // it went with its process
		}
	default:
		k.postpone(pod, c, r.reason, r.message)
	}
}

// postpone has a container that could not be started wait for another try.
func (k *keeper) postpone(pod *corev1.Pod, c *container, reason, message string) {
	c.delay = max(backoffFirst, min(2*c.delay, backoffLast))
	if reason == "RunContainerError" || reason == "CreateContainerConfigError" {
		c.delay = backoffFirst
	}
	c.phase, c.due, c.reason, c.message = waiting, time.Now().Add(c.delay), reason, message
	k.event(pod, corev1.EventTypeWarning, "Failed", fmt.Sprintf("Error: %s: %s", reason, message))
}

// schedule has a container that ended wait for its next start.
func (k *keeper) schedule(pod *corev1.Pod, c *container, now time.Time) {
	ran := c.exit.FinishedAt.Sub(c.exit.StartedAt)
	c.delay = backoff(c.delay, ran, c.restarts)
	c.last = terminated(pod, c.id, c.exit)
	c.phase, c.due, c.exit = waiting, now.Add(c.delay), nil
	c.restarts++
	c.reason, c.message = "", ""
	if c.delay == 0 {
		return
	}
	c.reason = crashLoop
	c.message = fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)", c.delay, c.spec.Name, pod.Name, pod.Namespace, pod.UID)
	k.event(pod, corev1.EventTypeWarning, "BackOff", fmt.Sprintf("Back-off restarting failed container %s in pod %s_%s(%s)", c.spec.Name, pod.Name, pod.Namespace, pod.UID))
}

// await reports an instance's end to the loop.
func (k *keeper) await(ctx context.Context, index int, instance wasm.Instance) {
	k.tasks.Go(func() {
		exit, err := instance.Wait(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			now := time.Now()
			exit = wasm.Exit{Reason: wasm.Lost, Code: 137, Message: err.Error(), StartedAt: instance.StartedAt(), FinishedAt: now}
		}
		k.push(result{index: index, exit: &exit})
	})
}

// stop asks every running instance to end within what is left of the grace
// period.
func (k *keeper) stop(ctx context.Context, now time.Time) {
	pod, _, _ := k.peek()
	for i, instance := range k.instances {
		c := k.containers[i]
		if c.stopping {
			continue
		}
		c.stopping = true
		k.event(pod, corev1.EventTypeNormal, "Killing", "Stopping container "+c.spec.Name)
		grace := max(k.stopAt.Sub(now), 0)
		var err error
		if grace == 0 {
			err = instance.Kill(ctx)
		} else {
			err = instance.Stop(ctx, grace)
		}
		if err != nil && !errors.Is(err, wasm.ErrGone) {
			k.log.Warn("stop container", "container", c.spec.Name, "err", err)
		}
	}
}

// peek returns the desired state and leaves what has happened in its queue.
func (k *keeper) peek() (pod *corev1.Pod, dropped bool, waiting int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.pod, k.dropped, len(k.results)
}

func (k *keeper) closeSandbox(ctx context.Context) {
	if k.sandbox == nil {
		return
	}
	if err := k.sandbox.Close(ctx); err != nil && !errors.Is(err, wasm.ErrGone) {
		k.log.Warn("close sandbox", "err", err)
	}
	k.sandbox = nil
}

func (k *keeper) event(pod *corev1.Pod, kind, reason, message string) {
	k.agent.config.Link.Event(core.NodeEvent{
		About: corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
		},
		Type: kind, Reason: reason, Message: message, Timestamp: time.Now(),
	})
}

// podLogs is the folder of a pod's logs.
func (a *Agent) podLogs(pod *corev1.Pod) string {
	return filepath.Join(a.config.Logs, pod.Namespace+"_"+pod.Name+"_"+string(pod.UID))
}

func (a *Agent) logPath(pod *corev1.Pod, id string) string {
	return filepath.Join(a.podLogs(pod), id+".log")
}

func (k *keeper) removeLogs(pod *corev1.Pod) {
	if err := os.RemoveAll(k.agent.podLogs(pod)); err != nil {
		k.log.Warn("remove logs", "err", err)
	}
}

// hostIP is the node's first address.
func (a *Agent) hostIP() string {
	for _, address := range a.config.Node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			return address.Address
		}
	}
	return ""
}
