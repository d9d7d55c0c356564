package node_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// TestTimings starts pods of which one restarts and one cannot start, and has
// another agent find them.
func TestTimings(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.set(pod("web", corev1.RestartPolicyAlways, "run forever", "run 1s exit 1"))
		w.set(pod("once", corev1.RestartPolicyNever, "exit 0"))
		time.Sleep(5 * time.Second)
		want := func(want map[string]int) {
			t.Helper()
			w.mu.Lock()
			defer w.mu.Unlock()
			got := map[string]int{}
			for name, times := range w.times {
				got[name] = len(times)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
		want(map[string]int{"worker": 2, "pod": 2, "start": 4}) // web's second container once more
		w.stop()
		w.start()
		time.Sleep(time.Second)
		// They are known to run; the back-off of web's second container was the
		// agent's, and ended with it.
		want(map[string]int{"worker": 2, "start": 1})
	})
}
