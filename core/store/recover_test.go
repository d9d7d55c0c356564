package store

import (
	"testing"
	"time"
)

// TestNewTime: histories that begin at the same place part.
func TestNewTime(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := now.UnixMilli()
	for name, tc := range map[string]struct {
		term, start int64
		clock       bool // it is what the new history follows
	}{
		"young":                   {term: 2, start: 70_000, clock: true},
		"clock just ahead":        {term: at - 1, start: at<<10 - historyJump - 1, clock: true},
		"clock behind the log":    {term: at, start: at<<10 - historyJump},
		"clock far behind itself": {term: at + 1<<40, start: at<<10 + 1<<60},
	} {
		t.Run(name, func(t *testing.T) {
			term, start := newTime(now, tc.term, tc.start)
			if term < tc.term || start < tc.start+historyJump {
				t.Errorf("term %d after %d, revision %d after %d", term, tc.term, start, tc.start)
			}
			again, restart := newTime(now.Add(time.Second), tc.term, tc.start)
			if again == term || restart == start {
				t.Errorf("two begin with term %d and %d, revision %d and %d", term, again, start, restart)
			}
			if tc.clock && (again < term || restart < start) {
				t.Errorf("the clock is ahead, yet term %d follows %d, revision %d follows %d", again, term, restart, start)
			}
		})
	}
}
