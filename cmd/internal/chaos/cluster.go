package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// cluster is a core with its plugin, and nodes with their executors, each of
// which has a folder and a copy of the binary of its own: by that its processes
// are known.
type cluster struct {
	o     *options
	api   string // address
	nats  string // address
	core  *part
	nodes []*part
}

// part is a process that is started again whenever it ends.
type part struct {
	name   string
	folder string // WEFT_DATA
	binary string
	args   []string
	proxy  *proxy // of a node: its way to the core

	mu     sync.Mutex
	cmd    *exec.Cmd
	hold   bool // it is not to be started again now
	ended  chan struct{}
	closed bool
	group  sync.WaitGroup
}

func newCluster(o *options) (*cluster, error) {
	c := &cluster{o: o}
	var err error
	if c.api, err = freeAddress(); err != nil {
		return nil, err
	}
	if c.nats, err = freeAddress(); err != nil {
		return nil, err
	}
	if c.core, err = c.newPart("core", "core"); err != nil {
		return nil, err
	}
	return c, c.configure(c.core, fmt.Sprintf("[api]\nlisten = %q\n[nats]\nlisten = %q\n[node]\nname = \"core\"\n", c.api, c.nats))
}

// freeAddress finds a port that is free now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is at once
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// newPart makes the folder of a part, with a copy of the binary.
func (c *cluster) newPart(name string, args ...string) (*part, error) {
	p := &part{name: name, folder: filepath.Join(c.o.data, name), args: args}
	p.binary = filepath.Join(p.folder, "bin", "weft")
	if err := os.MkdirAll(filepath.Dir(p.binary), 0o700); err != nil {
		return nil, err
	}
	if err := os.Link(c.o.weft, p.binary); err == nil {
		return p, nil
	}
	out, err := exec.Command("cp", c.o.weft, p.binary).CombinedOutput() //nolint:noctx // it ends
	if err != nil {
		return nil, fmt.Errorf("copy the binary: %w: %s", err, out)
	}
	return p, nil
}

func (c *cluster) configure(p *part, settings string) error {
	text := "log_level = \"info\"\ndebug_sockets = true\n" + settings
	return os.WriteFile(filepath.Join(p.folder, "weft.toml"), []byte(text), 0o600)
}

// start starts the core and two nodes, and waits for the API.
func (c *cluster) start(ctx context.Context) error {
	if err := c.core.launch(); err != nil {
		return err
	}
	if err := c.core.said(ctx, "core is ready"); err != nil {
		return err
	}
	for _, name := range []string{"a", "b"} {
		p, err := c.newPart("node-"+name, "node", "--name", name)
		if err != nil {
			return err
		}
		if p.proxy, err = newProxy(c.nats); err != nil {
			return err
		}
		c.nodes = append(c.nodes, p)
		cmd := exec.CommandContext(ctx, c.o.weft, "credentials", "node", name)
		cmd.Env = append(os.Environ(), "WEFT_DATA="+c.core.folder)
		credentials, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("credentials of node %s: %w", name, err)
		}
		file := filepath.Join(p.folder, "node.creds")
		if err := os.WriteFile(file, credentials, 0o600); err != nil {
			return err
		}
		err = c.configure(p, fmt.Sprintf("[nats]\nurls = [%q]\ncredentials = %q\n[node]\nname = %q\nmodule_path = [%q]\n",
			p.proxy.url(), file, name, c.o.modules))
		if err != nil {
			return err
		}
		if err := p.launch(); err != nil {
			return err
		}
	}
	return nil
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
	for _, p := range append(c.nodes, c.core) {
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		if pid := p.pid(); pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGCONT) // it may be stopped
			_ = syscall.Kill(pid, syscall.SIGTERM) // it may have ended
		}
		p.group.Wait()
		if p.proxy != nil {
			p.proxy.close()
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
