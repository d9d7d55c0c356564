package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// cluster is one core or two with their plugin, perhaps the NATS servers that
// they are on, and nodes with their executors, each of which has a folder and a
// copy of the binary of its own: by that its processes are known.
type cluster struct {
	o       *options
	nats    []string // addresses
	servers []*part  // of NATS; none: it is in the core
	cores   []*part
	nodes   []*part
}

// part is a process that is started again whenever it ends.
type part struct {
	name   string
	folder string // WEFT_DATA
	binary string
	args   []string
	way    []*proxy // to each NATS server, if there is something between

	mu     sync.Mutex
	cmd    *exec.Cmd
	hold   bool // it is not to be started again now
	ended  chan struct{}
	closed bool
	group  sync.WaitGroup
}

func newCluster(o *options) (*cluster, error) {
	c := &cluster{o: o}
	names, servers := []string{"core"}, 1
	if o.outside {
		names, servers = []string{"core-a", "core-b"}, outsideServers
	}
	for range servers {
		address, err := freeAddress()
		if err != nil {
			return nil, err
		}
		c.nats = append(c.nats, address)
	}
	for _, name := range names {
		p, err := c.newPart(o.weft, name, "core")
		if err != nil {
			return nil, err
		}
		c.cores = append(c.cores, p)
	}
	return c, nil
}

// freeAddress finds a port that is free now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is at once
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// newPart makes the folder of a part, with a copy of a binary.
func (c *cluster) newPart(binary, name string, args ...string) (*part, error) {
	p := &part{name: name, folder: filepath.Join(c.o.data, name), args: args}
	p.binary = filepath.Join(p.folder, "bin", filepath.Base(binary))
	if err := os.MkdirAll(filepath.Dir(p.binary), 0o700); err != nil {
		return nil, err
	}
	if err := os.Link(binary, p.binary); err == nil {
		return p, nil
	}
	out, err := exec.Command("cp", binary, p.binary).CombinedOutput() //nolint:noctx // it ends
	if err != nil {
		return nil, fmt.Errorf("copy the binary: %w: %s", err, out)
	}
	return p, nil
}

func (c *cluster) configure(p *part, settings string) error {
	text := "log_level = \"info\"\ndebug_sockets = true\n" + settings
	return os.WriteFile(filepath.Join(p.folder, "weft.toml"), []byte(text), 0o600)
}

// start starts the cores and two nodes, and waits for the API.
func (c *cluster) start(ctx context.Context) error {
	startCores := c.startCore
	if c.o.outside {
		startCores = c.startOutside
	}
	if err := startCores(ctx); err != nil {
		return err
	}
	for _, name := range []string{"a", "b"} {
		p, err := c.newPart(c.o.weft, "node-"+name, "node", "--name", name)
		if err != nil {
			return err
		}
		c.nodes = append(c.nodes, p)
		credentials, err := c.command(ctx, "credentials", "node", name)
		if err != nil {
			return err
		}
		file := filepath.Join(p.folder, "node.creds")
		if err := os.WriteFile(file, credentials, 0o600); err != nil {
			return err
		}
		if err := p.behind(c.nats); err != nil {
			return err
		}
		err = c.configure(p, fmt.Sprintf("[nats]\nurls = [%s]\ncredentials = %q\n[node]\nname = %q\nmodule_path = [%q]\n",
			p.urls(), file, name, c.o.modules))
		if err != nil {
			return err
		}
		if err := p.launch(); err != nil {
			return err
		}
	}
	return nil
}

// startCore starts the one core, whose NATS server is embedded.
func (c *cluster) startCore(ctx context.Context) error {
	api, err := freeAddress()
	if err != nil {
		return err
	}
	core := c.cores[0]
	err = c.configure(core, fmt.Sprintf("[api]\nlisten = %q\n[nats]\nlisten = %q\n[node]\nname = \"core\"\n", api, c.nats[0]))
	if err != nil {
		return err
	}
	if err := core.launch(); err != nil {
		return err
	}
	return core.said(ctx, "core is ready")
}

// command runs weft in the folder of the first core, and returns what it prints.
func (c *cluster) command(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, c.o.weft, args...)
	cmd.Env = append(os.Environ(), "WEFT_DATA="+c.cores[0].folder)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("weft %s: %w", strings.Join(args, " "), err)
	}
	return out, nil
}

// behind puts a proxy between the part and each NATS server.
func (p *part) behind(addresses []string) error {
	for _, address := range addresses {
		between, err := newProxy(address)
		if err != nil {
			return err
		}
		p.way = append(p.way, between)
	}
	return nil
}

// urls are the part's ways to NATS, as a list of TOML.
func (p *part) urls() string {
	var all []string
	for _, w := range p.way {
		all = append(all, strconv.Quote(w.url()))
	}
	return strings.Join(all, ", ")
}

func (p *part) setCut(cut bool) {
	for _, w := range p.way {
		w.setCut(cut)
	}
}

// launch starts the process, and again whenever it has ended.
func (p *part) launch() error {
	log, err := os.OpenFile(filepath.Join(p.folder, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	p.group.Go(func() {
		defer log.Close()
		for p.once(log) {
			time.Sleep(500 * time.Millisecond) // as whatever supervises it does
		}
	})
	return nil
}

// once runs the process, and tells whether it is to be run again.
func (p *part) once(log *os.File) bool {
	cmd := exec.Command(p.binary, p.args...) //nolint:noctx // it is ended by close
	cmd.Env = append(os.Environ(), "WEFT_DATA="+p.folder)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return false
	}
	err := cmd.Start()
	p.cmd, p.ended = cmd, make(chan struct{})
	p.mu.Unlock()
	if err == nil {
		_ = cmd.Wait() // it is in the log, and mostly what was wanted
	} else {
		_, _ = fmt.Fprintln(log, err)
	}
	close(p.ended)
	for {
		p.mu.Lock()
		hold, closed := p.hold, p.closed
		p.mu.Unlock()
		if closed || !hold {
			return !closed
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// said waits until a text is in the part's log.
func (p *part) said(ctx context.Context, text string) error {
	for begin := time.Now(); time.Since(begin) < time.Minute && ctx.Err() == nil; wait(ctx, 50*time.Millisecond) {
		if log, err := os.ReadFile(filepath.Join(p.folder, "log")); err == nil && strings.Contains(string(log), text) {
			return nil
		}
	}
	return fmt.Errorf("%s did not say %q within a minute", p.name, text)
}

// pid is that of the running process; 0 if there is none.
func (p *part) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || p.cmd.Process == nil {
		return 0
	}
	select {
	case <-p.ended:
		return 0
	default:
		return p.cmd.Process.Pid
	}
}

// close ends everything and says what is left.
func (c *cluster) close() error {
	var errs []error
	for _, p := range slices.Concat(c.nodes, c.cores, c.servers) {
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		if pid := p.pid(); pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGCONT) // it may be stopped
			_ = syscall.Kill(pid, syscall.SIGTERM) // it may have ended
		}
		p.group.Wait()
		for _, w := range p.way {
			w.close()
		}
		// An executor outlives its agent, which is wanted; nothing else may.
		for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
			left := p.processes("")
			for _, q := range left {
				if strings.HasSuffix(q.command, " executor") {
					_ = syscall.Kill(q.pid, syscall.SIGCONT) // it may be stopped
					_ = syscall.Kill(q.pid, syscall.SIGKILL) // it may have ended
				}
			}
			if len(left) == 0 {
				break
			}
			if time.Since(begin) > 10*time.Second {
				errs = append(errs, fmt.Errorf("%s left a process: %s (%d)", p.name, left[0].command, left[0].pid))
				_ = syscall.Kill(left[0].pid, syscall.SIGKILL) // it may have ended
				break
			}
		}
	}
	return errors.Join(errs...)
}
