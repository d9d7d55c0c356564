package executor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weftrun/weft/wasm"
)

// sandbox is one in the process of its session.
type sandbox struct {
	session *session
	id      string
}

var _ wasm.Sandbox = (*sandbox)(nil)

func (s *sandbox) ID() string { return s.id }

// Start implements wasm.Sandbox.
func (s *sandbox) Start(ctx context.Context, m wasm.Module, p wasm.Program) (wasm.Instance, error) {
	mod, ok := m.(*module)
	if !ok {
		return nil, fmt.Errorf("start %s in sandbox %s: the module was prepared by another runtime", p.ID, s.id)
	}
	var i *instance
	_, err := s.session.callCompiled(ctx, &message{
		Op: opStart, Sandbox: s.id, Digest: mod.digest, Path: mod.path, Program: &p,
	}, func(reply *message) {
		if len(reply.States) == 1 {
			i = s.session.learn(reply.States[0])
		}
	})
	if err != nil {
		return nil, err
	}
	if i == nil {
		return nil, fmt.Errorf("start %s in sandbox %s: the executor answered nonsense", p.ID, s.id)
	}
	return i, nil
}

// Instances implements wasm.Sandbox. Those that ended in a process that is gone
// are among them until they are released, if they ended before it.
func (s *sandbox) Instances(ctx context.Context) (map[string]wasm.Instance, error) {
	all := map[string]wasm.Instance{}
	_, err := s.session.call(ctx, &message{Op: opInstances, Sandbox: s.id}, func(reply *message) {
		for _, st := range reply.States {
			all[st.ID] = s.session.learn(st)
		}
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// Close implements wasm.Sandbox.
func (s *sandbox) Close(ctx context.Context) error {
	_, err := s.session.call(ctx, &message{Op: opClose, Sandbox: s.id}, func(*message) {
		s.session.forget(func(k key) bool { return k.Sandbox == s.id })
	})
	if errors.Is(err, wasm.ErrGone) {
		return nil // it is as closed as it can be
	}
	return err
}

// instance is one in the process of its session.
type instance struct {
	session *session
	key     key
	started time.Time

	once sync.Once
	exit wasm.Exit // valid once done is closed
	done chan struct{}
}

var _ wasm.Instance = (*instance)(nil)

func (i *instance) finish(exit wasm.Exit) {
	i.once.Do(func() {
		i.exit = exit
		close(i.done)
	})
}

func (i *instance) ID() string           { return i.key.ID }
func (i *instance) StartedAt() time.Time { return i.started }

// Wait implements wasm.Instance.
func (i *instance) Wait(ctx context.Context) (wasm.Exit, error) {
	select {
	case <-i.done:
		return i.exit, nil
	default:
	}
	select {
	case <-i.done:
		return i.exit, nil
	case <-ctx.Done():
		return wasm.Exit{}, ctx.Err()
	}
}

// ended reports whether the instance is known to have ended.
func (i *instance) ended() bool {
	select {
	case <-i.done:
		return true
	default:
		return false
	}
}

func (i *instance) ask(ctx context.Context, m *message) (*message, error) {
	m.Sandbox, m.Instance = i.key.Sandbox, i.key.ID
	return i.session.call(ctx, m, nil)
}

// Stop implements wasm.Instance.
func (i *instance) Stop(ctx context.Context, grace time.Duration) error {
	return i.end(ctx, &message{Op: opStop, Grace: grace})
}

// Kill implements wasm.Instance.
func (i *instance) Kill(ctx context.Context) error {
	return i.end(ctx, &message{Op: opKill})
}

func (i *instance) end(ctx context.Context, m *message) error {
	if i.ended() {
		return nil
	}
	_, err := i.ask(ctx, m)
	if errors.Is(err, wasm.ErrGone) {
		return nil // what is gone does not run
	}
	return err
}

// Usage implements wasm.Instance.
func (i *instance) Usage(ctx context.Context) (wasm.Usage, error) {
	reply, err := i.ask(ctx, &message{Op: opUsage})
	if err != nil {
		return wasm.Usage{}, err
	}
	if reply.Usage == nil {
		return wasm.Usage{}, fmt.Errorf("usage of %s: the executor answered nonsense", i.key.ID)
	}
	return *reply.Usage, nil
}

// Release implements wasm.Instance.
func (i *instance) Release(ctx context.Context) error {
	if !i.ended() {
		return fmt.Errorf("release instance %s: it still runs", i.key.ID)
	}
	_, err := i.ask(ctx, &message{Op: opRelease})
	if errors.Is(err, wasm.ErrGone) {
		err = i.session.client.forgetLost(ctx, i.key)
	}
	if err != nil {
		return err
	}
	i.session.forget(func(k key) bool { return k == i.key })
	return nil
}
