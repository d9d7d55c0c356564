package node

import (
	"math"
	"testing"
	"time"
)

func TestSeconds(t *testing.T) {
	for n, want := range map[int64]time.Duration{0: 0, 30: 30 * time.Second, math.MaxInt64: 100 * 365 * 24 * time.Hour} {
		if got := seconds(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}
