package host

import (
	"crypto/rand"
	"time"

	"github.com/tetratelabs/wazero/api"
)

// The clocks of WASI.
const (
	clockRealtime = iota
	clockMonotonic
	clockProcess // CPU time
	clockThread  // a guest has one thread
)

// origin is what monotonic times are relative to, so that they fit a guest.
var origin = time.Now()

func now() time.Time { return time.Now() }

// random fills p. It does not fail: crypto/rand ends the process before that.
func random(p []byte) { _, _ = rand.Read(p) }

// read returns a clock's time in nanoseconds, false if there is no such clock.
func (g *Guest) read(clock uint32) (int64, bool) {
	switch clock {
	case clockRealtime:
		return time.Now().UnixNano(), true
	case clockMonotonic:
		return int64(time.Since(origin)), true
	case clockProcess, clockThread:
		if g.CPU != nil {
			return int64(g.CPU()), true
		}
		return int64(time.Since(g.began) - g.Slept()), true
	}
	return 0, false
}

func clockTimeGet(g *Guest, mem api.Memory, p []uint64) errno {
	t, ok := g.read(uint32(p[0]))
	if !ok {
		return eINVAL
	}
	return put64(mem, p[2], uint64(t))
}

func clockResGet(_ *Guest, mem api.Memory, p []uint64) errno {
	switch uint32(p[0]) {
	case clockRealtime, clockMonotonic, clockProcess, clockThread:
		return put64(mem, p[1], 1)
	}
	return eINVAL
}
