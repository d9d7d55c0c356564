package compiler

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/spawn"
)

// Config configures a Pool. The zero value of an optional field means its
// default.
type Config struct {
	// Command starts a child, which calls Main: program and arguments.
	// Required.
	Command []string
	// Env is the child's environment. Optional: nil means this process's own.
	Env []string
	// Settings are handed to MainConfig.Open in the child. Optional.
	Settings json.RawMessage
	// Processes is how many may compile at once. Optional, 1.
	Processes int
	// Timeout is how long one module may take, and MemoryBytes how much memory
	// a child may use for it. Optional, 2 minutes and 2 GiB.
	Timeout     time.Duration
	MemoryBytes int64
	// Patience is how long one module may keep others waiting. Then it no longer
	// counts among Processes, unless three such are at work. Optional, 10s.
	Patience time.Duration
	// Idle is how long a child waits for more to do. Optional, 10s.
	Idle time.Duration
	// Logger is required.
	Logger *slog.Logger
}

// Pool compiles modules in processes of their own. Its methods may be called
// concurrently.
type Pool struct {
	config  Config
	flight  singleflight.Group
	idle    chan *worker // as many as there may be processes; who has one uses it
	waiters sync.WaitGroup
	closing chan struct{}

	mu     sync.Mutex
	closed bool
	slow   int                // modules that no longer count among Processes
	bad    map[string]refusal // what broke a child, by digest
}

// refusal is why a module is not tried again, and since when.
type refusal struct {
	err  error
	when time.Time
}

const (
	// refuseFor is how long a module that broke a child is not tried again: it
	// takes up to Timeout each time.
	refuseFor   = 10 * time.Minute
	maxRefusals = 256
	// maxSlow is how many modules work beside Processes, as they are slow.
	maxSlow = 3
	// maxSaid is how much of what a child writes during a job is kept, in bytes.
	maxSaid = 16 << 10
)

// New returns a Pool. It starts nothing.
func New(c Config) (*Pool, error) {
	if len(c.Command) == 0 || c.Logger == nil {
		return nil, errors.New("compiler: Command and Logger are required")
	}
	if c.Processes < 0 || c.Timeout < 0 || c.MemoryBytes < 0 || c.Patience < 0 || c.Idle < 0 {
		return nil, errors.New("compiler: Processes, Timeout, MemoryBytes, Patience and Idle must not be negative")
	}
	orDefault(&c.Processes, 1)
	orDefault(&c.Timeout, 2*time.Minute)
	orDefault(&c.MemoryBytes, 2<<30)
	orDefault(&c.Patience, 10*time.Second)
	orDefault(&c.Idle, 10*time.Second)
	p := &Pool{config: c, idle: make(chan *worker, c.Processes), closing: make(chan struct{}), bad: map[string]refusal{}}
	for range c.Processes {
		p.idle <- &worker{pool: p}
	}
	return p, nil
}

func orDefault[T comparable](value *T, usual T) {
	var zero T
	if *value == zero {
		*value = usual
	}
}

// Run works until ctx ends, and then ends the processes.
func (p *Pool) Run(ctx context.Context) error {
	<-ctx.Done()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	close(p.closing)
	for range p.config.Processes {
		(<-p.idle).end()
	}
	p.waiters.Wait()
	return nil
}

// Compile has a module compiled. The error is wasm.ErrInvalidModule for content
// that can never run, or that the compiler cannot cope with; it is
// wasm.ErrNotCompiled if the code could not be kept, and wasm.ErrGone once Run
// has ended. Of those who want the same module at once all get one answer; if
// ctx ends, the work goes on.
func (p *Pool) Compile(ctx context.Context, digest, path string) error {
	if err := p.refused(digest); err != nil {
		return err
	}
	detached := context.WithoutCancel(ctx)
	result := p.flight.DoChan(digest, func() (any, error) { return nil, p.compile(detached, job{digest, path}) })
	select {
	case r := <-result:
		return r.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Pool) compile(ctx context.Context, j job) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return fmt.Errorf("compile %s: %w", j.Digest, wasm.ErrGone)
	}
	p.waiters.Add(1) // Run waits
	p.mu.Unlock()
	defer p.waiters.Done()
	var w *worker
	select {
	case w = <-p.idle:
	case <-p.closing:
		return fmt.Errorf("compile %s: %w", j.Digest, wasm.ErrGone)
	}
	defer p.borrow(w)()
	begin := time.Now()
	err := w.do(j)
	p.config.Logger.Debug("compiled", "digest", j.Digest, "took", time.Since(begin), "err", err)
	if broken, ok := errors.AsType[*brokenError](err); ok {
		p.refuse(j.Digest, broken)
	}
	return err
}

// borrow is called as a worker begins with a module, and what it returns as it is done. In
// between the module may have become one of the slow ones, whose worker
// is replaced at once and ends after it.
func (p *Pool) borrow(w *worker) (done func()) {
	var timer *time.Timer
	over, slow := false, false
	p.mu.Lock()
	defer p.mu.Unlock()
	timer = time.AfterFunc(p.config.Patience, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch {
		case over:
		case p.slow == maxSlow:
			timer.Reset(p.config.Patience)
		default:
			slow = true
			p.slow++
			p.idle <- &worker{pool: p} // there is room, as w does not come back
		}
	})
	return func() {
		p.mu.Lock()
		over = true
		timer.Stop()
		if slow {
			p.slow--
		}
		p.mu.Unlock()
		if slow {
			w.end()
			return
		}
		p.idle <- w
	}
}

func (p *Pool) refused(digest string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, ok := p.bad[digest]
	if ok && time.Since(r.when) > refuseFor {
		delete(p.bad, digest)
		ok = false
	}
	if !ok {
		return nil
	}
	return r.err
}

func (p *Pool) refuse(digest string, err error) {
	p.config.Logger.Warn("module is refused, as it broke the compiler", "digest", digest, "for", refuseFor, "err", err)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.bad) >= maxRefusals {
		clear(p.bad) // they are tried once more, no worse
	}
	p.bad[digest] = refusal{err, time.Now()}
}

// brokenError says what a module did to its compiler. It is a
// wasm.ErrInvalidModule.
type brokenError struct{ how string }

func (e *brokenError) Error() string {
	return fmt.Sprintf("%v: the compiler cannot cope with it: %s", wasm.ErrInvalidModule, e.how)
}

func (e *brokenError) Unwrap() error { return wasm.ErrInvalidModule }

// worker is a child, or the place for one. It belongs to who took it from idle.
type worker struct {
	pool   *Pool
	cmd    *exec.Cmd // nil: there is none
	stdin  io.WriteCloser
	stdout *bufio.Scanner
	output *io.PipeReader // of stdout
	stderr *head
	gone   <-chan struct{}
}

var errEnded = errors.New("it ended without an answer")

// do has one job done. A child that was there may have ended just now, and a fresh one may have
// been killed by whoever needed its memory: so what breaks a fresh one is told, and what
// is killed only if it is so again.
func (w *worker) do(j job) error {
	for killed := false; ; {
		fresh := w.cmd == nil
		if fresh {
			if err := w.start(); err != nil {
				return err
			}
		}
		cmd := w.cmd
		err := w.ask(j)
		switch {
		case !errors.Is(err, errEnded):
			return err
		case fresh && !wasKilled(cmd):
			return &brokenError{w.lastWords()}
		case fresh && killed:
			return &brokenError{"its process was killed, twice: the machine may be short of memory"}
		case fresh:
			killed = true
		}
	}
}

// wasKilled reports whether a child that has ended did so at another's wish.
func wasKilled(cmd *exec.Cmd) bool {
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// ask sends a job and waits for its answer. After any error of its own there is
// no child.
func (w *worker) ask(j job) error {
	answered := make(chan struct{})
	late := make(chan bool, 1) // 1: the watcher never waits
	w.pool.waiters.Go(func() {
		timer := time.NewTimer(w.pool.config.Timeout)
		defer timer.Stop()
		select {
		case <-answered:
			late <- false
		case <-w.pool.closing:
			w.kill()
			late <- false
		case <-timer.C:
			w.kill()
			late <- true
		}
	})
	a, err := w.exchange(j)
	close(answered)
	if err == nil {
		w.hear()
	}
	if tooLate := <-late; err != nil {
		w.end()
		if tooLate {
			return &brokenError{fmt.Sprintf("it takes longer than %s", w.pool.config.Timeout)}
		}
		return fmt.Errorf("%w: %w", errEnded, err)
	}
	if a.Text != "" {
		return (*remoteError)(&a)
	}
	return nil
}

func (w *worker) exchange(j job) (a answer, err error) {
	line, err := json.Marshal(j)
	if err != nil {
		return a, err
	}
	if _, err := w.stdin.Write(append(line, '\n')); err != nil {
		return a, err
	}
	if !w.stdout.Scan() {
		return a, errors.Join(io.EOF, w.stdout.Err())
	}
	return a, json.Unmarshal(w.stdout.Bytes(), &a)
}

// start starts a child.
func (w *worker) start() error {
	c := w.pool.config
	first, err := json.Marshal(boot{MemoryBytes: c.MemoryBytes, Idle: c.Idle, Settings: c.Settings})
	if err != nil {
		return fmt.Errorf("start compiler: encode settings: %w", err)
	}
	cmd := exec.Command(c.Command[0], c.Command[1:]...) //nolint:noctx // it is ended by closing its input
	cmd.Env = c.Env
	stderr := &head{}
	cmd.Stderr = stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start compiler: %w", err)
	}
	read, write := io.Pipe()
	cmd.Stdout = write
	gone, err := spawn.Start(cmd, true, &w.pool.waiters)
	if err != nil {
		return fmt.Errorf("start compiler: %w", err)
	}
	w.pool.waiters.Go(func() {
		<-gone
		_ = write.Close() // never fails
	})
	w.cmd, w.stdin, w.output, w.stderr, w.gone = cmd, stdin, read, stderr, gone
	w.stdout = bufio.NewScanner(read)
	w.stdout.Buffer(nil, maxLine)
	if _, err := stdin.Write(append(first, '\n')); err != nil {
		w.end()
		return fmt.Errorf("start compiler: it takes no settings: %w: %s", err, w.lastWords())
	}
	return nil
}

// hear logs what a child had to say.
func (w *worker) hear() {
	if said := strings.TrimSpace(w.stderr.empty()); said != "" {
		w.pool.config.Logger.Warn("compiler says", "text", said)
	}
}

// kill may be called by anyone while a job is under way.
func (w *worker) kill() { _ = w.cmd.Process.Kill() } // fails if it has ended

// end ends the child, if there is one.
func (w *worker) end() {
	if w.cmd == nil {
		return
	}
	_ = w.stdin.Close()  // is over anyway
	_ = w.output.Close() // never fails; nobody reads any more
	w.kill()
	<-w.gone
	w.cmd = nil
}

// lastWords says in a line what the child that ended last wrote, or how it
// ended.
func (w *worker) lastWords() string {
	said := w.stderr.empty()
	// Go's collector does not look whether it got the memory that it asked for.
	starved := strings.HasPrefix(said, "SIGSEGV") && strings.Contains(said, "runtime/mgc")
	if starved || strings.Contains(said, "out of memory") || strings.Contains(said, "cannot allocate memory") {
		return fmt.Sprintf("it takes more than %d bytes of memory", w.pool.config.MemoryBytes)
	}
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		for _, start := range []string{"panic: ", "fatal error: ", "runtime: "} {
			if rest, ok := strings.CutPrefix(line, start); ok {
				return "it ended by " + strings.TrimSuffix(start, ": ") + ": " + rest
			}
		}
	}
	return "its process ended without an answer"
}

// head keeps the first bytes that were written since it was emptied: Go says
// why it ends first, and then much more.
type head struct {
	mu   sync.Mutex
	data []byte
}

func (h *head) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.data = append(h.data, b[:min(len(b), maxSaid-len(h.data))]...)
	return len(b), nil
}

// empty takes out what was kept.
func (h *head) empty() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	said := string(h.data)
	h.data = h.data[:0]
	return said
}
