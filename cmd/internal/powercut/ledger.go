package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// writers is how many clients write at once.
const writers = 16

// ledger is what was acknowledged. Each name has one writer.
type ledger struct {
	mu sync.Mutex
	// acknowledged is the newest value of each name that was acknowledged;
	// "" is a deletion. sent is what was asked for after it, any of which may or
	// may not have happened.
	acknowledged map[string]string
	sent         map[string][]string
	closed       bool
	writes       int // acknowledged before a cut
	control      int // unsynced files that a cut took
}

func newLedger() *ledger {
	return &ledger{acknowledged: map[string]string{}, sent: map[string][]string{}}
}

func (l *ledger) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("%d acknowledged writes to %d objects, none missing; %d unsynced files lost, as they should be", l.writes, len(l.acknowledged), l.control)
}

func (l *ledger) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
}

func (l *ledger) send(name, value string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent[name] = append(l.sent[name], value)
}

func (l *ledger) acknowledge(name, value string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.acknowledged[name] = value
	delete(l.sent, name)
	l.writes++
}

// load writes until ctx ends or the core is gone: creates, and to some of the
// objects updates and deletions.
func (l *ledger) load(ctx context.Context, config *rest.Config, cut int) error {
	l.mu.Lock()
	l.closed = false
	l.mu.Unlock()
	var group sync.WaitGroup
	errs := make([]error, writers)
	for w := range writers {
		client, err := newClient(config)
		if err != nil {
			return err
		}
		group.Go(func() {
			for i := 0; errs[w] == nil && ctx.Err() == nil; i++ {
				errs[w] = l.write(ctx, client, fmt.Sprintf("c%d-w%d-%d", cut, w, i), i)
			}
		})
	}
	group.Wait()
	return nil // they end when the core does
}

func (l *ledger) write(ctx context.Context, client *kubernetes.Clientset, name string, i int) error {
	maps := client.CoreV1().ConfigMaps("default")
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"value": "1"}}
	l.send(name, "1")
	kept, err := maps.Create(ctx, object, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	l.acknowledge(name, "1")
	if i%3 == 0 {
		kept.Data["value"] = "2"
		l.send(name, "2")
		if _, err := maps.Update(ctx, kept, metav1.UpdateOptions{}); err != nil {
			return err
		}
		l.acknowledge(name, "2")
	}
	if i%5 == 0 {
		l.send(name, "")
		if err := maps.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			return err
		}
		l.acknowledge(name, "")
	}
	return nil
}

// check compares what a core knows with what was acknowledged. What was sent
// and not answered may have happened; from then on it is known which.
func (l *ledger) check(ctx context.Context, client *kubernetes.Clientset) error {
	list, err := client.CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	found := make(map[string]string, len(list.Items))
	for i := range list.Items {
		found[list.Items[i].Name] = list.Items[i].Data["value"]
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for name, want := range l.acknowledged {
		if found[name] != want && !slices.Contains(l.sent[name], found[name]) {
			errs = append(errs, fmt.Errorf("configmap %s is %q, acknowledged was %q", name, found[name], want))
		}
	}
	for name, value := range found {
		if _, ok := l.acknowledged[name]; !ok && !slices.Contains(l.sent[name], value) {
			errs = append(errs, fmt.Errorf("configmap %s is %q, which nobody has asked for", name, value))
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("%d of %d objects are wrong: %w", len(errs), len(l.acknowledged), errors.Join(errs[:min(len(errs), 5)]...))
	}
	for name := range l.sent {
		l.acknowledged[name] = found[name]
	}
	clear(l.sent)
	return nil
}

// checkControl counts the unsynced files that a cut took, and removes them.
func (l *ledger) checkControl(at string, cut int) error {
	if cut < 1 {
		return nil
	}
	data, err := os.ReadFile(control(at, cut))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(data) == 0 || data[len(data)-1] == 0 {
		l.control++
	}
	if err := os.Remove(control(at, cut)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// newClient makes a client with a connection of its own.
func newClient(config *rest.Config) (*kubernetes.Clientset, error) {
	own := rest.CopyConfig(config)
	own.QPS = -1
	own.Dial = (&net.Dialer{}).DialContext // else clients share a connection
	return kubernetes.NewForConfig(own)
}
