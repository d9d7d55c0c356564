package coretest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
)

// ScriptAnnotation on a pod says what its containers do on a pretended node:
// "run 10s exit 7". Without it they run until they are stopped.
const ScriptAnnotation = "coretest.weft.run/script"

// restartPause is how long a container that ended waits for its restart.
const restartPause = 10 * time.Second

// Node is a pretended node. While it is on it is heard of and does to its pods
// what they say; switched off, it is silent and its pods stay as they are.
type Node struct {
	Name string

	c    *Cluster
	stop context.CancelFunc
	done sync.WaitGroup
}

// AddNode adds a node with room for that many CPUs, GiB and pods, switched on.
func (c *Cluster) AddNode(name string, cpus, gigabytes, pods int64) *Node {
	c.t.Helper()
	room := corev1.ResourceList{
		corev1.ResourceCPU: *resource.NewQuantity(cpus, resource.DecimalSI), corev1.ResourceMemory: *resource.NewQuantity(gigabytes<<30, resource.BinarySI),
		corev1.ResourcePods: *resource.NewQuantity(pods, resource.DecimalSI),
	}
	c.Create(&corev1.Node{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}},
		Status:     corev1.NodeStatus{Capacity: room, Allocatable: room},
	})
	n := &Node{Name: name, c: c}
	n.report(room)
	n.On()
	c.t.Cleanup(n.Off)
	return n
}

// report says that the node is ready.
func (n *Node) report(room corev1.ResourceList) {
	n.c.t.Helper()
	_, err := n.c.Client.Mutate(n.c.ctx, core.Key{Resource: core.Nodes.Resource, Name: n.Name}, func(o core.Object) error {
		node, ok := o.(*corev1.Node)
		if !ok {
			return fmt.Errorf("node %s is a %T", n.Name, o)
		}
		if room != nil {
			node.Status.Capacity, node.Status.Allocatable = room, room
		}
		node.Status.Conditions = []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "Pretended",
			LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now(),
		}}
		return nil
	}, core.WriteOptions{Subresource: "status"})
	if err != nil {
		n.c.t.Errorf("report node %s: %v", n.Name, err)
	}
}

// On switches the node on.
func (n *Node) On() {
	if n.stop != nil {
		return
	}
	ctx, cancel := context.WithCancel(n.c.ctx)
	n.stop = cancel
	n.done.Go(func() { n.beat(ctx) })
	n.done.Go(func() { n.follow(ctx) })
}

// Off switches it off; nothing of it runs any more when Off returns.
func (n *Node) Off() {
	if n.stop == nil {
		return
	}
	n.stop()
	n.done.Wait()
	n.stop = nil
}

// beat renews the node's Lease.
func (n *Node) beat(ctx context.Context) {
	key := core.Key{Group: core.Leases.Group, Resource: core.Leases.Resource, Namespace: corev1.NamespaceNodeLease, Name: n.Name}
	for ctx.Err() == nil {
		now := metav1.NowMicro()
		_, err := n.c.Client.Mutate(ctx, key, func(o core.Object) error {
			lease, ok := o.(*coordinationv1.Lease)
			if !ok {
				return fmt.Errorf("lease %s is a %T", n.Name, o)
			}
			lease.Spec.RenewTime = &now
			return nil
		}, core.WriteOptions{})
		if apierrors.IsNotFound(err) {
			_, err = n.c.Client.Create(ctx, &coordinationv1.Lease{
				TypeMeta:   metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"},
				ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: n.Name},
				Spec:       coordinationv1.LeaseSpec{HolderIdentity: &n.Name, RenewTime: &now},
			}, core.WriteOptions{})
		}
		pause := core.HeartbeatInterval
		if err != nil {
			pause = 100 * time.Millisecond // the namespace may not be there yet
		}
		sleep(ctx, pause)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// follow runs the pods of the node.
func (n *Node) follow(ctx context.Context) {
	snapshot := n.c.Client.Snapshot()
	watch, err := n.c.Client.Watch(core.Pods, "", snapshot.Revision())
	if err != nil {
		n.c.t.Errorf("watch pods: %v", err)
		return
	}
	defer watch.Close()
	stops := map[types.UID]context.CancelFunc{}
	for _, o := range snapshot.Indexed(core.ByNode, n.Name) {
		n.take(ctx, stops, o, false)
	}
	for ctx.Err() == nil {
		changes, err := watch.Next(ctx)
		for i := range changes {
			n.take(ctx, stops, changes[i].Object, changes[i].Deleted)
		}
		if err != nil && ctx.Err() == nil {
			n.c.t.Errorf("watch pods: %v", err)
			return
		}
	}
}

// take starts or stops a pod.
func (n *Node) take(ctx context.Context, stops map[types.UID]context.CancelFunc, o core.Object, deleted bool) {
	pod, ok := o.(*corev1.Pod)
	if !ok || pod.Spec.NodeName != n.Name {
		return
	}
	stop, runs := stops[pod.UID]
	switch {
	case deleted:
		if runs {
			stop()
			delete(stops, pod.UID)
		}
	case pod.DeletionTimestamp != nil:
		if runs {
			stop()
		}
		stops[pod.UID] = func() {}
		n.done.Go(func() { n.remove(ctx, pod) })
	case !runs && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed:
		inner, cancel := context.WithCancel(ctx)
		stops[pod.UID] = cancel
		n.done.Go(func() { n.run(inner, pod) })
	}
}

// remove lets the core know that a pod has stopped.
func (n *Node) remove(ctx context.Context, pod *corev1.Pod) {
	_, _, err := n.c.Client.Delete(ctx, core.KeyFor(core.Pods, pod), core.DeleteOptions{
		Preconditions: metav1.NewUIDPreconditions(string(pod.UID)), GracePeriodSeconds: new(int64),
	})
	if err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		n.c.t.Errorf("remove pod %s: %v", pod.Name, err)
	}
}

// script is what a pod does: run for a time (0: for ever), then exit.
type script struct {
	run  time.Duration
	exit int32
}

func parseScript(text string) (script, error) {
	var s script
	words := strings.Fields(text)
	for ; len(words) >= 2; words = words[2:] {
		switch words[0] {
		case "run":
			d, err := time.ParseDuration(words[1])
			if err != nil {
				return s, fmt.Errorf("script %q: %w", text, err)
			}
			s.run = d
		case "exit":
			code, err := strconv.ParseInt(words[1], 10, 32)
			if err != nil {
				return s, fmt.Errorf("script %q: %w", text, err)
			}
			s.exit = int32(code)
		default:
			return s, fmt.Errorf("script %q: %q is neither run nor exit", text, words[0])
		}
	}
	if len(words) != 0 {
		return s, fmt.Errorf("script %q: %q lacks its value", text, words[0])
	}
	return s, nil
}

// run plays a pod's script until it has ended or is stopped.
func (n *Node) run(ctx context.Context, pod *corev1.Pod) {
	s, err := parseScript(pod.Annotations[ScriptAnnotation])
	if err != nil {
		n.c.t.Errorf("pod %s: %v", pod.Name, err)
		return
	}
	for restarts := int32(0); ctx.Err() == nil; restarts++ {
		n.tell(ctx, pod, corev1.PodRunning, restarts, nil)
		if s.run == 0 {
			return
		}
		sleep(ctx, s.run)
		if ctx.Err() != nil {
			return
		}
		ended := &corev1.ContainerStateTerminated{ExitCode: s.exit, Reason: "Completed", FinishedAt: metav1.Now()}
		if s.exit != 0 {
			ended.Reason = "Error"
		}
		again := pod.Spec.RestartPolicy == corev1.RestartPolicyAlways || (pod.Spec.RestartPolicy == corev1.RestartPolicyOnFailure && s.exit != 0)
		if !again {
			phase := corev1.PodSucceeded
			if s.exit != 0 {
				phase = corev1.PodFailed
			}
			n.tell(ctx, pod, phase, restarts, ended)
			return
		}
		n.tell(ctx, pod, corev1.PodRunning, restarts, ended)
		sleep(ctx, restartPause)
	}
}

var errGone = errors.New("the pod is another")

// tell writes a pod's status.
func (n *Node) tell(ctx context.Context, pod *corev1.Pod, phase corev1.PodPhase, restarts int32, ended *corev1.ContainerStateTerminated) {
	_, err := n.c.Client.Mutate(ctx, core.KeyFor(core.Pods, pod), func(o core.Object) error {
		p, ok := o.(*corev1.Pod)
		if !ok || p.UID != pod.UID {
			return errGone
		}
		writeStatus(p, phase, restarts, ended)
		return nil
	}, core.WriteOptions{Subresource: "status"})
	if err != nil && ctx.Err() == nil && !errors.Is(err, errGone) && !apierrors.IsNotFound(err) {
		n.c.t.Errorf("status of pod %s: %v", pod.Name, err)
	}
}

func writeStatus(p *corev1.Pod, phase corev1.PodPhase, restarts int32, ended *corev1.ContainerStateTerminated) {
	p.Status.Phase = phase
	if p.Status.StartTime == nil {
		p.Status.StartTime = new(metav1.Now())
	}
	ready := phase == corev1.PodRunning && ended == nil
	p.Status.ContainerStatuses = p.Status.ContainerStatuses[:0]
	for i := range p.Spec.Containers {
		s := corev1.ContainerStatus{Name: p.Spec.Containers[i].Name, Image: p.Spec.Containers[i].Image, RestartCount: restarts, Ready: ready}
		if ended != nil {
			s.State.Terminated = ended
		} else {
			s.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.Now()}
		}
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, s)
	}
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	for _, kind := range []corev1.PodConditionType{corev1.ContainersReady, corev1.PodReady} {
		setCondition(p, corev1.PodCondition{Type: kind, Status: status, LastTransitionTime: metav1.Now()})
	}
}

func setCondition(p *corev1.Pod, c corev1.PodCondition) {
	for i := range p.Status.Conditions {
		if is := &p.Status.Conditions[i]; is.Type == c.Type {
			if is.Status != c.Status {
				*is = c
			}
			return
		}
	}
	p.Status.Conditions = append(p.Status.Conditions, c)
}
