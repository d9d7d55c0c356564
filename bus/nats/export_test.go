package nats

import "github.com/weftrun/weft/bus"

// ForgetRenewal returns a function that puts a lease back to how it is now,
// as if it had not heard of what happened in between.
func ForgetRenewal(l bus.Lease) func() {
	own := l.(*lease)
	sequence := own.sequence
	return func() { own.sequence = sequence }
}

// Beat is exported for tests.
const Beat = beat
