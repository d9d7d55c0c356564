package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weftrun/weft/wasm"
)

// Config configures a Client. The zero value of an optional field means its
// default.
type Config struct {
	// Command starts the child, which calls Main: program and arguments.
	// Required.
	Command []string
	// Env is the child's environment. Optional: nil means the agent's own.
	Env []string
	// Dir holds the socket, the state and the exits of this executor alone. It
	// is made with mode 0700. Required.
	Dir string
	// DieWithParent ends the child when the agent ends, however that ends.
	// Otherwise it lives on, and the next agent with this Dir finds it.
	DieWithParent bool
	// Stderr takes the child's log. Optional: the agent's own. A file if the
	// child lives on.
	Stderr *os.File
	// Compile compiles a module in yet another process, so that the child has
	// its code to load. If it returns wasm.ErrNotCompiled then the code cannot
	// be kept, and the child compiles. Optional: the child compiles always.
	Compile func(ctx context.Context, digest, path string) error
	// Settings are handed to MainConfig.Open in the child. Optional.
	Settings json.RawMessage
	// MemoryLimit is Go's soft memory limit for the child in bytes. It does not
	// bound what guests use. Optional, none.
	MemoryLimit int64
	// Heartbeat is how often each side is asked for a sign of life, and Timeout
	// how long a child may give none until it is killed. Optional, 1s and 10s.
	Heartbeat, Timeout time.Duration
	// StartTimeout is how long a child may take to come up. Optional, 20s.
	StartTimeout time.Duration
	// Orphan is how long a child that lives on waits for an agent. Optional,
	// 10 minutes.
	Orphan time.Duration
	// Sandboxing is what the child gives up once it has started. Optional: all
	// that this system lets it.
	Sandboxing Sandboxing
	// Cgroups caps the child's memory. Optional: it has no cap of its own.
	Cgroups *Cgroups
	// Logger is required.
	Logger *slog.Logger

	name string // of the control group
	own  bool   // the child is that of one sandbox, which is to blame for what it uses
}

// Client is a wasm.Runtime in another process. Its methods wait, as long as
// their context lasts, for a process to be there; while Run does not work,
// there is none.
type Client struct {
	config   Config
	waiters  sync.WaitGroup
	hot      atomic.Int64  // guests that wanted a slot, by the last answer
	ending   atomic.Bool   // End was called
	ended    chan struct{} // closed once the child was told so
	shortDir string        // of the socket, if Dir is too long; Run's alone

	mu      sync.Mutex
	session *session
	changed chan struct{} // closed when session changes
}

var _ wasm.Runtime = (*Client)(nil)

// New returns a Client. It starts nothing.
func New(c Config) (*Client, error) {
	var errs []error
	if len(c.Command) == 0 {
		errs = append(errs, errors.New("executor: Command is required"))
	}
	if c.Dir == "" {
		errs = append(errs, errors.New("executor: Dir is required"))
	}
	if c.Logger == nil {
		errs = append(errs, errors.New("executor: Logger is required"))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	orDefault(&c.Heartbeat, time.Second)
	orDefault(&c.Timeout, 10*time.Second)
	orDefault(&c.StartTimeout, 20*time.Second)
	orDefault(&c.Orphan, 10*time.Minute)
	if c.Stderr == nil {
		c.Stderr = os.Stderr
	}
	if c.name == "" {
		c.name = processName
	}
	return &Client{config: c, ended: make(chan struct{}), changed: make(chan struct{})}, nil
}

func orDefault(d *time.Duration, value time.Duration) {
	if *d <= 0 {
		*d = value
	}
}

// The waits between two attempts to start a child.
const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = 5 * time.Second
	// endPatience is how long a child may take to kill its guests at the end.
	endPatience = 3 * time.Second
)

// Run keeps a process there until ctx ends, and then ends it if it is to die
// with its parent.
func (c *Client) Run(ctx context.Context) error {
	if c.config.DieWithParent {
		defer func() {
			c.waiters.Wait()
			if c.shortDir != "" {
				_ = os.RemoveAll(c.shortDir) // a temporary folder
			}
		}()
	}
	var told sync.WaitGroup
	defer told.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	told.Go(func() {
		select {
		case <-c.ended:
			cancel()
		case <-ctx.Done():
		}
	})
	backoff := minBackoff
	for ctx.Err() == nil {
		begin := time.Now()
		err := c.round(ctx)
		if ctx.Err() != nil || c.ending.Load() {
			break
		}
		c.config.Logger.Warn("executor is lost", "err", err)
		if backoff = min(2*backoff, maxBackoff); time.Since(begin) > time.Minute {
			backoff = minBackoff
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
	}
	return nil
}

// End has the child end, even if it is to live on, and then Run. It may be
// called once; what is asked of the Client afterwards is never answered.
func (c *Client) End() {
	c.ending.Store(true)
	if s := c.current(); s != nil && s.child.version >= quitSince {
		ctx, cancel := context.WithTimeout(context.Background(), endPatience) //nolint:forbidigo // it ends whatever its caller does
		defer cancel()
		_, _ = s.call(ctx, &message{Op: opQuit}, nil) // if it does not hear, it is killed
	}
	close(c.ended)
}

// round is one process's life.
func (c *Client) round(ctx context.Context) error {
	ch, err := c.obtain(ctx)
	if err != nil {
		return err
	}
	s := newSession(c, ch)
	c.publish(s)
	err = s.run(ctx)
	c.publish(nil)
	switch {
	case c.config.DieWithParent && ctx.Err() != nil, c.ending.Load():
		ch.end(endPatience)
	case ctx.Err() == nil:
		ch.kill()
	default:
		_ = ch.conn.Close() // it lives on, and its guests too
		s.end(true, wasm.Exit{})
		return err
	}
	exit := c.lost(ch)
	s.end(false, exit)
	ch.group.remove()
	if ctx.Err() == nil && exit.Message != lostMessage {
		err = errors.New(exit.Message)
	}
	return err
}

// lostMessage is of instances whose executor is gone, for whatever reason.
const lostMessage = "its executor process ended"

// lost returns how the instances of a process ended that has: without their
// times.
func (c *Client) lost(ch *child) wasm.Exit {
	exit := wasm.Exit{Reason: wasm.Lost, Code: 137, Message: lostMessage}
	if !ch.group.starved() {
		return exit
	}
	exit.Message = fmt.Sprintf("its executor process was ended by the system's out-of-memory killer: executors may use %d MiB together", c.config.Cgroups.Limit()>>20)
	if c.config.own {
		exit.Reason = wasm.OutOfMemory
	}
	return exit
}

func (c *Client) obtain(ctx context.Context) (*child, error) {
	if !c.config.DieWithParent {
		ch, err := c.reattach(ctx)
		if err == nil {
			c.config.Logger.Info("found the executor again")
			return ch, nil
		}
		if errors.Is(err, errInTheWay) || ctx.Err() != nil {
			return nil, err
		}
		if !errors.Is(err, os.ErrNotExist) {
			c.config.Logger.Info("no executor to find again", "err", err)
		}
	}
	return c.spawn(ctx)
}

func (c *Client) publish(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session = s
	close(c.changed)
	c.changed = make(chan struct{})
}

// current returns the process that is there, or nil.
func (c *Client) current() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session
}

// present waits for a process to be there.
func (c *Client) present(ctx context.Context) (*session, error) {
	for {
		c.mu.Lock()
		s, changed := c.session, c.changed
		c.mu.Unlock()
		if s != nil {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for executor: %w", ctx.Err())
		}
	}
}

// forgetLost tells the process of now, if there is one, that nobody will ask
// any more how an instance of the process before ended. Otherwise that is
// forgotten when its sandbox is closed, or in time.
func (c *Client) forgetLost(ctx context.Context, k key) error {
	s := c.current()
	if s == nil {
		return nil
	}
	_, err := s.call(ctx, &message{Op: opRelease, Sandbox: k.Sandbox, Instance: k.ID}, nil)
	if errors.Is(err, wasm.ErrGone) {
		return nil
	}
	return err
}

// module is a prepared module. It outlives the process that prepared it.
type module struct {
	digest, path string
	minMemory    int64
}

func (m *module) Digest() string   { return m.digest }
func (m *module) MinMemory() int64 { return m.minMemory }

// Prepare implements wasm.Runtime. A process that was respawned prepares the
// module anew from path when it is started.
func (c *Client) Prepare(ctx context.Context, digest, path string) (wasm.Module, error) {
	s, err := c.present(ctx)
	if err != nil {
		return nil, err
	}
	reply, err := s.callCompiled(ctx, &message{Op: opPrepare, Digest: digest, Path: path}, nil)
	if err != nil {
		return nil, err
	}
	return &module{digest: digest, path: path, minMemory: reply.MinMemory}, nil
}

// OpenSandbox implements wasm.Runtime.
func (c *Client) OpenSandbox(ctx context.Context, sc wasm.SandboxConfig) (wasm.Sandbox, error) {
	if sc.Handler != "" && sc.Handler != Dense {
		return nil, fmt.Errorf("open sandbox %s: %w: %s", sc.ID, wasm.ErrHandler, sc.Handler)
	}
	s, err := c.present(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := s.call(ctx, &message{Op: opOpen, Sandbox: sc.ID, Hostname: sc.Hostname}, nil); err != nil {
		return nil, err
	}
	return &sandbox{session: s, id: sc.ID}, nil
}

// Sandboxes implements wasm.Runtime.
func (c *Client) Sandboxes(ctx context.Context) ([]string, error) {
	s, err := c.present(ctx)
	if err != nil {
		return nil, err
	}
	reply, err := s.call(ctx, &message{Op: opSandboxes}, nil)
	if err != nil {
		return nil, err
	}
	return reply.IDs, nil
}
