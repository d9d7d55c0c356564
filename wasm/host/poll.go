package host

import (
	"time"

	"github.com/tetratelabs/wazero/api"
)

// Sizes and kinds of poll_oneoff's structures.
const (
	subscriptionBytes = 48
	eventBytes        = 32
	// maxSubscriptions bounds how long the host looks at them on one call. Go
	// asks for up to 65,536.
	maxSubscriptions = 1 << 17

	eventClock   = 0
	eventFdRead  = 1
	eventFdWrite = 2

	hangup = 1 // the flag of an event: nothing will come any more
)

// poll is one call of poll_oneoff.
type poll struct {
	guest    *Guest
	in, out  []byte
	events   int
	deadline time.Time // of the first clock, zero if there is none
	waits    bool      // a subscription waits for the guest to be asked to end
}

// pollOneoff waits until one of the things that the guest subscribes to has
// happened, and says which have. A guest that waits costs nothing but its
// memory and a timer.
func pollOneoff(g *Guest, mem api.Memory, p []uint64) errno {
	n := uint32(p[2])
	if n == 0 || n > maxSubscriptions {
		return eINVAL
	}
	in, ok := mem.Read(uint32(p[0]), n*subscriptionBytes)
	if !ok {
		return eFAULT
	}
	out, ok := mem.Read(uint32(p[1]), n*eventBytes)
	if !ok {
		return eFAULT
	}
	g.alive()
	c := poll{guest: g, in: in, out: out}
	begin := time.Now()
	if e := c.look(begin); e != success {
		return e
	}
	for c.events == 0 {
		c.sleep()
		if e := c.look(begin); e != success {
			return e
		}
	}
	return put32(mem, p[3], uint32(c.events))
}

// look writes an event for all that has happened. Relative times count from
// begin.
func (c *poll) look(begin time.Time) errno {
	c.deadline, c.waits = time.Time{}, false
	at := time.Now()
	for off := 0; off < len(c.in); off += subscriptionBytes {
		s := c.in[off : off+subscriptionBytes]
		switch kind := s[8]; kind {
		case eventClock:
			due, e := c.due(s, begin, at)
			switch {
			case e == eINVAL:
				return e
			case e != success:
				c.event(s, e, 0, 0)
			case !due.After(at):
				c.event(s, success, 0, 0)
			case c.deadline.IsZero() || due.Before(c.deadline):
				c.deadline = due
			}
		case eventFdRead, eventFdWrite:
			c.readiness(s, kind)
		default:
			return eINVAL
		}
	}
	return success
}

// due returns when a subscription of a clock is over.
func (c *poll) due(s []byte, begin, at time.Time) (time.Time, errno) {
	clock, timeout, flags := le.Uint32(s[16:]), le.Uint64(s[24:]), le.Uint16(s[40:])
	if flags > 1 || clock > clockThread {
		return time.Time{}, eINVAL
	}
	if clock != clockRealtime && clock != clockMonotonic {
		return time.Time{}, eNOTSUP // it stands still while the guest waits
	}
	d := time.Duration(min(timeout, 1<<62))
	if flags == 0 {
		return begin.Add(d), success
	}
	if clock == clockRealtime {
		// As far from now as the wall clock says, and looked at anew then: it
		// may be set meanwhile.
		return at.Add(d - time.Duration(at.UnixNano())), success
	}
	return origin.Add(d), success
}

// readiness writes an event if a descriptor can be read or written.
func (c *poll) readiness(s []byte, kind byte) {
	d, e := c.guest.table.get(uint64(le.Uint32(s[16:])), 0)
	if e != success {
		c.event(s, e, 0, 0)
		return
	}
	need := rightFdRead
	if kind == eventFdWrite {
		need = rightFdWrite
	}
	if d.base&need == 0 {
		c.event(s, eBADF, 0, 0)
		return
	}
	switch f := d.file.(type) {
	case *stopFile:
		if !c.guest.wasAsked() {
			c.waits = true
			return
		}
		c.event(s, success, uint64(len(stopText)-f.at), hangup)
	case stdin:
		c.event(s, success, 0, hangup)
	default:
		c.event(s, success, 1, 0) // files and logs are always ready
	}
}

func (c *poll) event(s []byte, e errno, bytes uint64, flags uint16) {
	out := c.out[c.events*eventBytes:][:eventBytes]
	userdata, kind := le.Uint64(s), s[8] // in and out may overlap
	clear(out)
	le.PutUint64(out, userdata)
	le.PutUint16(out[8:], uint16(e))
	out[10] = kind
	le.PutUint64(out[16:], bytes)
	le.PutUint16(out[24:], flags)
	c.events++
}

// sleep waits for the first deadline, or for the guest to be asked to end.
func (c *poll) sleep() {
	var due <-chan time.Time
	if !c.deadline.IsZero() {
		timer := c.guest.after(time.Until(c.deadline))
		defer timer.Stop()
		due = timer.C
	}
	var asked <-chan struct{}
	if c.waits {
		asked = c.guest.stop.asked
	}
	c.guest.wait(func() bool {
		select {
		case <-due:
		case <-asked:
		case <-c.guest.Done:
			return false
		}
		return true
	})
}
