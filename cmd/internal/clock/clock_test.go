package clock

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestJump(t *testing.T) {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		says   time.Duration // after begin
		passed time.Duration
		want   time.Duration
	}{
		"as time passes":      {time.Second, time.Second, 0},
		"stood still with it": {time.Minute, time.Minute, 0},
		"corrected slowly":    {time.Second + 400*time.Millisecond, time.Second, 0},
		"forth":               {time.Hour + time.Second, time.Second, time.Hour},
		"back":                {-time.Hour, time.Second, -time.Hour - time.Second},
		"by ten years":        {10 * 365 * 24 * time.Hour, time.Second, 10*365*24*time.Hour - time.Second},
		"slept":               {8 * time.Hour, time.Second, 8*time.Hour - time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			if got := jump(reading{begin, 0}, reading{begin.Add(tt.says), tt.passed}); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// TestWatch lets an hour pass in which the clock jumps twice.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var log bytes.Buffer
		var jumps []Jump
		var off time.Duration
		w := New(slog.New(slog.NewTextHandler(&log, nil)), func(j Jump) { jumps = append(jumps, j) })
		begin := time.Now()
		w.read = func() reading {
			mu.Lock()
			defer mu.Unlock()
			return reading{time.Now().Add(off).Round(0), time.Since(begin)}
		}
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() { _ = w.Run(ctx) }) // it has no errors
		time.Sleep(20 * time.Minute)
		if _, ok := w.Last(); ok {
			t.Error("it jumped before it did")
		}
		for _, by := range []time.Duration{time.Hour, -2 * time.Hour} {
			mu.Lock()
			off += by
			mu.Unlock()
			time.Sleep(20 * time.Minute)
			if last, ok := w.Last(); !ok || last.By != by {
				t.Errorf("the last jump is %s, want %s", last.By, by)
			}
		}
		cancel()
		group.Wait()
		if len(jumps) != 2 || strings.Count(log.String(), "the clock jumped") != 2 || !strings.Contains(log.String(), "by=-2h0m0s") {
			t.Errorf("%d jumps, logged:\n%s", len(jumps), &log)
		}
	})
}
