package executor

import (
	"bufio"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weftrun/weft/wasm"
)

// Runtime is what an executor serves: it works while Run does, and is drained
// when Run returns.
type Runtime interface {
	wasm.Runtime
	Run(ctx context.Context) error
}

// MainConfig configures Main.
type MainConfig struct {
	// Input is what the parent writes to: standard input. Required.
	Input io.Reader
	// Open makes the runtime from the settings that the Client was given.
	// Required.
	Open func(ctx context.Context, settings json.RawMessage) (Runtime, error)
	// Logger is required.
	Logger *slog.Logger
}

// boot is the line that the child reads first. It is not in its arguments or
// environment, where other users could read the nonce.
type boot struct {
	Nonce         string          `json:"nonce"`
	Socket        string          `json:"socket"`
	Dir           string          `json:"dir"`
	DieWithParent bool            `json:"dieWithParent,omitempty"`
	Orphan        time.Duration   `json:"orphan"`
	Silence       time.Duration   `json:"silence"`
	MemoryLimit   int64           `json:"memoryLimit,omitempty"`
	Sandboxing    Sandboxing      `json:"sandboxing"`
	Settings      json.RawMessage `json:"settings,omitempty"`
}

const maxBoot = 1 << 20 // bytes

// gcPercent keeps the collector's slack small: what guests hold is not in Go's
// heap, and an executor's own garbage is little.
const gcPercent = 50

// spareProcessors is how many more Go counts than there are: guests take as many
// as there are, and neither the collector nor who serves guests should wait for
// the end of their slices.
const spareProcessors = 2

var (
	errParentGone = errors.New("the parent is gone")
	errOrphaned   = errors.New("no agent came back in time")
	errDismissed  = errors.New("the agent has no more use for it")
)

// Main is the child process. It works until ctx ends, its agent dismisses it,
// the parent is gone (if it is to die with it) or no agent was connected for too
// long (if not); then all its guests are killed.
//
// Before the first guest the process gives up what it does not need any more.
// From then on it can start no other process and open no socket: what Open
// returns must have done so.
func Main(ctx context.Context, c MainConfig) error {
	if c.Input == nil || c.Open == nil || c.Logger == nil {
		return errors.New("executor: Input, Open and Logger are required")
	}
	input := bufio.NewReader(io.LimitReader(c.Input, maxBoot))
	line, err := input.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read what to do from standard input: %w; an executor is started by weft itself", err)
	}
	var b boot
	if err := json.Unmarshal(line, &b); err != nil {
		return fmt.Errorf("read what to do from standard input: it is not what an agent writes (%w)", err)
	}
	if b.Nonce == "" || b.Socket == "" || b.Dir == "" {
		return errors.New("read what to do from standard input: nonce, socket and dir are required")
	}
	settle(c.Logger)
	debug.SetGCPercent(gcPercent)
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + spareProcessors)
	if b.MemoryLimit > 0 {
		debug.SetMemoryLimit(b.MemoryLimit)
	}
	rt, err := c.Open(ctx, b.Settings)
	if err != nil {
		return fmt.Errorf("open runtime: %w", err)
	}
	s, err := newServer(rt, b, c.Logger)
	if err != nil {
		return errors.Join(err, drain(ctx, rt))
	}
	defer s.closeExits()
	harden(b.Sandboxing, c.Logger)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return rt.Run(ctx) })
	g.Go(func() error { return s.run(ctx) })
	if b.DieWithParent {
		// Nobody waits for this one: a read of standard input cannot be ended.
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			_, _ = io.Copy(io.Discard, c.Input) // any end means the same
		}()
		g.Go(func() error {
			select {
			case <-gone:
				return errParentGone
			case <-ctx.Done():
				return nil
			}
		})
	}
	err = g.Wait()
	for _, expected := range [...]error{errParentGone, errOrphaned, errDismissed} {
		if errors.Is(err, expected) {
			return nil
		}
	}
	return err
}

// drain closes a runtime that never ran.
func drain(ctx context.Context, rt Runtime) error {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	return rt.Run(ended)
}

// server serves one runtime to one agent at a time.
type server struct {
	rt       wasm.Runtime
	boot     boot
	log      *slog.Logger
	exits    *journal
	listener net.Listener
	handlers sync.WaitGroup

	quit      sync.Once
	dismissed chan struct{} // closed by quit

	mu       sync.Mutex
	current  *conn
	since    time.Time                   // when current was lost
	recorded map[string]map[string]state // exits of executors before, by sandbox and ID
}

func newServer(rt wasm.Runtime, b boot, log *slog.Logger) (*server, error) {
	x, err := openJournal(b.Dir)
	if err != nil {
		return nil, err
	}
	s := &server{rt: rt, boot: b, log: log, exits: x, since: time.Now(), dismissed: make(chan struct{}), recorded: map[string]map[string]state{}}
	for _, st := range x.all() {
		if s.recorded[st.Sandbox] == nil {
			s.recorded[st.Sandbox] = map[string]state{}
		}
		s.recorded[st.Sandbox][st.ID] = st
	}
	if err := s.listen(); err != nil {
		return nil, errors.Join(err, x.close())
	}
	return s, nil
}

// listen opens the socket, for its owner alone.
func (s *server) listen() (err error) {
	if err := os.Remove(s.boot.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove old socket: %w", err)
	}
	if s.listener, err = net.Listen("unix", s.boot.Socket); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if err := os.Chmod(s.boot.Socket, 0o600); err != nil {
		return errors.Join(fmt.Errorf("protect socket: %w", err), s.listener.Close())
	}
	return nil
}

// run accepts agents until ctx ends.
func (s *server) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		<-ctx.Done()
		s.mu.Lock()
		current := s.current
		s.mu.Unlock()
		if current != nil {
			current.close()
		}
		return s.listener.Close()
	})
	g.Go(func() error { return s.watch(ctx) })
	g.Go(func() error {
		select {
		case <-s.dismissed:
			return errDismissed
		case <-ctx.Done():
			return nil
		}
	})
	g.Go(func() error {
		for {
			c, err := s.listener.Accept()
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return fmt.Errorf("accept: %w", err)
			}
			g.Go(func() error { s.serve(ctx, c); return nil })
		}
	})
	err := g.Wait()
	s.handlers.Wait()
	return err
}

// closeExits is called when the runtime is drained as well: its last guests' ends
// are recorded then.
func (s *server) closeExits() {
	if err := s.exits.close(); err != nil {
		s.log.Warn("exits are not written out", "err", err)
	}
}

// watch drops an agent that is silent, and gives up when none comes back.
func (s *server) watch(ctx context.Context) error {
	tick := time.NewTicker(max(s.boot.Silence/4, 10*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		s.mu.Lock()
		current, alone := s.current, time.Since(s.since)
		s.mu.Unlock()
		if current != nil && current.silence() > s.boot.Silence {
			s.log.Warn("agent is silent", "for", current.silence())
			current.close()
		}
		if current == nil && !s.boot.DieWithParent && alone > s.boot.Orphan {
			s.log.Warn("no agent came back, ending", "after", alone)
			return errOrphaned
		}
	}
}

// serve talks with one agent. A second one with the right nonce takes over.
func (s *server) serve(ctx context.Context, nc net.Conn) {
	c := newConn(nc)
	defer c.close()
	stop := context.AfterFunc(ctx, c.close)
	defer stop()
	var writer sync.WaitGroup
	writer.Go(c.writeLoop)
	defer writer.Wait()
	defer c.close()

	_ = nc.SetReadDeadline(time.Now().Add(5 * time.Second)) // fails on a closed one, as reading does
	known := false
	err := c.readLoop(func(m *message) error {
		if !known {
			if err := s.hello(c, m); err != nil {
				return err
			}
			known = true
			return nc.SetReadDeadline(time.Time{})
		}
		return s.dispatch(ctx, c, m)
	})
	s.mu.Lock()
	if s.current == c {
		s.current, s.since = nil, time.Now()
	}
	s.mu.Unlock()
	if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		s.log.Warn("connection of an agent ended", "err", err)
	}
}

func (s *server) hello(c *conn, m *message) error {
	if m.Op != opHello || subtle.ConstantTimeCompare([]byte(m.Nonce), []byte(s.boot.Nonce)) != 1 {
		return errors.New("a connection without the nonce was refused")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		s.current.close()
	}
	s.current = c
	// Under the lock, so that no event goes before it.
	return c.send(&message{ID: m.ID, Op: opHello, Version: protocol})
}

// tell sends an event to the agent there is, if any.
func (s *server) tell(m *message) {
	s.mu.Lock()
	c := s.current
	s.mu.Unlock()
	if c != nil {
		_ = c.send(m) // an agent that comes back asks for all instances
	}
}
