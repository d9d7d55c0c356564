package executor

import (
	"context"
	"fmt"
)

// apportion divides slots: everyone has one, as who has none could not even
// answer; what is left goes one by one to who still lacks most, and what
// nobody lacks to all in turn.
func apportion(slots int, hot []int) []int {
	given := make([]int, len(hot))
	left := slots
	for i := range hot {
		given[i] = 1
		if hot[i] > 0 {
			left--
		}
	}
	for ; left > 0 && len(hot) > 0; left-- {
		most := 0
		for i := range hot {
			if hot[i]-given[i] > hot[most]-given[most] {
				most = i
			}
		}
		given[most]++
	}
	for i := range given {
		given[i] = min(given[i], slots)
	}
	return given
}

// slotted is a runtime whose slots can be set.
type slotted interface {
	// SetSlots sets how many guests may compute at once.
	SetSlots(n int)
	// Hot returns how many compute now, or wait for a slot to do so.
	Hot() int
}

// slots handles opSlots: it sets them and says how many guests want one.
func (s *server) slots(m, reply *message) error {
	rt, ok := s.rt.(slotted)
	if !ok {
		return fmt.Errorf("slots: %T has none", s.rt)
	}
	if m.Slots > 0 {
		rt.SetSlots(m.Slots)
	}
	reply.Hot = rt.Hot()
	return nil
}

// demand returns how many guests wanted a slot when setSlots was called last.
func (c *Client) demand() int { return int(c.hot.Load()) }

// setSlots tells the child, if there is one, how many of its guests may compute
// at once. A child of the version before keeps what it has.
func (c *Client) setSlots(ctx context.Context, slots int) error {
	s := c.current()
	if s == nil || s.child.version < slotsSince {
		c.hot.Store(0)
		return nil
	}
	reply, err := s.call(ctx, &message{Op: opSlots, Slots: slots}, nil)
	if err != nil {
		c.hot.Store(0)
		return err
	}
	// A sample is of one moment; what was wanted fades instead of ending.
	c.hot.Store(max(int64(reply.Hot), c.hot.Load()/2))
	return nil
}
