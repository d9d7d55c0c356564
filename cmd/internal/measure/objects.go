package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "measure"}},
		Data:       map[string]string{"greeting": "good day", "purpose": "to be written, and read again"},
	}
}

// measureWrites creates ConfigMaps, each of which is durable when it is
// answered.
func measureWrites(ctx context.Context, b *bench) error {
	b.group = "durable creates over TLS"
	least := map[int]float64{1: 1000, 16: 4000, 64: 5000}
	for _, clients := range []int{1, 16, 64} {
		count := b.creates
		if clients == 1 {
			count = max(b.creates/4, 1)
		}
		connected, err := b.connect(ctx, clients)
		if err != nil {
			return err
		}
		took, err := b.costs(fmt.Sprintf("CPU of %d, %d at once", count, clients), func() error {
			return spread(ctx, connected, count, func(ctx context.Context, c *cluster, i int) error {
				_, err := c.CoreV1().ConfigMaps("default").Create(ctx, configMap(fmt.Sprintf("c%d-%d", clients, i)), metav1.CreateOptions{})
				return err
			})
		})
		if err != nil {
			return err
		}
		b.add(fmt.Sprintf("rate, %d at once", clients), "1/s", least[clients], float64(count)/took.Seconds())
	}
	return b.measureWatch(ctx)
}

// connect makes clients with a connection each.
func (c *cluster) connect(ctx context.Context, clients int) ([]*cluster, error) {
	all := make([]*cluster, clients)
	group, ctx := errgroup.WithContext(ctx)
	for i := range all {
		clientset, err := c.client()
		if err != nil {
			return nil, err
		}
		all[i] = &cluster{Clientset: clientset}
		group.Go(func() error {
			_, err := clientset.CoreV1().Namespaces().Get(ctx, "default", metav1.GetOptions{})
			return err
		})
	}
	return all, group.Wait()
}

// spread has work done count times by clients, each of which does one at a time.
func spread(ctx context.Context, clients []*cluster, count int, work func(ctx context.Context, c *cluster, i int) error) error {
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for _, own := range clients {
		group.Go(func() error {
			for i := int(next.Add(1)); i <= count; i = int(next.Add(1)) {
				if err := work(ctx, own, i); err != nil {
					return fmt.Errorf("object %d: %w", i, err)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// spread has work done count times by so many clients, with new connections.
func (c *cluster) spread(ctx context.Context, clients, count int, work func(ctx context.Context, c *cluster, i int) error) error {
	connected, err := c.connect(ctx, clients)
	if err != nil {
		return err
	}
	return spread(ctx, connected, count, work)
}

// measureWatch times writes from the request until a watch tells of them.
func (b *bench) measureWatch(ctx context.Context) error {
	b.group = "write to watch event"
	w, err := b.CoreV1().ConfigMaps("default").Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=seen"})
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	defer w.Stop()
	c, err := b.CoreV1().ConfigMaps("default").Create(ctx, configMap("seen"), metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if _, err := await(ctx, w, c.ResourceVersion); err != nil {
		return err
	}
	var values []float64
	for i := range 300 {
		c.Data["round"] = fmt.Sprint(i)
		begin := time.Now()
		if c, err = b.CoreV1().ConfigMaps("default").Update(ctx, c, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("update: %w", err)
		}
		at, err := await(ctx, w, c.ResourceVersion)
		if err != nil {
			return err
		}
		values = append(values, milliseconds(at.Sub(begin)))
	}
	b.add("p50", "ms", 1.5, quantile(values, 0.5))
	b.add("p99", "ms", 6, quantile(values, 0.99))
	return nil
}

func await(ctx context.Context, w watch.Interface, version string) (time.Time, error) {
	for {
		select {
		case event, ok := <-w.ResultChan():
			if !ok {
				return time.Time{}, fmt.Errorf("watch: it ended")
			}
			if c, ok := event.Object.(*corev1.ConfigMap); ok && c.ResourceVersion == version {
				return time.Now(), nil
			}
		case <-time.After(patience):
			return time.Time{}, fmt.Errorf("watch: no event for version %s", version)
		case <-ctx.Done():
			return time.Time{}, context.Cause(ctx)
		}
	}
}

// measureLists lists pods that no scheduler takes, in each encoding.
func measureLists(ctx context.Context, b *bench) error {
	b.group = fmt.Sprintf("list of %d pods", b.objects)
	t := template("park.wasm", "listed", corev1.RestartPolicyAlways)
	t.Spec.SchedulerName = "nobody"
	err := b.spread(ctx, 16, b.objects, func(ctx context.Context, c *cluster, i int) error {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("listed-%d", i), Labels: t.Labels}, Spec: t.Spec}
		_, err := c.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return err
	}
	client, err := b.plain()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	for _, form := range []struct{ name, accept string }{
		{"JSON", "application/json"},
		{"protobuf", "application/vnd.kubernetes.protobuf"},
		{"Table", "application/json;as=Table;v=v1;g=meta.k8s.io"},
	} {
		var size int64
		took, err := b.costs("CPU, "+form.name, func() error {
			size, err = b.read(ctx, client, form.accept)
			return err
		})
		if err != nil {
			return err
		}
		b.add(form.name, "ms", 0, milliseconds(took))
		b.add(form.name+", size", "MB", 0, float64(size)/(1<<20))
	}
	b.group = fmt.Sprintf("memory, %d listed pods", b.objects)
	return b.memory(0)
}

// read reads one list and returns its size in bytes.
func (b *bench) read(ctx context.Context, client *http.Client, accept string) (int64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.config.Host+"/api/v1/namespaces/default/pods", nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Accept", accept)
	answer, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = answer.Body.Close() }() // only read
	if answer.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("list pods: %s", answer.Status)
	}
	return io.Copy(io.Discard, answer.Body)
}
