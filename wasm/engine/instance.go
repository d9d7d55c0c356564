package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/host"
	"github.com/weftrun/weft/wasm/logfile"
)

// instance is one run of a module, in a goroutine of its own.
type instance struct {
	sandbox *sandbox
	id      string
	module  *compiled
	guest   *host.Guest
	log     *logfile.Writer
	memory  memory
	pace    *pace // nil: it is not metered
	started time.Time

	cancel  context.CancelFunc
	killed  atomic.Bool
	stopped atomic.Bool   // it was asked to stop and does not listen
	running chan struct{} // closed once the guest's code may run
	done    chan struct{} // closed after exit was set; its memory is freed then

	mu    sync.Mutex
	ended bool
	exit  wasm.Exit // valid if ended
	after []func(wasm.Exit)
	grace *time.Timer // kills it after it was asked to stop; nil: it was not
	until time.Time   // when
}

var _ wasm.Instance = (*instance)(nil)

func newInstance(s *sandbox, m *compiled, p wasm.Program, limit int64) *instance {
	i := &instance{
		sandbox: s, id: p.ID, module: m, started: time.Now(),
		log:     logfile.NewWriter(p.Log, &s.engine.flusher),
		running: make(chan struct{}),
		done:    make(chan struct{}),
	}
	i.memory.limit = uint64(limit)
	i.guest = m.world.NewGuest(host.Config{
		Args: p.Args, Env: p.Env, Hostname: s.config.Hostname, Mounts: p.Mounts,
		Stdout: i.log.Stdout(), Stderr: i.log.Stderr(),
	})
	return i
}

// run is the instance's life.
func (i *instance) run(ctx context.Context) {
	exit := i.execute(ctx)
	i.guest.Close()
	i.memory.Free()
	i.sandbox.engine.letGo(i.module)
	if err := i.log.Close(); err != nil {
		i.sandbox.engine.config.Logger.Warn("guest's log is incomplete",
			"sandbox", i.sandbox.config.ID, "instance", i.id, "err", err)
	}
	exit.StartedAt, exit.FinishedAt = i.started, time.Now()
	i.cancel()

	i.mu.Lock()
	i.exit, i.ended = exit, true
	after := i.after
	i.after = nil
	if i.grace != nil {
		i.grace.Stop()
	}
	i.mu.Unlock()
	for _, f := range after {
		f(exit)
	}
	close(i.done)
	i.memory.release() // now that nobody waits for it
}

// execute runs the guest's code. No panic leaves it.
func (i *instance) execute(ctx context.Context) (exit wasm.Exit) {
	phase := instantiating
	ctx = i.guest.Bind(ctx)
	if i.pace != nil {
		ctx = context.WithValue(ctx, paceKey{}, i.pace)
		defer i.pace.pause()
	}
	defer func() {
		if r := recover(); r != nil {
			exit = i.classify(phase, fmt.Errorf("the runtime failed: %v", r))
		}
	}()
	config, err := i.guest.Configure()
	if err != nil {
		return wasm.Exit{Reason: wasm.NotStarted, Code: 128, Message: err.Error()}
	}
	if i.module.info.StartSection {
		phase = starting
		close(i.running) // it runs code from here on, for ever perhaps
	}
	mod, err := i.module.rt.InstantiateModule(
		experimental.WithMemoryAllocator(ctx, &i.memory), i.module.code, config)
	if err != nil {
		return i.classify(phase, err)
	}
	defer mod.Close(context.WithoutCancel(ctx))
	if phase == instantiating {
		close(i.running)
	}
	phase = started
	err = i.call(ctx, mod)
	return i.classify(phase, err)
}

func (i *instance) call(ctx context.Context, mod api.Module) error {
	if i.module.info.Command() {
		_, err := mod.ExportedFunction("_start").Call(ctx)
		return err
	}
	if _, err := mod.ExportedFunction("_initialize").Call(ctx); err != nil {
		return err
	}
	if i.pace != nil {
		i.pace.pause()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-i.guest.Asked():
	}
	if !i.module.stops {
		// Nothing of it runs that could hear.
		i.stopped.Store(true)
		i.kill()
		return ctx.Err()
	}
	_, err := mod.ExportedFunction(wasm.StopFunction).Call(ctx)
	return err
}

func (i *instance) ID() string           { return i.id }
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

// AfterExit calls f once the instance has ended, before Wait returns; at once if
// it has ended already. It spares those who watch thousands of instances a
// goroutine for each. f must be quick.
func (i *instance) AfterExit(f func(wasm.Exit)) {
	i.mu.Lock()
	if !i.ended {
		i.after = append(i.after, f)
		i.mu.Unlock()
		return
	}
	i.mu.Unlock()
	f(i.exit)
}

// Stop implements wasm.Instance.
func (i *instance) Stop(_ context.Context, grace time.Duration) error {
	if grace <= 0 {
		i.kill()
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	until := time.Now().Add(grace)
	switch {
	case i.ended:
	case i.grace == nil && !i.guest.AskStop() && !i.module.stops:
		i.stopped.Store(true)
		i.kill()
	case i.grace == nil:
		i.until, i.grace = until, time.AfterFunc(grace, i.kill)
	case until.Before(i.until):
		i.until = until
		i.grace.Reset(grace)
	}
	return nil
}

// Kill implements wasm.Instance.
func (i *instance) Kill(context.Context) error {
	i.kill()
	return nil
}

func (i *instance) kill() {
	i.killed.Store(true)
	i.cancel()
}

// Usage implements wasm.Instance. CPU time of what is not metered is the time
// that the guest has not slept: more than the truth when guests compete for
// processors.
func (i *instance) Usage(context.Context) (wasm.Usage, error) {
	u := wasm.Usage{MemoryBytes: i.memory.used.Load()}
	if i.pace != nil {
		u.CPU, u.Throttled = i.pace.total(), time.Duration(i.pace.rested.Load())
		return u, nil
	}
	end := time.Now()
	select {
	case <-i.done:
		end = i.exit.FinishedAt
	default:
	}
	if i.module.info.Command() {
		u.CPU = max(end.Sub(i.started)-i.guest.Slept(), 0)
	}
	return u, nil
}

// Release implements wasm.Instance.
func (i *instance) Release(context.Context) error {
	i.mu.Lock()
	ended := i.ended // before done is closed: whoever AfterExit told may know already
	i.mu.Unlock()
	if !ended {
		return errors.New("release instance " + i.id + ": it still runs")
	}
	i.sandbox.forget(i)
	return nil
}
