package store_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/store"
)

// TestTimings commits two objects and is refused a third.
func TestTimings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		var mu sync.Mutex
		var committed []string
		appended := 0
		s, stop := d.open(t, func(c *store.Config) {
			c.Committed = func(op core.Op, took time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				if took < 0 {
					t.Errorf("%s took %s", op.Key, took)
				}
				committed = append(committed, op.Key.Name)
			}
			c.Appended = func(time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				appended++
			}
		})
		put(t, s, configMap("ns", "a", "1"), 0)
		put(t, s, configMap("ns", "b", "1"), 0)
		again := configMap("ns", "b", "2")
		if _, err := s.Commit(t.Context(), s.Epoch(), []core.Op{{Key: core.KeyFor(core.ConfigMaps, again), Object: again}}); err == nil {
			t.Error("b was created twice")
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if diff := cmp.Diff([]string{"a", "b"}, committed); diff != "" || appended != 2 {
			t.Errorf("%d records were told, and commits: %s", appended, diff)
		}
	})
}
