package cluster

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A process is at rest when it allocates less than restBytes in a restLook.
// What it had to allocate before for a collection to be worth it is restWorth.
const (
	restLook  = 5 * time.Second
	restBytes = 1 << 20
	restWorth = 4 << 20
)

// rest gives memory back to the operating system whenever this process comes
// to rest, until ctx ends. Go alone collects what a start or a burst has left
// only when as much again was allocated, or after two minutes, and keeps the
// pages.
func rest(ctx context.Context) error {
	ticker := time.NewTicker(restLook)
	defer ticker.Stop()
	var r resting
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if r.due(allocated()) {
				debug.FreeOSMemory()
				r.done(allocated())
			}
		}
	}
}

// resting decides when to collect, from how much was ever allocated.
type resting struct {
	last      uint64 // at the last look
	collected uint64 // at the last collection
}

// due tells whether to collect now.
func (r *resting) due(allocated uint64) bool {
	quiet := allocated-r.last < restBytes
	r.last = allocated
	return quiet && allocated-r.collected >= restWorth
}

func (r *resting) done(allocated uint64) { r.last, r.collected = allocated, allocated }

// allocated returns how many bytes this process has ever allocated.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
