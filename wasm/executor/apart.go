package executor

import (
	"context"
	"errors"

	"github.com/weftrun/weft/wasm"
)

// prepare prepares a request's module.
func (s *server) prepare(ctx context.Context, m *message) (wasm.Module, error) {
	if rt, ok := s.rt.(interface {
		PrepareCompiled(ctx context.Context, digest, path string) (wasm.Module, error)
	}); ok && m.Apart {
		return rt.PrepareCompiled(ctx, m.Digest, m.Path)
	}
	return s.rt.Prepare(ctx, m.Digest, m.Path)
}

// callCompiled is call for a request with a module. If the process has to have
// that compiled first, it does that and asks again.
func (s *session) callCompiled(ctx context.Context, m *message, first func(*message)) (*message, error) {
	compile := s.client.config.Compile
	if compile == nil {
		return s.call(ctx, m, first)
	}
	apart := *m // a message that was sent is the connection's
	apart.Apart = true
	reply, err := s.call(ctx, &apart, first)
	if !errors.Is(err, wasm.ErrNotCompiled) {
		return reply, err
	}
	if err := compile(ctx, m.Digest, m.Path); err != nil && !errors.Is(err, wasm.ErrNotCompiled) {
		return nil, err
	}
	return s.call(ctx, m, first)
}
