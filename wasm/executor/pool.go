package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weftrun/weft/wasm"
)

// The handlers of a Pool. No handler means Dense.
const (
	// Dense sandboxes share the pool's executors.
	Dense = "dense"
	// Isolated ones have an executor each, which ends with them.
	Isolated = "isolated"
)

// PoolConfig configures a Pool. The zero value of an optional field means its
// default.
type PoolConfig struct {
	// Executor is how each of them is run. Its Dir is that of the first; the
	// others' are beside it, with names that begin with the same.
	Executor Config
	// Settings returns those of the executor of that name, which is also the end
	// of its folder's. Optional: Executor.Settings.
	Settings func(name string) (json.RawMessage, error)
	// Executors is how many there are for dense sandboxes. Optional, 1.
	Executors int
	// Slots is how many guests may compute at once in all executors together.
	// Each executor has one at least, so that with more executors than slots
	// whose guests compute it is up to the operating system. Optional: as many
	// as the runtime gives a single executor.
	Slots int
}

// Pool is a wasm.Runtime of several executors: some that dense sandboxes share,
// and one more for each isolated sandbox.
type Pool struct {
	config PoolConfig
	wake   chan struct{} // one is enough: there is something in joining
	ended  chan struct{} // closed when Run returns

	mu      sync.Mutex
	dense   []*member // the first config.Executors take new sandboxes
	alone   map[string]*member
	homes   map[string]*member // of dense sandboxes that are open
	joining []*member          // to be run
	closed  bool               // Run has ended
	changed bool               // executors came or went since the slots were apportioned
}

var _ wasm.Runtime = (*Pool)(nil)

// member is one executor. sandbox is that of an isolated one.
type member struct {
	*Client
	name    string
	sandbox string
	surplus bool          // it takes no new sandboxes
	done    chan struct{} // closed when its Run has returned
	once    sync.Once     // it is retired
}

// isolatedInfix stands between the name of the first executor's folder and an
// isolated sandbox's ID, and numberInfix before the numbers of the other dense
// ones.
const (
	isolatedInfix = "-isolated-"
	numberInfix   = "-"
)

// NewPool returns a Pool that starts nothing. It knows the executors of a pool
// before it by their folders: those of isolated sandboxes, and dense ones
// beyond today's number, which take no new sandboxes.
func NewPool(c PoolConfig) (*Pool, error) {
	if c.Executors < 0 || c.Slots < 0 {
		return nil, errors.New("executor: Executors and Slots must not be negative")
	}
	c.Executors = max(c.Executors, 1)
	p := &Pool{
		config: c, wake: make(chan struct{}, 1), ended: make(chan struct{}),
		alone: map[string]*member{}, homes: map[string]*member{}, changed: true,
	}
	for n := range c.Executors {
		if err := p.addDense(n); err != nil {
			return nil, err
		}
	}
	before, err := filepath.Glob(globEscape(c.Executor.Dir) + numberInfix + "*")
	if err != nil {
		return nil, fmt.Errorf("look for executors from before: %w", err)
	}
	for _, dir := range before {
		rest := strings.TrimPrefix(dir, c.Executor.Dir)
		if id, err := url.QueryUnescape(strings.TrimPrefix(rest, isolatedInfix)); err == nil && strings.HasPrefix(rest, isolatedInfix) {
			if p.alone[id], err = p.newMember(rest, id); err != nil {
				return nil, err
			}
			continue
		}
		var n int
		if _, err := fmt.Sscanf(rest, numberInfix+"%d", &n); err == nil && n >= c.Executors && rest == fmt.Sprint(numberInfix, n) {
			if err := p.addDense(n); err != nil {
				return nil, err
			}
			p.dense[len(p.dense)-1].surplus = true
		}
	}
	return p, nil
}

// globEscape has Glob take dir as it is.
func globEscape(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

func (p *Pool) addDense(n int) error {
	suffix := ""
	if n > 0 {
		suffix = fmt.Sprint(numberInfix, n)
	}
	m, err := p.newMember(suffix, "")
	if err == nil {
		p.dense = append(p.dense, m)
	}
	return err
}

func (p *Pool) newMember(suffix, sandbox string) (*member, error) {
	c := p.config.Executor
	c.Dir += suffix
	c.name = processName + suffix
	c.own = sandbox != ""
	if p.config.Settings != nil {
		var err error
		if c.Settings, err = p.config.Settings(c.name); err != nil {
			return nil, err
		}
	}
	if c.Logger != nil && suffix != "" {
		c.Logger = c.Logger.With("executor", c.name)
	}
	client, err := New(c)
	if err != nil {
		return nil, err
	}
	return &member{Client: client, name: c.name, sandbox: sandbox, done: make(chan struct{})}, nil
}

// Run keeps the executors there until ctx ends. Those of isolated sandboxes
// come and go with these. It is called once.
func (p *Pool) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	defer close(p.ended)
	p.mu.Lock()
	p.joining = p.members()
	p.mu.Unlock()
	p.nudge()
	tick := time.NewTicker(apportionEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			p.mu.Lock()
			p.closed = true
			p.mu.Unlock()
			return nil
		case <-p.wake:
			p.mu.Lock()
			joining := p.joining
			p.joining = nil
			p.mu.Unlock()
			for _, m := range joining {
				running.Go(func() {
					defer close(m.done)
					_ = m.Run(ctx) // it never fails
				})
			}
		case <-tick.C:
			p.apportion(ctx)
		}
	}
}

func (p *Pool) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// members are all executors. The caller holds the lock.
func (p *Pool) members() []*member {
	all := slices.Clone(p.dense)
	for _, m := range p.alone {
		all = append(all, m)
	}
	return all
}

// Prepare implements wasm.Runtime. A module is prepared by the dense executor
// that its digest falls to; the others load it when they start it.
func (p *Pool) Prepare(ctx context.Context, digest, path string) (wasm.Module, error) {
	p.mu.Lock()
	m := p.dense[p.fall(digest)]
	p.mu.Unlock()
	return m.Prepare(ctx, digest, path)
}

// fall returns the dense executor that something named so belongs to. It is
// the same after a restart, where the exits are recorded, and for most names
// with another number of executors (rendezvous hashing).
func (p *Pool) fall(name string) int {
	best, most := 0, uint64(0)
	for n := range p.config.Executors {
		h := fnv.New64a()
		_, _ = fmt.Fprintf(h, "%s\x00%d", name, n) // never fails
		sum := h.Sum64()
		// The last bytes have hardly spread over the upper bits.
		sum ^= sum >> 33
		sum *= 0xff51afd7ed558ccd
		sum ^= sum >> 33
		if sum >= most {
			best, most = n, sum
		}
	}
	return best
}

// OpenSandbox implements wasm.Runtime.
func (p *Pool) OpenSandbox(ctx context.Context, c wasm.SandboxConfig) (wasm.Sandbox, error) {
	if c.ID == "" {
		return nil, errors.New("open sandbox: ID is required")
	}
	m, err := p.home(c)
	if err != nil {
		return nil, fmt.Errorf("open sandbox %s: %w", c.ID, err)
	}
	c.Handler = ""
	sandbox, err := m.OpenSandbox(ctx, c)
	if err != nil {
		return nil, err
	}
	return &pooled{Sandbox: sandbox, pool: p, member: m, config: c}, nil
}

// home returns the executor of a sandbox, a new one if need be.
func (p *Pool) home(c wasm.SandboxConfig) (*member, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m := p.alone[c.ID]; m != nil {
		return m, nil
	}
	if m := p.homes[c.ID]; m != nil {
		return m, nil
	}
	if p.closed {
		return nil, wasm.ErrGone
	}
	switch c.Handler {
	case "", Dense:
		m := p.dense[p.fall(c.ID)]
		p.homes[c.ID] = m
		return m, nil
	case Isolated:
	default:
		return nil, fmt.Errorf("%w: %s", wasm.ErrHandler, c.Handler)
	}
	m, err := p.newMember(isolatedInfix+url.QueryEscape(c.ID), c.ID)
	if err != nil {
		return nil, err
	}
	p.alone[c.ID], p.changed = m, true
	p.joining = append(p.joining, m)
	p.nudge()
	return m, nil
}

// Sandboxes implements wasm.Runtime. An isolated sandbox is there for as long
// as its executor's folder is, even if its process has to be started again.
func (p *Pool) Sandboxes(ctx context.Context) ([]string, error) {
	p.mu.Lock()
	dense := slices.Clone(p.dense)
	var all []string
	for id := range p.alone {
		all = append(all, id)
	}
	p.mu.Unlock()
	for _, m := range dense {
		ids, err := m.Sandboxes(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, ids...)
		p.mu.Lock()
		for _, id := range ids {
			p.homes[id] = m
		}
		p.mu.Unlock()
		if m.surplus && len(ids) == 0 {
			p.retire(m)
		}
	}
	slices.Sort(all)
	return all, nil
}

// Usages implements wasm.Runtime. Executors that are being started again have
// used nothing.
func (p *Pool) Usages(ctx context.Context) (wasm.Usages, error) {
	p.mu.Lock()
	members := p.members()
	p.mu.Unlock()
	sum := wasm.Usages{Time: time.Now()}
	for i, m := range members {
		if m.current() == nil && i > 0 {
			continue
		}
		u, err := m.Usages(ctx)
		if errors.Is(err, wasm.ErrGone) {
			continue
		}
		if err != nil {
			return wasm.Usages{}, err
		}
		for _, process := range u.Processes {
			if process.Name == processName {
				process.Name = m.name
			}
			sum.Processes = append(sum.Processes, process)
		}
		sum.Instances = append(sum.Instances, u.Instances...)
	}
	return sum, nil
}

// left is called when a sandbox was closed. What was there for that alone ends.
func (p *Pool) left(m *member, id string) {
	p.mu.Lock()
	over := m.sandbox == id && p.alone[id] == m
	if m.sandbox == "" {
		delete(p.homes, id)
		over = m.surplus
		for _, other := range p.homes {
			over = over && other != m
		}
	}
	p.mu.Unlock()
	if over {
		p.retire(m)
	}
}

// retire ends an executor for good.
func (p *Pool) retire(m *member) {
	m.once.Do(func() {
		m.End()
		select {
		case <-m.done:
		case <-p.ended: // and with it perhaps before it was run
			return
		}
		if err := os.RemoveAll(m.config.Dir); err != nil {
			m.config.Logger.Warn("folder of an executor is not removed", "err", err)
		}
		// Only now: until then the folder is taken.
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.alone[m.sandbox] == m {
			delete(p.alone, m.sandbox)
		}
		p.dense = slices.DeleteFunc(p.dense, func(d *member) bool { return d == m })
		p.changed = true
	})
}

// pooled is a sandbox in one of the pool's executors.
type pooled struct {
	wasm.Sandbox
	pool   *Pool
	member *member
	config wasm.SandboxConfig
}

// Start implements wasm.Sandbox. An isolated sandbox is opened again if its
// executor was lost: there is nothing else in it.
func (s *pooled) Start(ctx context.Context, m wasm.Module, p wasm.Program) (wasm.Instance, error) {
	i, err := s.Sandbox.Start(ctx, m, p)
	if s.member.sandbox == "" || !errors.Is(err, wasm.ErrGone) {
		return i, err
	}
	again, err := s.member.OpenSandbox(ctx, s.config)
	if err != nil {
		return nil, err
	}
	return again.Start(ctx, m, p)
}

// Close implements wasm.Sandbox. An isolated one's executor ends with it.
func (s *pooled) Close(ctx context.Context) error {
	if err := s.Sandbox.Close(ctx); err != nil {
		return err
	}
	s.pool.left(s.member, s.config.ID)
	return nil
}

// apportionEvery is how often the slots are given to those executors whose
// guests want them.
const apportionEvery = 250 * time.Millisecond

// apportion divides the slots among the executors by how many of their guests
// compute or want to.
func (p *Pool) apportion(ctx context.Context) {
	p.mu.Lock()
	members := p.members()
	needed := p.config.Slots > 0 && (len(members) > 1 || p.changed)
	p.changed = false
	p.mu.Unlock()
	if !needed {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, apportionEvery)
	defer cancel()
	hot := make([]int, len(members))
	for i, m := range members {
		hot[i] = m.demand()
	}
	for i, slots := range apportion(p.config.Slots, hot) {
		if err := members[i].setSlots(ctx, slots); err != nil {
			members[i].config.Logger.Log(ctx, slog.LevelDebug, "slots are not given", "err", err)
		}
	}
}
