package node_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// forgetReports has the core lose what it was told since: it was never
// acknowledged.
func (w *world) forgetReports() {
	w.link.mu.Lock()
	defer w.link.mu.Unlock()
	w.link.status, w.link.gone = map[types.UID]corev1.PodStatus{}, map[types.UID]bool{}
}

// TestRunsOnWithoutCore restarts a node, alone and with its executor, while no
// core answers, and has one come back.
func TestRunsOnWithoutCore(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		web, crashes, once, failed := pod("web", "Always", "run forever"), pod("crashes", "Always", "run 1s exit 3"),
			pod("once", "Never", "run 30s exit 0"), pod("failed", "Never", "exit 7")
		for _, p := range []*corev1.Pod{web, crashes, once, failed} {
			w.set(p)
		}
		time.Sleep(5 * time.Second)
		w.want(web, "Running running")
		w.want(failed, "Failed Error:7")
		w.link.away.Store(true)
		w.stop()
		w.forgetReports()

		started := w.rt.Started()
		w.start() // the executor is there still
		time.Sleep(time.Second)
		w.want(web, "Running running")
		w.want(failed, "Failed Error:7")          // told again: who knows whether it arrived
		if n := w.rt.Started() - started; n > 1 { // crashes
			t.Errorf("%d starts though everything ran", n)
		}
		time.Sleep(time.Minute)
		w.want(once, "Succeeded Completed:0")

		w.stop()
		w.rt.Lose()
		w.forgetReports()
		w.start() // and now it is not
		time.Sleep(time.Second)
		w.want(web, "Running running")
		w.want(once, "Succeeded Completed:0")
		w.want(failed, "Failed Error:7")
		if s := w.container(web); s.RestartCount != 1 || s.LastTerminationState.Terminated.Reason != "ContainerStatusUnknown" {
			t.Errorf("web: %+v", s)
		}
		w.rt.Lose()
		time.Sleep(time.Hour) // for as long as it takes
		w.want(web, "Running running")
		if s := w.container(crashes); s.RestartCount < 10 {
			t.Errorf("crashes was restarted %d times in an hour", s.RestartCount)
		}

		started = w.rt.Started()
		w.link.away.Store(false)
		time.Sleep(2 * time.Second)
		w.want(web, "Running running")
		if s := w.container(web); s.RestartCount != 2 {
			t.Errorf("web was restarted %d times", s.RestartCount)
		}
		if n := w.rt.Started() - started; n > 1 { // crashes, perhaps
			t.Errorf("%d starts when the core came back", n)
		}
	})
}

// TestWhatWasDeletedStaysDeleted: a pod that the core was told is gone is not
// run again by an agent that has only its disk.
func TestWhatWasDeletedStaysDeleted(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		asked, forced, stays := pod("asked", "Always", "graceful run forever"), pod("forced", "Always", "run forever"), pod("stays", "Always", "run forever")
		for _, p := range []*corev1.Pod{asked, forced, stays} {
			w.set(p)
		}
		time.Sleep(time.Second)
		w.remove(asked, 30)
		w.remove(forced, 0)
		time.Sleep(time.Second)
		w.want(asked, "Succeeded Completed:0 gone")
		w.link.away.Store(true)
		for range 2 {
			w.stop()
			w.rt.Lose()
			started := w.rt.Started()
			w.start()
			time.Sleep(time.Minute)
			if n := w.rt.Started() - started; n != 1 {
				t.Errorf("%d starts, want that of stays", n)
			}
		}
	})
}

// TestDamagedLedger: an agent whose disk is damaged starts nothing and stops
// nothing until the core says what is desired.
func TestDamagedLedger(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		web := pod("web", "Always", "run forever")
		w.set(web)
		time.Sleep(time.Second)
		w.link.away.Store(true)
		w.stop()
		path := filepath.Join(w.ledger, "ledger")
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 4
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		started := w.rt.Started()
		w.start()
		time.Sleep(time.Hour)
		if open, _ := w.rt.Sandboxes(t.Context()); len(open) != 1 || w.rt.Started() != started {
			t.Errorf("open: %v, %d starts", open, w.rt.Started()-started)
		}
		w.link.away.Store(false)
		time.Sleep(2 * time.Second)
		w.want(web, "Running running")
		if n := w.rt.Started() - started; n != 0 {
			t.Errorf("%d starts", n)
		}
		if aside, err := os.ReadFile(path + ".damaged"); err != nil || !bytes.Equal(aside, data) {
			t.Errorf("it was not set aside: %v", err)
		}
	})
}

// TestCoreForgot: a core whose state is older, as from a backup, is told anew
// what it does not have.
func TestCoreForgot(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		web := pod("web", "Always", "run forever")
		w.set(web)
		time.Sleep(time.Second)
		w.want(web, "Running running")
		w.forgetReports()
		w.link.mu.Lock()
		w.link.sink.Reset(1, w.link.desired) // with no status
		w.link.mu.Unlock()
		time.Sleep(time.Second)
		w.want(web, "Running running")
		w.link.mu.Lock()
		reports := w.link.reports
		current := web.DeepCopy()
		current.Status = w.link.status[web.UID]
		w.link.desired[keyOf(web)] = current
		w.link.sink.Reset(1, w.link.desired) // and this one has it
		w.link.mu.Unlock()
		time.Sleep(time.Second)
		w.want(web, "Running running")
		w.link.mu.Lock()
		defer w.link.mu.Unlock()
		if w.link.reports != reports {
			t.Error("the core was told what it has")
		}
	})
}
