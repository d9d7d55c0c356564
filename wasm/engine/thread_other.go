//go:build !linux

package engine

// threadTime returns the time of the clock: there is no way in common to learn
// what a thread has had.
func threadTime() int64 { return now() }

func yield(bool) {}
