package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/image"
	"github.com/weftrun/weft/wasm/logfile"
)

// Reasons of a container that waits.
const (
	creating        = "ContainerCreating"
	initializingPod = "PodInitializing"
	crashLoop       = "CrashLoopBackOff"
	errPull         = image.ErrImagePull
	pullBackOff     = "ImagePullBackOff"
	configError     = "CreateContainerConfigError"
	createError     = "CreateContainerError"
	runError        = "RunContainerError"
	sandboxError    = "CreatePodSandboxError"
)

// sandboxConfig is of a pod whose sandbox there is, or whose handler does not
// matter any more.
func sandboxConfig(pod *corev1.Pod) wasm.SandboxConfig {
	return wasm.SandboxConfig{ID: string(pod.UID), Hostname: hostname(pod)}
}

// openSandbox opens the pod's sandbox as its RuntimeClass says. The words of
// its errors are the kubelet's.
func (a *Agent) openSandbox(ctx context.Context, pod *corev1.Pod) (wasm.Sandbox, error) {
	config := sandboxConfig(pod)
	if name := pod.Spec.RuntimeClassName; name != nil && *name != "" {
		object, _ := a.referent(core.Key{Group: core.RuntimeClasses.Group, Resource: core.RuntimeClasses.Resource, Name: *name})
		class, ok := object.(*nodev1.RuntimeClass)
		if !ok {
			return nil, fmt.Errorf("%w: RuntimeClass %q not found", wasm.ErrHandler, *name)
		}
		config.Handler = class.Handler
	}
	sandbox, err := a.config.Runtime.OpenSandbox(ctx, config)
	if errors.Is(err, wasm.ErrHandler) {
		err = fmt.Errorf("%w: failed to get sandbox runtime: no runtime for %q is configured", wasm.ErrHandler, config.Handler)
	}
	return sandbox, err
}

// start begins to start a container; settle hears how it went.
func (k *keeper) start(ctx context.Context, pod *corev1.Pod, index int) {
	c := k.containers[index]
	if c.again {
		c.restarts++
		c.again = false
		k.removeLog(pod, runID(c.spec.Name, c.restarts-2))
	}
	c.phase, c.stopping, c.replace, c.recalled, c.fed, c.image = starting, false, false, false, false, c.spec.Image
	k.touched = true
	id, spec, sandbox := instanceID(c), c.spec, k.sandbox
	ctx, cancel := context.WithCancel(ctx)
	k.cancels[index] = cancel
	k.tasks.Go(func() {
		defer cancel()
		select {
		case k.agent.starts <- struct{}{}:
			defer func() { <-k.agent.starts }()
		case <-ctx.Done():
			k.push(result{index: index, reason: creating})
			return
		}
		r := k.launch(ctx, pod, sandbox, spec, id, func(why string) {
			k.push(result{index: index, news: true, message: why})
		})
		r.index = index
		k.push(r)
	})
}

// compileShown is how long a module is prepared before the pod says so: mostly
// it was compiled before, or is within milliseconds.
const compileShown = time.Second

// prepare has the image's module ready to start, and says so if that takes long.
func (k *keeper) prepare(ctx context.Context, c *corev1.Container, found image.Image, slow func(why string)) (wasm.Module, error) {
	timer := time.AfterFunc(compileShown, func() {
		size := ""
		if info, err := os.Stat(found.Path); err == nil {
			size = fmt.Sprintf(", %.1f MiB", float64(info.Size())/(1<<20))
		}
		slow(fmt.Sprintf("compiling the module of image %q (%s%s)", c.Image, found.Digest, size))
	})
	defer timer.Stop()
	return k.agent.config.Runtime.Prepare(ctx, found.Digest, found.Path)
}

// launch finds the image, prepares it and starts an instance. What takes long is
// told meanwhile.
func (k *keeper) launch(ctx context.Context, pod *corev1.Pod, sandbox wasm.Sandbox, c *corev1.Container, id string, slow func(why string)) result {
	found, err := k.agent.config.Images.Resolve(ctx, c.Image, image.Policy(c.ImagePullPolicy))
	if err != nil {
		reason := errPull
		if known, ok := errors.AsType[*image.Error](err); ok {
			reason = known.Reason
		}
		return result{reason: reason, message: err.Error()}
	}
	vars, env, err := environment(k.agent.addressed(pod), c, k.agent.referent)
	if err != nil {
		return result{reason: configError, message: err.Error()}
	}
	module, err := k.prepare(ctx, c, found, slow)
	if err != nil {
		reason := createError
		if errors.Is(err, wasm.ErrInvalidModule) {
			reason = errPull
		}
		return result{reason: reason, message: err.Error(), soon: errors.Is(err, wasm.ErrGone)}
	}
	if sandbox == nil {
		if sandbox, err = k.agent.openSandbox(ctx, pod); err != nil {
			reason := runError
			if errors.Is(err, wasm.ErrHandler) {
				reason = sandboxError
			}
			return result{reason: reason, message: strings.TrimPrefix(err.Error(), wasm.ErrHandler.Error()+": "), soon: errors.Is(err, wasm.ErrGone)}
		}
	}
	name := strings.TrimSuffix(path.Base(found.Path), ".wasm")
	begin := time.Now()
	instance, err := sandbox.Start(ctx, module, wasm.Program{
		ID: id, Args: arguments(c, name, vars), Env: env,
		Log:    wasm.Log{Path: k.agent.logPath(pod, id)},
		Limits: limits(c),
	})
	k.agent.config.Timings.Start(time.Since(begin))
	r := result{sandbox: sandbox, imageID: found.Digest, instance: instance}
	switch {
	case errors.Is(err, wasm.ErrLimits): // it never can
		message := err.Error() // it names a sandbox, which means nothing to a user
		if _, why, ok := strings.Cut(message, wasm.ErrLimits.Error()+": "); ok {
			message = why
		}
		r.exit = &wasm.Exit{Reason: wasm.NotStarted, Code: 128, Message: message, StartedAt: begin, FinishedAt: time.Now()}
	case err != nil:
		r.reason, r.message, r.soon = runError, err.Error(), errors.Is(err, wasm.ErrGone)
	}
	return r
}

// addressed is pod with the node's address in its status, where the core may
// not have put it yet.
func (a *Agent) addressed(pod *corev1.Pod) *corev1.Pod {
	if pod.Status.HostIP != "" {
		return pod
	}
	shallow := *pod
	shallow.Status.HostIP = a.hostIP()
	return &shallow
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
	if r.news {
		if c.phase == starting && c.reason == "" {
			c.message = r.message
		}
		return
	}
	if c.phase == starting {
		delete(k.cancels, r.index)
	}
	if r.imageID != "" {
		c.imageID = r.imageID
	}
	if r.sandbox != nil && !r.soon {
		k.sandbox = r.sandbox
	}
	switch {
	case ctx.Err() != nil: // what fails now fails because the agent stops
	case r.exit != nil:
		k.settleExit(r)
		if r.exit.Reason == wasm.NotStarted {
			k.event(pod, corev1.EventTypeWarning, "Failed", "Error: "+r.exit.Message)
		}
	case r.instance != nil:
		c.phase, c.id, c.started = running, r.instance.ID(), r.instance.StartedAt()
		c.reason, c.message, c.told, c.stopping = "", "", "", false
		k.instances[r.index] = r.instance
		k.event(pod, corev1.EventTypeNormal, "Started", "Started container "+c.spec.Name)
		k.await(ctx, r.index, r.instance)
	case c.stopping: // it was given up
		c.phase = waiting
	default:
		if r.soon {
			k.sandbox = nil
		}
		k.postpone(pod, c, r)
	}
}

func (k *keeper) settleExit(r result) {
	c := k.containers[r.index]
	c.phase, c.exit, c.id = exited, r.exit, instanceID(c)
	c.reason, c.message = "", ""
	if instance := k.instances[r.index]; instance != nil {
		k.over = append(k.over, instance)
		delete(k.instances, r.index)
	}
	if r.exit.Reason == wasm.Lost {
		k.sandbox = nil // it went with its process
	}
}

func (k *keeper) release(ctx context.Context, instance wasm.Instance) {
	if err := instance.Release(ctx); err != nil && !errors.Is(err, wasm.ErrGone) {
		k.log.Debug("release instance", "instance", instance.ID(), "err", err)
	}
}

// postpone has a container that could not be started wait for another try. Of
// one failure that repeats itself only the first is an event.
func (k *keeper) postpone(pod *corev1.Pod, c *container, r result) {
	now := time.Now()
	c.phase, c.reason, c.message = waiting, r.reason, r.message
	switch r.reason {
	case creating:
		c.reason = ""
		return
	case errPull, image.InvalidImageName, image.ErrImageNeverPull, image.ImageInspectFailed:
		c.delay = max(backoffFirst, min(2*c.delay, backoffLast))
	default:
		c.delay = backoffFirst
	}
	if r.soon {
		c.delay = retryRuntime
	}
	c.due, c.failed = now.Add(c.delay), now
	if (r.reason == configError || r.reason == sandboxError) && c.fed {
		c.due = now
	}
	if c.told == r.reason+r.message {
		return
	}
	c.told = r.reason + r.message
	if r.reason == errPull {
		k.event(pod, corev1.EventTypeWarning, "Failed", fmt.Sprintf("Failed to pull image %q: %s", c.spec.Image, r.message))
		k.event(pod, corev1.EventTypeWarning, "Failed", "Error: "+errPull)
		return
	}
	if r.reason == sandboxError {
		k.event(pod, corev1.EventTypeWarning, "FailedCreatePodSandBox", "Failed to create pod sandbox: "+r.message)
		return
	}
	k.event(pod, corev1.EventTypeWarning, "Failed", "Error: "+r.message)
}

// pullShown is how long ErrImagePull shows before ImagePullBackOff does.
const pullShown = time.Second

// age turns failed pulls into back-offs, as the kubelet's next look does. It
// returns when the next is to be turned.
func (k *keeper) age(pod *corev1.Pod, now time.Time) (wait time.Duration) {
	for _, c := range k.containers {
		if c.phase != waiting || c.reason != errPull {
			continue
		}
		if left := c.failed.Add(pullShown).Sub(now); left > 0 {
			wait = shorter(wait, left)
			continue
		}
		c.reason = pullBackOff
		c.message = fmt.Sprintf("Back-off pulling image %q: %s: %s", c.spec.Image, errPull, c.message)
		if c.delay == backoffFirst {
			k.event(pod, corev1.EventTypeNormal, "BackOff", fmt.Sprintf("Back-off pulling image %q", c.spec.Image))
			k.event(pod, corev1.EventTypeWarning, "Failed", "Error: "+pullBackOff)
		}
	}
	return wait
}

// schedule has a container that ended wait for its next start.
func (k *keeper) schedule(pod *corev1.Pod, c *container, now time.Time) {
	ran := c.exit.FinishedAt.Sub(c.exit.StartedAt)
	wait := backoff(c.delay, ran, c.restarts)
	if c.replace || c.recalled || (c.exit.Reason == wasm.Lost && ran >= backoffFirst) {
		wait = 0 // it is not to blame; but what takes its runtime down again and again is
	} else {
		c.delay = wait
	}
	c.last = terminated(pod, c.id, c.exit)
	c.phase, c.due, c.exit, c.again = waiting, now.Add(wait), nil, true
	c.reason, c.message = "", ""
	if wait == 0 {
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

// outdated are the containers that run another image than is desired.
func (k *keeper) outdated() []int {
	var found []int
	for i, c := range k.containers {
		if c.phase == running && c.image != c.spec.Image && !c.stopping {
			c.replace = true
			found = append(found, i)
		}
	}
	return found
}

// stop asks a container to end within what is left of the grace period. A
// start that is under way is given up.
func (k *keeper) stop(ctx context.Context, pod *corev1.Pod, index int, now time.Time) {
	c := k.containers[index]
	c.stopping = true
	if cancel := k.cancels[index]; cancel != nil {
		cancel()
		return
	}
	instance := k.instances[index]
	if instance == nil {
		return
	}
	grace, message := graceOf(pod), "Stopping container "+c.spec.Name
	switch {
	case c.replace:
		message = fmt.Sprintf("Container %s definition changed, will be restarted", c.spec.Name)
	case !k.stopAt.IsZero():
		grace = max(k.stopAt.Sub(now), 0)
	}
	k.event(pod, corev1.EventTypeNormal, "Killing", message)
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

// closeTimeout bounds the end of a sandbox: a runtime that is away so long has
// lost it.
const closeTimeout = 10 * time.Second

// closeSandbox closes the sandbox if there may be one.
func (k *keeper) closeSandbox(ctx context.Context, pod *corev1.Pod) {
	if !k.touched {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	sandbox, err := k.sandbox, error(nil)
	if sandbox == nil { // a start that was given up may have opened it
		sandbox, err = k.agent.config.Runtime.OpenSandbox(ctx, sandboxConfig(pod))
	}
	if err == nil {
		err = sandbox.Close(ctx)
	}
	if err != nil && !errors.Is(err, wasm.ErrGone) {
		k.log.Warn("close sandbox", "err", err)
	}
	k.sandbox, k.touched = nil, false
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

// removeLog removes the log of one run.
func (k *keeper) removeLog(pod *corev1.Pod, id string) {
	for _, suffix := range [...]string{"", logfile.RotatedSuffix} {
		if err := os.Remove(k.agent.logPath(pod, id) + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			k.log.Warn("remove log", "instance", id, "err", err)
		}
	}
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
