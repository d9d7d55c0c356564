package executor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weftrun/weft/wasm"
)

var errSilent = errors.New("it gives no sign of life")

// session is the time with one process, and what is known of its instances.
type session struct {
	client *Client
	child  *child
	conn   *conn

	mu        sync.Mutex
	last      uint64
	calls     map[uint64]*call
	instances map[key]*instance
	over      bool
}

// key names an instance.
type key struct {
	Sandbox string `json:"sandbox"`
	ID      string `json:"id"`
}

// call is a request that has no reply yet.
type call struct {
	reply chan *message // 1: the reader never waits; closed if there is none
	// first is called with a good reply, in the order of the wire and before
	// whoever called goes on.
	first func(*message)
}

func newSession(c *Client, ch *child) *session {
	return &session{
		client: c, child: ch, conn: newConn(ch.conn),
		calls: map[uint64]*call{}, instances: map[key]*instance{},
	}
}

// run works until the process is lost or ctx ends.
func (s *session) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { s.conn.writeLoop(); return nil })
	g.Go(func() error { return s.conn.readLoop(s.receive) })
	g.Go(func() error {
		defer s.conn.close()
		return s.beat(ctx)
	})
	return g.Wait()
}

// beat asks for signs of life.
func (s *session) beat(ctx context.Context) error {
	every := s.client.config.Heartbeat
	tick := time.NewTicker(every)
	defer tick.Stop()
	var missed time.Duration
	var heard int64
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		// Beats are counted, and no clock is compared: if this process itself
		// was stopped for a while, that is not the child's fault.
		missed += every
		if at := s.conn.seen.Load(); at != heard {
			heard, missed = at, 0
		}
		if missed > s.client.config.Timeout {
			return errSilent
		}
		if err := s.conn.send(&message{Op: opPing}); err != nil {
			return fmt.Errorf("ask for a sign of life: %w", err)
		}
	}
}

func (s *session) receive(m *message) error {
	if m.ID == 0 {
		if m.Op == opEnded {
			for _, st := range m.States {
				s.learn(st)
			}
		}
		return nil
	}
	s.mu.Lock()
	c := s.calls[m.ID]
	delete(s.calls, m.ID)
	s.mu.Unlock()
	if c == nil {
		return fmt.Errorf("a reply to no request of ours: %s", m.Op)
	}
	if c.first != nil && m.Error == nil {
		c.first(m)
	}
	c.reply <- m
	return nil
}

// call sends a request and waits for its reply. If ctx ends first, the request
// is carried out all the same, and first still called.
func (s *session) call(ctx context.Context, m *message, first func(*message)) (*message, error) {
	c := &call{reply: make(chan *message, 1), first: first}
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		return nil, fmt.Errorf("executor is lost: %w", wasm.ErrGone)
	}
	s.last++
	m.ID = s.last
	s.calls[m.ID] = c
	s.mu.Unlock()
	if err := s.conn.send(m); err != nil {
		s.mu.Lock()
		delete(s.calls, m.ID)
		s.mu.Unlock()
		return nil, fmt.Errorf("%w: send %s: %w", wasm.ErrGone, m.Op, err)
	}
	select {
	case reply, ok := <-c.reply:
		if !ok {
			return nil, fmt.Errorf("executor was lost meanwhile: %w", wasm.ErrGone)
		}
		if reply.Error != nil {
			return nil, reply.Error
		}
		return reply, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// learn returns the instance that a state is about, made if it is new, and
// ended if the state says so.
func (s *session) learn(st state) *instance {
	k := key{st.Sandbox, st.ID}
	s.mu.Lock()
	i := s.instances[k]
	if i == nil {
		i = &instance{session: s, key: k, started: st.StartedAt, done: make(chan struct{})}
		s.instances[k] = i
	}
	s.mu.Unlock()
	if st.Exit != nil {
		i.finish(*st.Exit)
	}
	return i
}

// forget drops instances that were released or closed. One whose end was not
// told yet was killed by the closing.
func (s *session) forget(match func(key) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, i := range s.instances {
		if match(k) {
			delete(s.instances, k)
			i.finish(wasm.Exit{Reason: wasm.Killed, Code: 137, StartedAt: i.started, FinishedAt: time.Now()})
		}
	}
}

// end fails what waits. The process has ended, unless it lives on: then its
// instances are not lost, but this agent will not hear of them. Those that did
// not end before the process did so as lost says.
func (s *session) end(livesOn bool, lost wasm.Exit) {
	s.mu.Lock()
	s.over = true
	calls, instances := s.calls, s.instances
	s.calls, s.instances = nil, nil
	s.mu.Unlock()
	for _, c := range calls {
		close(c.reply)
	}
	if livesOn {
		return
	}
	recorded, err := readExits(s.client.config.Dir)
	if err != nil {
		s.client.config.Logger.Error("exits of the executor that is lost cannot be read", "err", err)
	}
	for k, i := range instances {
		if st, ok := recorded[k]; ok {
			i.finish(*st.Exit)
			continue
		}
		exit := lost
		exit.StartedAt, exit.FinishedAt = i.started, time.Now()
		i.finish(exit)
	}
}
