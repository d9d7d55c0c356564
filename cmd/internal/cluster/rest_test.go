package cluster

import "testing"

func TestResting(t *testing.T) {
	var r resting
	const mb = 1 << 20
	for i, step := range []struct {
		allocated uint64
		due       bool
	}{
		{10 * mb, false}, // it starts
		{30 * mb, false}, // a burst
		{30*mb + 100, true},
		{30*mb + 200, false}, // nothing new to collect
		{33 * mb, false},     // too little
		{33*mb + 1, false},
		{40 * mb, false}, // a burst
		{41*mb - 1, true},
	} {
		due := r.due(step.allocated)
		if due != step.due {
			t.Errorf("step %d, %d bytes: due is %v", i, step.allocated, due)
		}
		if due {
			r.done(step.allocated)
		}
	}
}
