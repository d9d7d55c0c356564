package store_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/store"
)

// TestSettled: what Latest shows while it is on its way to the log must not be
// told before it has arrived there, and never if it does not.
func TestSettled(t *testing.T) {
	for name, tt := range map[string]struct {
		fate func([]byte) (bool, error) // of the append
		want func(error) bool
	}{
		"committed":                 {func([]byte) (bool, error) { return true, nil }, func(err error) bool { return err == nil }},
		"the log refuses":           {refusedRequest, apierrors.IsServiceUnavailable},
		"the log fails":             {func([]byte) (bool, error) { return false, errOther }, apierrors.IsServiceUnavailable},
		"committed, answer is lost": {once(lostAnswer), func(err error) bool { return err == nil }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDisk()
				s, stop := d.open(t)
				d.wal.mu.Lock()
				d.wal.latency, d.wal.fault = time.Second, tt.fate
				d.wal.mu.Unlock()
				epoch := s.Epoch()
				var others sync.WaitGroup
				others.Go(func() { _ = create(t.Context(), s, "a") }) // what comes of it is the test's
				synctest.Wait()
				object, there := s.Latest(mapKey("ns", "a"))
				if !there {
					t.Fatal("what is on its way is not the latest")
				}
				begin := time.Now()
				hasty, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				defer cancel()
				if err := s.Settled(hasty, epoch); !apierrors.IsTimeout(err) {
					t.Errorf("before it is decided: %v, want a time-out", err)
				}
				if err := s.Settled(t.Context(), epoch); !tt.want(err) {
					t.Errorf("got %v", err)
				}
				if time.Since(begin) < 500*time.Millisecond {
					t.Error("it did not wait")
				}
				if _, err := s.WaitFor(t.Context(), core.Revision(object)); !tt.want(err) {
					t.Errorf("wait for the object's revision: %v", err)
				}
				if err := s.Settled(t.Context(), epoch); !tt.want(err) {
					t.Errorf("when it is decided: %v", err)
				}
				others.Wait()
				_ = stop() // what it says is another test's
			})
		})
	}
}

// TestSettledLeading: a store that may have been overtaken lets nothing be told.
func TestSettledLeading(t *testing.T) {
	d := newDisk()
	var mu sync.Mutex
	leading := true
	s, _ := d.open(t, func(c *store.Config) {
		c.Leading = func() bool {
			mu.Lock()
			defer mu.Unlock()
			return leading
		}
	})
	put(t, s, configMap("ns", "a", "1"), 0)
	if err := s.Settled(t.Context(), s.Epoch()); err != nil {
		t.Error(err)
	}
	mu.Lock()
	leading = false
	mu.Unlock()
	if err := s.Settled(t.Context(), s.Epoch()); !apierrors.IsServiceUnavailable(err) {
		t.Errorf("got %v, want unavailable", err)
	}
}

// TestCommitRests: what was computed upon a write that the log refused is not done.
func TestCommitRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		s, _ := d.open(t)
		d.wal.mu.Lock()
		d.wal.latency, d.wal.fault = time.Second, once(refusedRequest)
		d.wal.mu.Unlock()
		epoch := s.Epoch()
		var others sync.WaitGroup
		others.Go(func() { _ = create(t.Context(), s, "a") }) // it is refused
		synctest.Wait()
		if _, there := s.Latest(mapKey("ns", "a")); !there {
			t.Fatal("what is on its way is not the latest")
		}
		others.Wait()
		because := []core.Op{{Key: mapKey("ns", "b"), Object: configMap("ns", "b", "because of a")}}
		if _, err := s.Commit(t.Context(), epoch, because); !apierrors.IsServiceUnavailable(err) {
			t.Errorf("got %v, want unavailable", err)
		}
		if _, there := s.Latest(mapKey("ns", "b")); there {
			t.Error("it was done")
		}
		if _, err := s.Commit(t.Context(), s.Epoch(), because); err != nil {
			t.Error(err)
		}
	})
}
