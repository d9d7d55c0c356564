package executor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/weftrun/weft/wasm"
)

// dispatch handles what must be quick here, and the rest beside the reading.
func (s *server) dispatch(ctx context.Context, c *conn, m *message) error {
	if m.Op == opPing {
		return c.send(&message{ID: m.ID, Op: m.Op})
	}
	if m.Op == opQuit {
		err := c.send(&message{ID: m.ID, Op: m.Op})
		s.quit.Do(func() { close(s.dismissed) })
		return err
	}
	s.handlers.Go(func() {
		reply := &message{Op: m.Op}
		after, err := s.handle(ctx, m, reply)
		reply.ID, reply.Error = m.ID, toWire(err)
		if err := c.send(reply); err != nil {
			// The agent is told when it asks for all instances.
			s.log.Debug("reply was not sent", "op", string(m.Op), "err", err)
		}
		if after != nil {
			after()
		}
	})
	return nil
}

// handle fills in the reply. What it returns is called after that was sent.
func (s *server) handle(ctx context.Context, m, reply *message) (after func(), err error) {
	switch m.Op {
	case opPrepare:
		module, err := s.prepare(ctx, m)
		if err == nil {
			reply.MinMemory = module.MinMemory()
		}
		return nil, err
	case opOpen:
		_, err := s.rt.OpenSandbox(ctx, wasm.SandboxConfig{ID: m.Sandbox, Hostname: m.Hostname})
		return nil, err
	case opSandboxes:
		reply.IDs, err = s.rt.Sandboxes(ctx)
		return nil, err
	case opSlots:
		return nil, s.slots(m, reply)
	case opUsages:
		reply.Usages, err = s.usages(ctx)
		return nil, err
	}
	if !slices.Contains(aboutSandbox, m.Op) {
		return nil, fmt.Errorf("this executor does not know %q", m.Op)
	}
	if _, ok := s.record(m.Sandbox, m.Instance); ok && m.Op == opRelease {
		return nil, s.past(m.Sandbox, m, reply) // even if its sandbox is not open any more
	}
	sandbox, err := s.sandbox(ctx, m.Sandbox)
	if err != nil {
		return nil, err
	}
	switch m.Op {
	case opStart:
		return s.start(ctx, sandbox, m, reply)
	case opInstances:
		reply.States, err = s.states(ctx, sandbox)
		return nil, err
	case opClose:
		return nil, s.close(ctx, sandbox)
	}
	return nil, s.instance(ctx, sandbox, m, reply)
}

// aboutSandbox are the operations on an open sandbox.
var aboutSandbox = []op{opStart, opInstances, opClose, opStop, opKill, opUsage, opRelease}

// sandbox returns an open sandbox; it never opens one, as opOpen does.
func (s *server) sandbox(ctx context.Context, id string) (wasm.Sandbox, error) {
	if l, ok := s.rt.(interface {
		Sandbox(id string) (wasm.Sandbox, bool)
	}); ok {
		if sb, ok := l.Sandbox(id); ok {
			return sb, nil
		}
		return nil, fmt.Errorf("sandbox %s: %w", id, wasm.ErrGone)
	}
	ids, err := s.rt.Sandboxes(ctx)
	if err != nil {
		return nil, err
	}
	if slices.Contains(ids, id) {
		return s.rt.OpenSandbox(ctx, wasm.SandboxConfig{ID: id})
	}
	return nil, fmt.Errorf("sandbox %s: %w", id, wasm.ErrGone)
}

func (s *server) start(ctx context.Context, sandbox wasm.Sandbox, m, reply *message) (func(), error) {
	if m.Program == nil {
		return nil, errors.New("start: there is no program")
	}
	if _, ok := s.record(sandbox.ID(), m.Program.ID); ok {
		return nil, fmt.Errorf("start %s in sandbox %s: an instance of that ID exists", m.Program.ID, sandbox.ID())
	}
	module, err := s.prepare(ctx, m)
	if err != nil {
		return nil, err
	}
	i, err := sandbox.Start(ctx, module, *m.Program)
	if err != nil {
		return nil, err
	}
	reply.States = []state{{Sandbox: sandbox.ID(), ID: i.ID(), StartedAt: i.StartedAt()}}
	return s.follow(ctx, sandbox.ID(), i), nil
}

// follow records the instance's end at once, so that it is on disk before the
// sandbox can be closed, and tells it once the function that it returns was
// called. It is called once an instance.
func (s *server) follow(ctx context.Context, sandbox string, i wasm.Instance) (announce func()) {
	var mu sync.Mutex
	var announced bool
	var event *message
	ended := func(exit wasm.Exit) {
		st := state{Sandbox: sandbox, ID: i.ID(), StartedAt: i.StartedAt(), Exit: &exit}
		if err := s.exits.write(st); err != nil {
			s.log.Error("exit is not on disk", "sandbox", sandbox, "instance", i.ID(), "err", err)
		}
		mu.Lock()
		defer mu.Unlock()
		event = &message{Op: opEnded, States: []state{st}}
		if announced {
			s.tell(event)
		}
	}
	if a, ok := i.(interface{ AfterExit(func(wasm.Exit)) }); ok {
		a.AfterExit(ended)
	} else {
		s.handlers.Go(func() {
			if exit, err := i.Wait(ctx); err == nil {
				ended(exit)
			}
		})
	}
	return func() {
		mu.Lock()
		defer mu.Unlock()
		announced = true
		if event != nil {
			s.tell(event)
		}
	}
}

// record returns what an executor before this one recorded.
func (s *server) record(sandbox, id string) (state, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, ok := s.recorded[sandbox][id]
	return st, ok
}

// states returns the instances of a sandbox, with those that ended in an
// executor before this one.
func (s *server) states(ctx context.Context, sandbox wasm.Sandbox) ([]state, error) {
	all, err := sandbox.Instances(ctx)
	if err != nil {
		return nil, err
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	var states []state
	for id, i := range all {
		st := state{Sandbox: sandbox.ID(), ID: id, StartedAt: i.StartedAt()}
		// An exit is told once it is on disk, not before.
		if _, err := i.Wait(ended); err == nil {
			if exit, ok := s.exits.exit(key{sandbox.ID(), id}); ok {
				st.Exit = &exit
			}
		}
		states = append(states, st)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.recorded[sandbox.ID()] {
		states = append(states, st)
	}
	return states, nil
}

// close closes a sandbox and forgets its exits.
func (s *server) close(ctx context.Context, sandbox wasm.Sandbox) error {
	states, err := s.states(ctx, sandbox)
	if err != nil && !errors.Is(err, wasm.ErrGone) {
		return err
	}
	if err := sandbox.Close(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.recorded, sandbox.ID())
	s.mu.Unlock()
	var failed error
	for _, st := range states {
		failed = errors.Join(failed, s.exits.forget(key{st.Sandbox, st.ID}))
	}
	return failed
}

// instance handles the requests about one.
func (s *server) instance(ctx context.Context, sandbox wasm.Sandbox, m, reply *message) error {
	if _, ok := s.record(sandbox.ID(), m.Instance); ok {
		return s.past(sandbox.ID(), m, reply)
	}
	all, err := sandbox.Instances(ctx)
	if err != nil {
		return err
	}
	i, ok := all[m.Instance]
	if !ok {
		return fmt.Errorf("instance %s in sandbox %s: %w", m.Instance, m.Sandbox, wasm.ErrGone)
	}
	switch m.Op {
	case opStop:
		return i.Stop(ctx, m.Grace)
	case opKill:
		return i.Kill(ctx)
	case opUsage:
		u, err := i.Usage(ctx)
		reply.Usage = &u
		return err
	}
	if err := i.Release(ctx); err != nil {
		return err
	}
	return s.exits.forget(key{sandbox.ID(), m.Instance})
}

// past handles those about an instance that ended in an executor before.
func (s *server) past(sandbox string, m, reply *message) error {
	switch m.Op {
	case opUsage:
		reply.Usage = &wasm.Usage{}
	case opRelease:
		s.mu.Lock()
		delete(s.recorded[sandbox], m.Instance)
		s.mu.Unlock()
		return s.exits.forget(key{sandbox, m.Instance})
	}
	return nil
}
