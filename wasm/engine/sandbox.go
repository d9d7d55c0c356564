package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/weftrun/weft/wasm"
)

type sandbox struct {
	engine *Engine
	config wasm.SandboxConfig

	mu        sync.Mutex
	instances map[string]*instance
	closed    bool
}

var _ wasm.Sandbox = (*sandbox)(nil)

// OpenSandbox implements wasm.Runtime.
func (e *Engine) OpenSandbox(_ context.Context, c wasm.SandboxConfig) (wasm.Sandbox, error) {
	if c.ID == "" {
		return nil, errors.New("open sandbox: ID is required")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, fmt.Errorf("open sandbox %s: %w", c.ID, wasm.ErrGone)
	}
	s := e.sandboxes[c.ID]
	if s == nil {
		s = &sandbox{engine: e, config: c, instances: map[string]*instance{}}
		e.sandboxes[c.ID] = s
	}
	return s, nil
}

// Sandboxes implements wasm.Runtime. The IDs are sorted.
func (e *Engine) Sandboxes(context.Context) ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Sorted(maps.Keys(e.sandboxes)), nil
}

// Sandbox returns the open sandbox of that ID, false if there is none.
func (e *Engine) Sandbox(id string) (wasm.Sandbox, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s, ok := e.sandboxes[id]
	return s, ok
}

func (s *sandbox) ID() string { return s.config.ID }

// Start implements wasm.Sandbox. If ctx ends before the guest runs, the
// instance is returned all the same.
func (s *sandbox) Start(ctx context.Context, m wasm.Module, p wasm.Program) (wasm.Instance, error) {
	i, err := s.add(ctx, m, p)
	if err != nil {
		return nil, fmt.Errorf("start %s in sandbox %s: %w", p.ID, s.config.ID, err)
	}
	select {
	case <-i.running:
	case <-i.done:
	case <-ctx.Done():
	}
	return i, nil
}

func (s *sandbox) add(ctx context.Context, m wasm.Module, p wasm.Program) (*instance, error) {
	c, ok := m.(*compiled)
	if !ok {
		return nil, errors.New("the module was prepared by another runtime")
	}
	if p.ID == "" {
		return nil, errors.New("ID is required")
	}
	limit := p.Limits.MemoryBytes
	switch {
	case limit < 0 || p.Limits.CPUMillis < 0 || p.Limits.CPUShares < 0:
		return nil, fmt.Errorf("%w: they must not be negative", wasm.ErrLimits)
	case limit == 0:
		limit = s.engine.config.MemoryBytes
	}
	if c.info.MinMemory > limit {
		return nil, fmt.Errorf("%w: the module needs %d bytes of memory at the start, its limit is %d", wasm.ErrLimits, c.info.MinMemory, limit)
	}
	c, err := s.engine.acquire(ctx, c)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, exists := s.instances[p.ID]; s.closed || exists {
		s.engine.letGo(c)
		if s.closed {
			return nil, wasm.ErrGone
		}
		return nil, errors.New("an instance of that ID exists")
	}
	// The guest outlives the call that started it.
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	i := newInstance(s, c, p, limit)
	i.cancel, i.guest.Done = cancel, life.Done()
	if c.metered {
		i.pace = newPace(&s.engine.turns, p.Limits, life.Done())
		i.guest.Pause, i.guest.Resume, i.guest.CPU = i.pace.pause, i.pace.resume, i.pace.present
	}
	s.instances[p.ID] = i
	s.engine.guests.Go(func() { i.run(life) })
	return i, nil
}

// Instances implements wasm.Sandbox.
func (s *sandbox) Instances(context.Context) (map[string]wasm.Instance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("sandbox %s: %w", s.config.ID, wasm.ErrGone)
	}
	all := make(map[string]wasm.Instance, len(s.instances))
	for id, i := range s.instances {
		all[id] = i
	}
	return all, nil
}

// Close implements wasm.Sandbox. If ctx ends first, it can be called again.
func (s *sandbox) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	running := slices.Collect(maps.Values(s.instances))
	s.mu.Unlock()
	for _, i := range running {
		i.kill()
	}
	for _, i := range running {
		select {
		case <-i.done:
		case <-ctx.Done():
			return fmt.Errorf("close sandbox %s: %w", s.config.ID, ctx.Err())
		}
	}
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	if s.engine.sandboxes[s.config.ID] == s {
		delete(s.engine.sandboxes, s.config.ID)
	}
	return nil
}

// forget drops an instance that has ended.
func (s *sandbox) forget(i *instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.instances[i.id] == i {
		delete(s.instances, i.id)
	}
}
