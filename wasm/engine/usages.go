package engine

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/weftrun/weft/wasm"
)

// Usages implements wasm.Runtime. No lock is held for longer than it takes to
// copy what it guards, so that thousands of instances disturb nobody.
func (e *Engine) Usages(ctx context.Context) (wasm.Usages, error) {
	e.mu.Lock()
	all := slices.Collect(maps.Values(e.sandboxes))
	e.mu.Unlock()
	u := wasm.Usages{Time: time.Now(), Instances: make([]wasm.InstanceUsage, 0, len(all))}
	var running []*instance
	for _, s := range all {
		running = s.running(running[:0])
		for _, i := range running {
			used, err := i.Usage(ctx)
			if err != nil {
				return wasm.Usages{}, err
			}
			u.Instances = append(u.Instances, wasm.InstanceUsage{
				Sandbox: s.config.ID, ID: i.id, StartedAt: i.started, Usage: used,
			})
		}
	}
	return u, nil
}

// running appends the instances that have not ended.
func (s *sandbox) running(to []*instance) []*instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.instances {
		select {
		case <-i.done:
		default:
			to = append(to, i)
		}
	}
	return to
}
