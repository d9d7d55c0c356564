package metrics

import (
	"time"

	"github.com/weftrun/weft/core"
)

// The spans of time over which CPU time is a rate that tells something.
const (
	minWindow = time.Second
	maxWindow = 5 * time.Minute
	// freshMax is until what age something that was measured once is judged by
	// all of its life.
	freshMax = 2 * core.UsageInterval
)

// point is what something had used at one time.
type point struct {
	time time.Time
	used core.Usage
}

// series is the two newest points of one thing's life. Its zero value has none.
type series struct {
	last, before point // the zero time: there is none
}

// add takes in a point. A life that is another one, a clock that was set back
// and a counter that fell begin anew: there is no rate across them.
func (s *series) add(at time.Time, u core.Usage) {
	p := point{time: at, used: u}
	switch {
	case at.Equal(s.last.time):
	case s.last.time.IsZero() || at.Before(s.last.time) || !u.StartedAt.Equal(s.last.used.StartedAt) || u.CPU < s.last.used.CPU:
		s.last, s.before = p, point{}
	default:
		s.last, s.before = p, s.last
	}
}

// rate returns how much CPU was used in billionths of a core, and over which
// time; false if that cannot be told.
func (s *series) rate() (nanocores int64, window time.Duration, ok bool) {
	cpu := s.last.used.CPU
	if !s.before.time.IsZero() {
		window, cpu = s.last.time.Sub(s.before.time), cpu-s.before.used.CPU
	} else if window = s.last.time.Sub(s.last.used.StartedAt); window > freshMax {
		return 0, 0, false
	}
	if window < minWindow || window > maxWindow {
		return 0, 0, false
	}
	return int64(float64(cpu) / window.Seconds()), window, true
}
