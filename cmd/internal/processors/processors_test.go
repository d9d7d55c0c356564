package processors

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestObserve(t *testing.T) {
	for name, tt := range map[string]struct {
		most int
		busy []float64
		want []int
	}{
		"idle":                   {8, []float64{0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, []int{8, 8, 4, 4, 4, 2, 2, 2, 1, 1}},
		"busy":                   {2, []float64{1.8, 1.8, 1.8, 1.8}, []int{2, 2, 2, 2}},
		"never below one":        {1, []float64{0, 0, 0, 0}, []int{1, 1, 1, 1}},
		"more at once":           {8, []float64{0, 0, 0, 0, 0, 0, 0, 0, 0, 0.98, 1.95, 3.9, 7.9}, []int{8, 8, 4, 4, 4, 2, 2, 2, 1, 2, 4, 8, 8}},
		"no more than there are": {3, []float64{0, 0, 0, 1, 3}, []int{3, 3, 1, 2, 3}},
		"more than half could":   {2, []float64{1.2, 1.2, 1.2, 1.2, 1.2}, []int{2, 2, 2, 2, 2}},
		"calm, but not in a row": {2, []float64{0.1, 0.1, 1.3, 0.1, 0.1, 0.1}, []int{2, 2, 2, 2, 2, 1}},
		"kept up with":           {2, []float64{0, 0, 0, 0.9, 0.9, 0.9}, []int{2, 2, 1, 1, 1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			g := governor{most: tt.most, now: tt.most}
			var got []int
			for _, busy := range tt.busy {
				before := g.now
				if changed := g.observe(busy); changed != (g.now != before) {
					t.Errorf("changed: %v, from %d to %d", changed, before, g.now)
				}
				got = append(got, g.now)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// TestGovern has a process that is busy for a minute in the middle of three.
func TestGovern(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		used := func() time.Duration {
			return min(max(2*(time.Since(begin)-time.Minute), 0), 2*time.Minute)
		}
		type change struct {
			to int
			at time.Duration
		}
		var got []change
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { govern(ctx, 2, used, func(n int) { got = append(got, change{n, time.Since(begin)}) }) })
		time.Sleep(3*time.Minute + look/2)
		cancel()
		running.Wait()
		want := []change{{1, calmLooks * look}, {2, time.Minute + look}, {1, 2*time.Minute + calmLooks*look}, {2, 3*time.Minute + look/2}}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}
