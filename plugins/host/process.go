package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/plugins"
	"github.com/weftrun/weft/plugins/wire"
)

const (
	startTimeout = 15 * time.Second
	firstBackoff = 50 * time.Millisecond
	lastBackoff  = 30 * time.Second
	healthyAfter = 10 * time.Second // a process that ran so long starts again at once
	// restartPatience is how long those that ask wait for a process that is
	// down, counted from when it went down: one that is merely started again is
	// back by then, and one that is broken must not hold up other kinds.
	restartPatience = 3 * time.Second
	// lookEvery is how often a process's memory is looked at.
	lookEvery = 250 * time.Millisecond
	// markEnv names the variable that holds Config.Mark.
	markEnv = "WEFT_PLUGIN_HOST"
	// stopPatience is how long a process may take to end when asked to.
	stopPatience = 3 * time.Second
)

// process keeps one plugin's process running.
type process struct {
	plugin  Plugin
	config  Config
	log     *slog.Logger
	changed func(again bool) // called when what it serves changed; again: ask anew about everything
	restart chan restartRequest

	mu       sync.Mutex
	client   *wire.Client  // nil while it does not run
	up       chan struct{} // closed when client is set
	down     time.Time     // since when it does not run
	refused  bool          // someone was told since then that it does not run
	another  bool          // it is another program than the one that served last
	givenUp  *wire.Client  // of the process that was last ended on request
	overfull *wire.Client  // of the process that was last ended for its memory
	full     string        // what was said of that
	proxies  []*proxy
	restarts int
	failure  string
	taken    map[core.GroupResource]bool
}

// restartRequest asks to start the process anew that a client is of.
type restartRequest struct {
	client *wire.Client
	reason string
}

func newProcess(p Plugin, c Config, changed func(again bool)) *process {
	return &process{
		plugin: p, config: c, changed: changed,
		log:     c.Logger.With("plugin", p.Name),
		restart: make(chan restartRequest, 1), // one request is enough, more say the same
		down:    time.Now(),
		up:      make(chan struct{}),
		taken:   map[core.GroupResource]bool{},
	}
}

// run starts the process again and again until ctx ends.
func (p *process) run(ctx context.Context) error {
	backoff := firstBackoff
	for ctx.Err() == nil {
		started := time.Now()
		err := p.once(ctx)
		if ctx.Err() != nil {
			break
		}
		if time.Since(started) > healthyAfter {
			backoff = firstBackoff
		}
		level := slog.LevelWarn
		if p.failed(err) {
			level = slog.LevelDebug // it has been said
		}
		p.log.Log(ctx, level, "plugin ended, starting it again", "err", err, "after", backoff)
		select {
		case <-ctx.Done():
		case <-time.After(backoff + rand.N(backoff/4+1)):
		}
		backoff = min(2*backoff, lastBackoff)
	}
	return nil
}

// once runs the process until it ends, must be restarted, or ctx ends.
func (p *process) once(ctx context.Context) error {
	pipes, err := newPipes()
	if err != nil {
		return err
	}
	defer pipes.close()
	sockets, err := os.MkdirTemp("", "weft-plugin-")
	if err != nil {
		return fmt.Errorf("make folder for the socket: %w", err)
	}
	defer func() { _ = os.RemoveAll(sockets) }() // in the system's temporary folder
	life, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	spare := context.AfterFunc(ctx, kill) // one that has not started yet is not asked to end
	started, err := p.start(life, pipes, sockets, kill)
	defer started.end(kill)
	if err != nil {
		return err
	}
	startCtx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	connected, descriptions, err := wire.Connect(startCtx, started.remote)
	if err != nil {
		return err
	}
	spare()
	// The one connection stands. Without its socket nobody else can try, and
	// nothing is left behind if this process is killed.
	if err := os.RemoveAll(sockets); err != nil {
		return fmt.Errorf("remove the socket: %w", err)
	}
	p.serve(connected, descriptions)
	defer p.unserve()
	p.log.Info("plugin serves", "controllers", len(descriptions))
	return p.watch(ctx, started, connected, pipes.childEnded, kill)
}

// watch returns why the process must be started again, when it must.
func (p *process) watch(ctx context.Context, started *child, connected *wire.Client, ended <-chan struct{}, kill func()) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), errReplaced) {
				p.giveUp(connected)
			}
			return ctx.Err()
		case request := <-p.restart:
			if request.client != connected {
				continue // it was about the process before this one
			}
			kill() // a loop does not hear that it should end
			return fmt.Errorf("restart: %s", request.reason)
		case <-ended:
			return errors.New("the process ended")
		case <-look.C:
			used, known := resident(started.pid)
			switch {
			case known && used == 0: // what it has started holds its pipes
				started.endFamily()
				return errors.New("the process ended")
			case known && p.config.Memory > 0 && used > p.config.Memory:
				reason := fmt.Sprintf("plugin %s held %d MiB of memory, %d MiB are allowed (plugins.memory); its process is restarted",
					p.plugin.Name, used>>20, p.config.Memory>>20)
				p.noteFull(connected, reason)
				kill()
				return errors.New(reason)
			}
		}
	}
}

// pipes tell the child that the host ended, and the host that the child did:
// each end of a pipe is closed with the process that holds the other.
type pipes struct {
	lifeRead, lifeWrite *os.File
	deathRead           *os.File
	deathWrite          *os.File
	childEnded          chan struct{}
}

func newPipes() (*pipes, error) {
	p := &pipes{childEnded: make(chan struct{})}
	var err error
	if p.lifeRead, p.lifeWrite, err = os.Pipe(); err != nil {
		return nil, fmt.Errorf("make lifeline: %w", err)
	}
	if p.deathRead, p.deathWrite, err = os.Pipe(); err != nil {
		_, _ = p.lifeRead.Close(), p.lifeWrite.Close()
		return nil, fmt.Errorf("make lifeline: %w", err)
	}
	return p, nil
}

// started closes what only the child is to hold, and begins to watch it.
func (p *pipes) started() {
	_, _ = p.lifeRead.Close(), p.deathWrite.Close()
	go func() {
		_, _ = io.Copy(io.Discard, p.deathRead)
		close(p.childEnded)
	}()
}

func (p *pipes) close() {
	_, _ = p.lifeWrite.Close(), p.deathRead.Close()
	_, _ = p.lifeRead.Close(), p.deathWrite.Close()
}

// child is a process that was launched.
type child struct {
	client *goplugin.Client
	remote wire.ControllersClient // nil if it could not be started
	pid    int
	mark   string // what it has in its environment, and all that it starts
}

// start launches the process, which is killed when life ends, and connects to
// it. The child is to be ended, also after an error. The kernel kills a child
// when the thread that started it ends, so the thread stays for the child.
func (p *process) start(life context.Context, pipes *pipes, sockets string, kill func()) (*child, error) {
	c := &child{mark: goplugin.EnvUnixSocketDir + "=" + sockets}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.launch(life, c, pipes, sockets, kill)
		pipes.started()
		done <- err
		if err == nil {
			<-pipes.childEnded
		}
	}()
	if err := <-done; err != nil {
		return c, fmt.Errorf("start %s: %w", p.plugin.Command, explain(err))
	}
	return c, nil
}

// launch starts the process of c: in a namespace of its own, or else beneath a
// guard.
func (p *process) launch(life context.Context, c *child, pipes *pipes, sockets string, kill func()) (err error) {
	for {
		run := p.launcher(life, pipes, sockets, kill)
		c.client = p.newClient(run, sockets)
		c.remote, err = dispense(c.client)
		c.pid = run.pid
		if err == nil || !run.confined || run.pid != 0 || !refusesNamespace(err) {
			return err
		}
		if len(p.config.Guard) > 0 {
			p.log.Info("plugins have no process namespace of their own: a guard beside each ends what it has started", "err", err)
		} else {
			p.log.Info("plugins have no process namespace of their own: what one has started may outlive a core that is killed, until the next one starts", "err", err)
		}
	}
}

// end asks the process to end, kills it if it does not, as it does not when it
// is frozen, and kills what it has started.
func (c *child) end(kill func()) {
	timer := time.AfterFunc(stopPatience, func() {
		kill()
		c.endFamily() // it may hold the pipes whose end is waited for
	})
	c.client.Kill()
	timer.Stop()
	c.endFamily()
}

func (c *child) endFamily() { endFamily(c.mark) }

// explain says in a line why a program could not be started as a plugin.
func explain(err error) error {
	switch text := err.Error(); {
	case strings.Contains(text, "Unrecognized remote plugin message"), strings.Contains(text, "exited before we could connect"):
		return errors.New("it is no plugin, or ended at once: it did not print the line that a plugin begins with; mend or remove it (docs/plugins.md)")
	case strings.Contains(text, "timeout while waiting for plugin"):
		return fmt.Errorf("it did not print the line that a plugin begins with within %s; mend or remove it (docs/plugins.md)", startTimeout)
	default:
		return err
	}
}

func dispense(client *goplugin.Client) (wire.ControllersClient, error) {
	protocol, err := client.Client()
	if err != nil {
		return nil, err
	}
	raw, err := protocol.Dispense(plugins.ServiceName)
	if err != nil {
		return nil, err
	}
	remote, ok := raw.(wire.ControllersClient)
	if !ok {
		return nil, fmt.Errorf("the plugin serves a %T", raw)
	}
	return remote, nil
}

// newClient has run start the process, as go-plugin wants it to.
func (p *process) newClient(run *launcher, sockets string) *goplugin.Client {
	return goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig: plugins.Handshake(),
		Plugins:         goplugin.PluginSet{plugins.ServiceName: &plugins.Bridge{}},
		RunnerFunc: func(_ hclog.Logger, spec *exec.Cmd, _ string) (runner.Runner, error) {
			return run, run.prepare(spec)
		},
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: sockets},
		SkipHostEnv:      true,
		AutoMTLS:         true,
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		StartTimeout:     startTimeout,
		Stderr:           p.output(),
		SyncStdout:       io.Discard,
		Logger:           hclog.New(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Off}),
		GRPCDialOptions:  []grpc.DialOption{wire.CallOptions(), grpc.WithIdleTimeout(0)},
	})
}

func environment() []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// output logs what the plugin writes, a line each, cut at a few KB.
func (p *process) output() io.Writer { return &lineLogger{log: p.log} }

func (p *process) serve(client *wire.Client, descriptions []core.Description) {
	p.mu.Lock()
	again := p.refused
	same := !p.another && len(descriptions) == len(p.proxies)
	p.client, p.failure, p.refused, p.another = client, "", false, false
	close(p.up)
	for i := 0; same && i < len(descriptions); i++ {
		same = sameDescription(p.proxies[i].description, descriptions[i])
	}
	if same {
		for _, c := range p.proxies {
			c.forget() // its program may be another one
		}
	} else {
		p.proxies = nil
		for _, d := range descriptions {
			p.proxies = append(p.proxies, newProxy(p, d))
		}
	}
	p.mu.Unlock()
	p.warnUnserved(descriptions)
	p.changed(again)
}

// warnUnserved names the kinds that the settings take from this plugin and
// that it does not have.
func (p *process) warnUnserved(descriptions []core.Description) {
	for _, kind := range p.plugin.Kinds {
		if !slices.ContainsFunc(descriptions, func(d core.Description) bool { return d.Resource.String() == kind }) {
			p.log.Warn("the settings take a kind from this plugin that it does not serve", "kind", kind)
		}
	}
}

func (p *process) unserve() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.client, p.down = nil, time.Now()
	p.up = make(chan struct{})
	p.restarts++
}

// failed keeps why the process does not run, and tells whether that is the
// same as before, with no time in between when it did.
func (p *process) failed(err error) (again bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	again = p.failure == err.Error()
	p.failure = err.Error()
	return again
}

// connection returns the client, waiting for a restart that is under way.
func (p *process) connection(ctx context.Context) (*wire.Client, error) {
	for {
		p.mu.Lock()
		client, up, wait := p.client, p.up, time.Until(p.down.Add(restartPatience))
		p.mu.Unlock()
		if client != nil {
			return client, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-up:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return nil, p.isDown()
		case <-timer.C:
			return nil, p.isDown()
		}
	}
}

// isDown says that the process does not run, and remembers that it did.
func (p *process) isDown() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused = true
	return &core.SetAsideError{Reason: fmt.Sprintf("plugin %s does not run: %s", p.plugin.Name, p.failure)}
}

// askRestart asks for an end of the process that client is of.
func (p *process) askRestart(client *wire.Client, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client != client {
		return
	}
	select {
	case <-p.restart: // one about a process before
	default:
	}
	p.givenUp = client
	p.restart <- restartRequest{client, reason} // there is room: only here is it filled
}

// giveUp says that the process of client is ended for what it was not asked.
func (p *process) giveUp(client *wire.Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.givenUp = client
}

// replaced says that the next program is another one, of which nothing is
// known: all is asked anew, and what the last one was spared too.
func (p *process) replaced() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.another, p.down, p.restarts = true, time.Now(), 0
	p.failure = errReplaced.Error() + ", and it does not serve yet"
	p.taken = map[core.GroupResource]bool{}
}

// gaveUp tells whether the process of client was ended on request, and not by
// what it was asked.
func (p *process) gaveUp(client *wire.Client) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.givenUp == client
}

// noteFull says that the process of client is ended for its memory.
func (p *process) noteFull(client *wire.Client, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.overfull, p.full = client, reason
}

// whyFull returns why the process of client was ended for its memory, or
// nothing if it was not.
func (p *process) whyFull(client *wire.Client) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.overfull != client {
		return ""
	}
	return p.full
}

func (p *process) controllers() []*proxy {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.proxies
}

func (p *process) noteTaken(resource core.GroupResource, by string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.taken[resource] {
		p.taken[resource] = true
		p.log.Warn("kind is served by another plugin; name it under kinds in the settings to choose", "kind", resource, "by", by)
	}
}

func (p *process) status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Status{Name: p.plugin.Name, Command: p.plugin.Command, Running: p.client != nil, Restarts: p.restarts, Error: p.failure}
	for _, proxy := range p.proxies {
		s.Controllers = append(s.Controllers, proxy.description.Name)
	}
	return s
}
