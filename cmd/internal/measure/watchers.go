package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// What the watchers are, and what changes meanwhile.
const (
	watcherCount = 1000
	watcherRate  = 500 // objects a second
	watcherTime  = 6 * time.Second
	watcherConns = 10 // connections that the watches share
)

// measureWatchers has 1,000 watches, each of its own namespace, hear of 500
// changes a second.
func measureWatchers(ctx context.Context, b *bench) error {
	b.group = fmt.Sprintf("%d watchers, %d objects/s", watcherCount, watcherRate)
	if err := b.spread(ctx, 16, watcherCount, func(ctx context.Context, c *cluster, i int) error {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("w", i)}}
		_, err := c.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
		return err
	}); err != nil {
		return err
	}
	before, err := readMemory(b.cmd.Process.Pid)
	if err != nil {
		return err
	}
	watches, err := b.openWatches(ctx)
	if err != nil {
		return err
	}
	var sent sync.Map // of object names: when
	var listening sync.WaitGroup
	lags := make([][]float64, len(watches))
	for i, w := range watches {
		listening.Go(func() { lags[i] = hear(w, &sent) })
	}
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	idle, err := readMemory(b.cmd.Process.Pid)
	if err != nil {
		return err
	}
	_, err = b.costs("CPU of "+watcherTime.String(), func() error { return b.change(ctx, &sent) })
	err = errors.Join(err, pause(ctx, time.Second)) // for the last events
	for _, w := range watches {
		w.Stop()
	}
	listening.Wait()
	if err != nil {
		return err
	}
	return b.addLags(lags, (idle.private-before.private)*1024/watcherCount)
}

func (b *bench) addLags(lags [][]float64, memory float64) error {
	var all []float64
	for _, l := range lags {
		all = append(all, l...)
	}
	if want := watcherRate * int(watcherTime.Seconds()); len(all) != want {
		return fmt.Errorf("%d events were heard of %d changes", len(all), want)
	}
	b.add("request to event, p50", "ms", 0, quantile(all, 0.5))
	b.add("request to event, p99", "ms", 50, quantile(all, 0.99))
	b.add("request to event, the last", "ms", 0, quantile(all, 1))
	b.add("memory of a watcher in the core", "KB", 50, memory)
	return nil
}

func (b *bench) openWatches(ctx context.Context) ([]watch.Interface, error) {
	clients := make([]*kubernetes.Clientset, watcherConns)
	for i := range clients {
		var err error
		if clients[i], err = b.client(); err != nil {
			return nil, err
		}
	}
	watches := make([]watch.Interface, watcherCount)
	group, ctx2 := errgroup.WithContext(ctx)
	group.SetLimit(watcherConns)
	for i := range watches {
		group.Go(func() (err error) {
			if ctx2.Err() != nil {
				return ctx2.Err()
			}
			watches[i], err = clients[i%watcherConns].CoreV1().ConfigMaps(fmt.Sprint("w", i+1)).Watch(ctx, metav1.ListOptions{})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	return watches, nil
}

// hear returns how long after its request each change was heard of.
func hear(w watch.Interface, sent *sync.Map) (lags []float64) {
	for event := range w.ResultChan() {
		object, ok := event.Object.(*corev1.ConfigMap)
		if !ok || event.Type != watch.Added {
			continue
		}
		if at, ok := sent.Load(object.Name); ok {
			lags = append(lags, milliseconds(time.Since(at.(time.Time))))
		}
	}
	return lags
}

// change creates objects at an even rate, in one namespace after the other.
func (b *bench) change(ctx context.Context, sent *sync.Map) error {
	const makers = 8
	begin := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	total := watcherRate * int(watcherTime.Seconds())
	for m := range makers {
		client, err := b.client()
		if err != nil {
			return err
		}
		group.Go(func() error {
			for i := m; i < total; i += makers {
				due := begin.Add(time.Duration(i) * time.Second / watcherRate)
				if err := pause(ctx, time.Until(due)); err != nil {
					return err
				}
				name := fmt.Sprint("e", i)
				sent.Store(name, time.Now())
				if _, err := client.CoreV1().ConfigMaps(fmt.Sprint("w", i*7%watcherCount+1)).Create(ctx, configMap(name), metav1.CreateOptions{}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// measureStarts starts cores on 10,000 and 100,000 ConfigMaps of 1 KB, after a
// kill, and says what each object takes in memory.
func measureStarts(ctx context.Context, o *options, r *Report) (err error) {
	folder, err := newFolder(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	var empty float64
	for made, stage := 0, 0; stage < 3; stage++ {
		objects, ceiling := []int{0, 10_000, 100_000}[stage], []float64{1000, 800, 2500}[stage]
		if made, err = fill(ctx, o, folder, made, objects); err != nil {
			return err
		}
		c, err := start(ctx, o, folder, "core")
		if err != nil {
			return err
		}
		b := &bench{cluster: c, options: o, report: r, group: "start after kill -9"}
		b.add(fmt.Sprintf("with %d objects", objects), "ms", ceiling, milliseconds(c.ready))
		err = pause(ctx, 4*time.Second) // what only the start needed is given back
		m, merr := readMemory(c.cmd.Process.Pid)
		if err := errors.Join(err, merr, c.kill()); err != nil {
			return err
		}
		if stage == 0 {
			empty = m.private
			continue
		}
		b.add(fmt.Sprintf("memory for each of %d", objects), "KB", 4, (m.private-empty)*1024/float64(objects))
	}
	size, err := folderSize(filepath.Join(folder, "nats", "streams"))
	r.Add("start after kill -9", "disk with 100000 objects", "MB", 0, size)
	return err
}

// fill makes objects until there are as many, and kills the core.
func fill(ctx context.Context, o *options, folder string, made, objects int) (int, error) {
	c, err := start(ctx, o, folder, "core")
	if err != nil {
		return made, err
	}
	value := strings.Repeat("a kilobyte in all ", 50)
	err = c.spread(ctx, 32, objects-made, func(ctx context.Context, own *cluster, i int) error {
		object := configMap(fmt.Sprint("s", made+i))
		object.Data["value"] = value
		_, err := own.CoreV1().ConfigMaps("default").Create(ctx, object, metav1.CreateOptions{})
		return err
	})
	return objects, errors.Join(err, c.kill())
}

// kill ends weft at once.
func (c *cluster) kill() error {
	if err := syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL); err != nil {
		return err
	}
	_ = c.cmd.Wait() // it was killed
	return nil
}

func folderSize(folder string) (float64, error) {
	total := int64(0)
	err := filepath.Walk(folder, func(_ string, info os.FileInfo, err error) error {
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return float64(total) / (1 << 20), err
}
