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
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
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
)

// process keeps one plugin's process running.
type process struct {
	plugin  Plugin
	config  Config
	log     *slog.Logger
	changed func() // called when what it serves changed
	restart chan string

	mu       sync.Mutex
	client   *wire.Client  // nil while it does not run
	up       chan struct{} // closed when client is set
	proxies  []*proxy
	restarts int
	failure  string
	taken    map[core.GroupResource]bool
}

func newProcess(p Plugin, c Config, changed func()) *process {
	return &process{
		plugin: p, config: c, changed: changed,
		log:     c.Logger.With("plugin", p.Name),
		restart: make(chan string, 1), // one request is enough, more say the same
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
		p.failed(err)
		p.log.Warn("plugin ended, starting it again", "err", err, "after", backoff)
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
	client, remote, err := p.start(pipes)
	if err != nil {
		return err
	}
	defer client.Kill()
	startCtx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	connected, descriptions, err := wire.Connect(startCtx, remote)
	if err != nil {
		return err
	}
	p.serve(connected, descriptions)
	defer p.unserve()
	p.log.Info("plugin serves", "controllers", len(descriptions))
	select {
	case <-ctx.Done():
		return ctx.Err()
	case reason := <-p.restart:
		return fmt.Errorf("restart: %s", reason)
	case <-pipes.childEnded:
		return errors.New("the process ended")
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
	go func() { //nolint:forbidigo // ends with the child, or when the pipe is closed
		_, _ = io.Copy(io.Discard, p.deathRead)
		close(p.childEnded)
	}()
}

func (p *pipes) close() {
	_, _ = p.lifeWrite.Close(), p.deathRead.Close()
	_, _ = p.lifeRead.Close(), p.deathWrite.Close()
}

// start launches the process and connects to it. The kernel kills a child
// when the thread that started it ends, so the thread stays for the child.
func (p *process) start(pipes *pipes) (*goplugin.Client, wire.ControllersClient, error) {
	client := p.newClient(pipes)
	type result struct {
		remote wire.ControllersClient
		err    error
	}
	done := make(chan result)
	go func() { //nolint:forbidigo // ends with the child
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		remote, err := dispense(client)
		pipes.started()
		done <- result{remote, err}
		if err == nil {
			<-pipes.childEnded
		}
	}()
	r := <-done
	if r.err != nil {
		client.Kill()
		return nil, nil, fmt.Errorf("start %s: %w", p.plugin.Command, r.err)
	}
	return client, r.remote, nil
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

func (p *process) newClient(pipes *pipes) *goplugin.Client {
	cmd := exec.Command(p.plugin.Command, p.plugin.Args...)
	cmd.Env = append(environment(), plugins.LifelineEnv+"=3")
	cmd.Env = append(cmd.Env, p.plugin.Env...)
	cmd.ExtraFiles = []*os.File{pipes.lifeRead, pipes.deathWrite}
	dieWithParent(cmd)
	return goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  plugins.Handshake(),
		Plugins:          goplugin.PluginSet{plugins.ServiceName: &plugins.Bridge{}},
		Cmd:              cmd,
		SkipHostEnv:      true,
		AutoMTLS:         true,
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		StartTimeout:     startTimeout,
		Stderr:           p.output(),
		SyncStdout:       io.Discard,
		Logger:           hclog.New(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Off}),
		GRPCDialOptions: []grpc.DialOption{grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(wire.MaxMessage), grpc.MaxCallSendMsgSize(wire.MaxMessage))},
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
	p.client, p.failure = client, ""
	close(p.up)
	same := len(descriptions) == len(p.proxies)
	for i := 0; same && i < len(descriptions); i++ {
		same = sameDescription(p.proxies[i].description, descriptions[i])
	}
	if !same {
		p.proxies = nil
		for _, d := range descriptions {
			p.proxies = append(p.proxies, newProxy(p, d))
		}
	}
	p.mu.Unlock()
	p.changed()
}

func (p *process) unserve() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.client = nil
	p.up = make(chan struct{})
	p.restarts++
}

func (p *process) failed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failure = err.Error()
}

// connection returns the client, waiting for a restart that is under way.
func (p *process) connection(ctx context.Context) (*wire.Client, error) {
	for {
		p.mu.Lock()
		client, up, failure := p.client, p.up, p.failure
		p.mu.Unlock()
		if client != nil {
			return client, nil
		}
		select {
		case <-ctx.Done():
			return nil, &core.SetAsideError{Reason: fmt.Sprintf("plugin %s does not run: %s", p.plugin.Name, failure)}
		case <-up:
		}
	}
}

func (p *process) askRestart(reason string) {
	select {
	case p.restart <- reason:
	default:
	}
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
