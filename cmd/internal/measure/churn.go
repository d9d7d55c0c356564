package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// A day of churn: a rollout of 1,000 pods every five minutes, each of which is
// written five times: created, bound, reported Running, marked, deleted.
const (
	dayPods    = 24 * 60 / 5 * 1000
	podUpdates = 3
	// bundlePods are the pods that one object stands for, so that a day's bytes
	// fit into a minute: it is bytes that fill a disk.
	bundlePods   = 10
	bundlesAlive = 1000 / bundlePods
	churners     = 8
	sampleEvery  = 250 * time.Millisecond
)

// Ceilings of the disk, in MB. The log keeps what the older of two snapshots
// lacks, two times 64 MB at most, and what comes while the next snapshot is
// written and read back. Beside it are at most three snapshots of some MB, and
// what the server keeps in its blocks of 8 MB until it can drop one whole.
const (
	diskCeiling   = 2*64 + 64 + 32
	memoryCeiling = 24 // MB between a quarter of the time and its end
)

// measureChurn writes the volume of a day through the API, and looks at the
// disk and the core's memory meanwhile.
func measureChurn(ctx context.Context, b *bench) error {
	b.group = fmt.Sprintf("churn, the volume of %g days in %s at most", b.churnDays, b.churnTime)
	text, err := podText()
	if err != nil {
		return err
	}
	var s samples
	sampling, stop := context.WithCancel(ctx)
	var sampler sync.WaitGroup
	sampler.Go(func() { s.take(sampling, b.data, b.cmd.Process.Pid) })
	var lives, written int64
	took, err := b.costs("CPU", func() error {
		lives, written, err = b.churn(ctx, text)
		return err
	})
	stop()
	sampler.Wait()
	if err := errors.Join(err, s.err); err != nil {
		return err
	}
	if len(s.disk) < 8 {
		return fmt.Errorf("churn: only %d samples within %s", len(s.disk), took)
	}
	if err := pause(ctx, 3*time.Second); err != nil { // a snapshot under way
		return err
	}
	atEnd, err := diskUse(b.data)
	if err != nil {
		return err
	}
	b.add("days", "x", 0, float64(lives*bundlePods)/dayPods)
	b.add("sent", "MB", 0, float64(written)/(1<<20))
	b.add("pods' writes", "1/s", 0, float64(lives*bundlePods*(podUpdates+2))/took.Seconds())
	b.add("disk, the most", "MB", diskCeiling, slices.Max(s.disk))
	b.add("disk, at the end", "MB", diskCeiling, atEnd)
	quarter := len(s.memory) / 4
	second, last := quantile(s.memory[quarter:2*quarter], 0.5), quantile(s.memory[3*quarter:], 0.5)
	b.add("written by core, second quarter", "MB", 0, second)
	b.add("written by core, last quarter", "MB", 0, last)
	b.add("growth of that", "MB", memoryCeiling, last-second)
	return nil
}

// samples are the disk's and the memory's use over time, in MB.
type samples struct {
	disk, memory []float64
	err          error
}

func (s *samples) take(ctx context.Context, folder string, pid int) {
	for pause(ctx, sampleEvery) == nil {
		disk, err := diskUse(folder)
		m, merr := readMemory(pid)
		if s.err = errors.Join(err, merr); s.err != nil {
			return
		}
		s.disk, s.memory = append(s.disk, disk), append(s.memory, m.private)
	}
}

// diskUse returns how many MB of the disk the files in a folder take. Files may
// come and go meanwhile.
func diskUse(folder string) (float64, error) {
	blocks := int64(0)
	err := filepath.WalkDir(folder, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = entry.Info(); err == nil {
				if s, ok := info.Sys().(*syscall.Stat_t); ok {
					blocks += s.Blocks
				}
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("measure disk: %w", err)
	}
	return float64(blocks*512) / (1 << 20), nil
}

// churn has objects live and die until it was a day's volume or the time is
// over. It returns how many did, and how many bytes were sent.
func (b *bench) churn(ctx context.Context, text string) (lives, written int64, err error) {
	total := int64(b.churnDays * dayPods / bundlePods)
	end := time.Now().Add(b.churnTime)
	var next, done, sent atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for worker := range churners {
		group.Go(func() error {
			client, err := b.client()
			if err != nil {
				return err
			}
			c := churner{cluster: &cluster{Clientset: client}, text: text, random: rand.New(rand.NewPCG(1, uint64(worker)))}
			for n := next.Add(1); n <= total && time.Now().Before(end); n = next.Add(1) {
				bytes, err := c.turn(ctx, fmt.Sprint("bundle-", n))
				if err != nil {
					return err
				}
				sent.Add(bytes)
				done.Add(1)
			}
			return nil
		})
	}
	err = group.Wait()
	return done.Load(), sent.Load(), err
}

// churner is one client. It keeps its share of the objects alive.
type churner struct {
	*cluster
	text   string
	random *rand.Rand
	alive  []string
}

// turn has an object live, and its oldest one die.
func (c *churner) turn(ctx context.Context, name string) (bytes int64, err error) {
	bytes, err = live(ctx, c.cluster, name, c.text, c.random)
	if err != nil {
		return bytes, err
	}
	if c.alive = append(c.alive, name); len(c.alive) > bundlesAlive/churners {
		if err := c.CoreV1().ConfigMaps("default").Delete(ctx, c.alive[0], metav1.DeleteOptions{}); err != nil {
			return bytes, fmt.Errorf("delete %s: %w", c.alive[0], err)
		}
		c.alive = c.alive[1:]
	}
	return bytes, nil
}

// live creates an object and updates it as often as its pods are.
func live(ctx context.Context, c *cluster, name, text string, random *rand.Rand) (bytes int64, err error) {
	object := configMap(name)
	for update := range podUpdates + 1 {
		for i := range bundlePods {
			object.Data[fmt.Sprint("pod-", i)] = fresh(text, random)
			bytes += int64(len(text))
		}
		if update == 0 {
			object, err = c.CoreV1().ConfigMaps("default").Create(ctx, object, metav1.CreateOptions{})
		} else {
			object, err = c.CoreV1().ConfigMaps("default").Update(ctx, object, metav1.UpdateOptions{})
		}
		if err != nil {
			return bytes, fmt.Errorf("write %s: %w", name, err)
		}
	}
	return bytes, nil
}

// randomMark marks the places in the text of a pod that differ from pod to pod.
const randomMark = "RANDOM00"

// fresh returns the text of another pod.
func fresh(text string, random *rand.Rand) string {
	parts := strings.Split(text, randomMark)
	var out strings.Builder
	for i, part := range parts {
		if i > 0 {
			fmt.Fprintf(&out, "%08x", random.Uint32())
		}
		out.WriteString(part)
	}
	return out.String()
}

// podText is a running pod of a Deployment as JSON, with marks where pods
// differ.
func podText() (string, error) {
	t := template("park.wasm", "park", corev1.RestartPolicyAlways)
	now, controller := metav1.Now(), true
	uid := randomMark + "-" + randomMark + "-" + randomMark + "-" + randomMark
	var conditions []corev1.PodCondition
	for _, kind := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady, corev1.PodReadyToStartContainers} {
		conditions = append(conditions, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	pod := &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Name: "park-5d8f7c9b6-" + randomMark, Namespace: "default", UID: types.UID(uid), GenerateName: "park-5d8f7c9b6-",
			ResourceVersion: "1" + randomMark, CreationTimestamp: now, Labels: map[string]string{"app": "park", "pod-template-hash": "5d8f7c9b6"},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "park-5d8f7c9b6", UID: "0d7c2f4e-8f0a-4b55-9a59-5d8a3a3f6a10", Controller: &controller, BlockOwnerDeletion: &controller,
			}},
			ManagedFields: []metav1.ManagedFieldsEntry{{
				Manager: "weft", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", Time: &now, FieldsType: "FieldsV1",
				FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:generateName":{},"f:labels":{".":{},"f:app":{},"f:pod-template-hash":{}},"f:ownerReferences":{}},"f:spec":{"f:containers":{"k:{\"name\":\"main\"}":{".":{},"f:image":{},"f:name":{}}},"f:restartPolicy":{}}}`),
			}},
		},
		Spec: t.Spec,
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, Conditions: conditions, HostIP: "10.0.0.7", PodIP: "10.1.2.3", StartTime: &now,
			ContainerStatuses: []corev1.ContainerStatus{{
				Name: "main", Image: "file:park.wasm", ImageID: "sha256:" + strings.Repeat("5d8f7c9b", 8), ContainerID: "weft://" + uid,
				Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
			}},
		},
	}
	data, err := json.Marshal(pod)
	if err != nil {
		return "", fmt.Errorf("encode a pod: %w", err)
	}
	return string(data), nil
}
