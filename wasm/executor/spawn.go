package executor

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

const (
	socketName = "executor.sock"
	stateName  = "executor.json"
	// maxSocketPath is what every operating system takes for a Unix socket.
	maxSocketPath = 100
)

// found is what an agent leaves for the one after it.
type found struct {
	Nonce  string `json:"nonce"`
	Socket string `json:"socket"`
}

// child is a process that was started or found, and the connection to it.
type child struct {
	conn    net.Conn
	process *os.Process   // nil: it cannot be killed
	socket  string        // where it listens
	stdin   io.Closer     // nil: it was found
	gone    chan struct{} // closed when the process has ended; nil: it was found
	version int           // of the wire that it speaks
	group   *cgroup       // nil: it has none
}

// kill ends the process and waits for that, as far as one can.
func (c *child) kill() {
	_ = c.conn.Close() // is over anyway
	if c.stdin != nil {
		_ = c.stdin.Close() // is over anyway
	}
	if c.process != nil {
		_ = c.process.Kill() // fails if it has ended
	}
	if c.gone != nil {
		<-c.gone
	} else if c.process != nil {
		awaitSilence(c.socket)
	}
}

// awaitSilence returns when nobody listens at socket any more: the one sign of
// a process's end that does not need its parent. A killed one cannot refuse,
// so the wait is bounded only against what cannot be.
func awaitSilence(socket string) {
	for begin := time.Now(); time.Since(begin) < endPatience; time.Sleep(time.Millisecond) {
		conn, err := net.Dial("unix", socket) //nolint:noctx // it is answered by the kernel
		if err != nil {
			return
		}
		_ = conn.Close() // was only a question
	}
}

// end lets a process that dies with its parent, or was told to, end by itself,
// and kills it if that takes too long.
func (c *child) end(patience time.Duration) {
	_ = c.conn.Close() // is over anyway
	if c.stdin != nil {
		_ = c.stdin.Close() // this is what tells it
	}
	if c.gone != nil {
		select {
		case <-c.gone:
			return
		case <-time.After(patience):
		}
	} else {
		awaitSilence(c.socket)
	}
	c.kill()
}

// reattach connects to the executor of the agent before, if there is one. One
// that lives and cannot be used is killed: its guests must not run beside those
// of the next one.
func (c *Client) reattach(ctx context.Context) (*child, error) {
	f, err := c.readState()
	if err == nil {
		ch := &child{socket: f.Socket}
		if ch.conn, ch.version, err = greet(ctx, f, c.config.Timeout); err == nil {
			ch.process = peer(ch.conn)
			ch.group = c.openGroup()
			return ch, nil
		}
	}
	if ctx.Err() != nil {
		return nil, err
	}
	if evicted := c.evict(ctx, f.Socket); evicted != nil {
		return nil, fmt.Errorf("%w: %w: %w", errInTheWay, err, evicted)
	}
	return nil, err
}

// errInTheWay says that an executor lives that can be neither used nor killed.
var errInTheWay = errors.New("another executor is in the way")

func (c *Client) readState() (found, error) {
	usual := found{Socket: filepath.Join(c.config.Dir, socketName)}
	b, err := os.ReadFile(filepath.Join(c.config.Dir, stateName))
	if err != nil {
		return usual, err
	}
	var f found
	if err := json.Unmarshal(b, &f); err != nil || f.Nonce == "" || f.Socket == "" {
		return usual, errors.New("its state file is damaged")
	}
	return f, nil
}

// evict kills whoever listens at socket.
func (c *Client) evict(ctx context.Context, socket string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil //nolint:nilerr // nobody is there
	}
	defer conn.Close()
	p := peer(conn)
	if p == nil || p.Pid == os.Getpid() {
		return fmt.Errorf("end the process that listens at %s", socket)
	}
	c.config.Logger.Warn("killing the executor of the agent before", "pid", p.Pid)
	if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill process %d: %w", p.Pid, err)
	}
	awaitSilence(socket)
	return nil
}

// greetTimeout is how long a process that was just started may take to answer.
const greetTimeout = 5 * time.Second

// greet connects and proves to know the nonce.
func greet(ctx context.Context, f found, timeout time.Duration) (_ net.Conn, version int, err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", f.Socket)
	if err != nil {
		return nil, 0, err
	}
	reply, err := func() (*message, error) {
		cn := newConn(conn)
		if err := cn.send(&message{Op: opHello, Nonce: f.Nonce, Version: protocol}); err != nil {
			return nil, err
		}
		if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
			return nil, err
		}
		if _, err := conn.Write(cn.pending); err != nil {
			return nil, err
		}
		var buf []byte
		return readMessage(conn, &buf)
	}()
	if err == nil && (reply.Op != opHello || reply.Version < 1) {
		err = errors.New("it does not speak our protocol")
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("greet executor: %w", err), conn.Close())
	}
	return conn, reply.Version, nil
}

// spawn starts a process and connects to it.
func (c *Client) spawn(ctx context.Context) (*child, error) {
	f, err := c.leaveState()
	if err != nil {
		return nil, err
	}
	line, err := json.Marshal(boot{
		Nonce: f.Nonce, Socket: f.Socket, Dir: c.config.Dir,
		DieWithParent: c.config.DieWithParent, Orphan: c.config.Orphan, Silence: 3 * c.config.Timeout,
		MemoryLimit: c.config.MemoryLimit, Sandboxing: c.config.Sandboxing, Settings: c.config.Settings,
	})
	if err != nil {
		return nil, fmt.Errorf("encode settings: %w", err)
	}
	if len(line) >= maxBoot {
		return nil, fmt.Errorf("encode settings: they have %d bytes, fewer than %d are allowed", len(line), maxBoot)
	}
	ch, err := c.launch(append(line, '\n'))
	if err != nil {
		return nil, err
	}
	timeout := time.After(c.config.StartTimeout)
	for {
		if ch.conn, ch.version, err = greet(ctx, f, greetTimeout); err == nil {
			return ch, nil
		}
		select {
		case <-ch.gone:
			err = fmt.Errorf("executor ended at once; its log says why: %w", err)
		case <-ctx.Done():
			err = ctx.Err()
		case <-timeout:
			err = fmt.Errorf("executor did not come up in %s: %w", c.config.StartTimeout, err)
		case <-time.After(2 * time.Millisecond):
			continue
		}
		_ = ch.stdin.Close()  // is over anyway
		_ = ch.process.Kill() // fails if it has ended
		<-ch.gone
		ch.group.remove()
		return nil, err
	}
}

// leaveState makes a nonce and leaves it for the agent after this one.
func (c *Client) leaveState() (found, error) {
	if err := os.MkdirAll(c.config.Dir, 0o700); err != nil {
		return found{}, fmt.Errorf("make folder: %w", err)
	}
	f := found{Nonce: rand.Text(), Socket: filepath.Join(c.config.Dir, socketName)}
	if len(f.Socket) > maxSocketPath {
		if c.shortDir == "" {
			dir, err := os.MkdirTemp("", "weft")
			if err != nil {
				return found{}, fmt.Errorf("make folder for socket: %w", err)
			}
			c.shortDir = dir
		}
		f.Socket = filepath.Join(c.shortDir, socketName)
	}
	if err := os.Remove(f.Socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return found{}, fmt.Errorf("remove old socket: %w", err)
	}
	b, err := json.Marshal(f)
	if err != nil {
		return found{}, fmt.Errorf("encode state: %w", err)
	}
	path := filepath.Join(c.config.Dir, stateName)
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return found{}, fmt.Errorf("leave state: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return found{}, fmt.Errorf("leave state: %w", err)
	}
	return f, nil
}

// openGroup opens the control group of a child; what keeps it from that is
// logged, for a child without a cap is better than none.
func (c *Client) openGroup() *cgroup {
	group, err := c.config.Cgroups.open(c.config.name)
	if err != nil {
		c.config.Logger.Warn("memory of the executor is not capped", "err", err)
	}
	return group
}

// launch starts the process, in its control group, and hands it its first line.
// It has this process's standard error, and no other open file or variable but
// those that it is given.
//
// What a thread has given up, what it starts has given up too; so the thread
// ends with this. The operating system also ties a child to the thread that
// started it, so it stays for as long.
func (c *Client) launch(line []byte) (*child, error) {
	cmd := exec.Command(c.config.Command[0], c.config.Command[1:]...) //nolint:noctx // it is ended by closing its input
	cmd.Env = c.config.Env
	cmd.Dir = c.config.Dir
	cmd.Stderr = c.config.Stderr
	cmd.SysProcAttr = attributes(c.config.DieWithParent)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start executor: %w", err)
	}
	closeOnExec()
	started := make(chan error, 1) // 1: its sender must not wait
	gone := make(chan struct{})
	c.waiters.Go(func() {
		defer close(gone)
		runtime.LockOSThread() // and never unlocked
		if err := shed(); err != nil {
			c.config.Logger.Warn("the executor keeps rights that it does not need", "err", err)
		}
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log
		}
	})
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start executor: %w", err)
	}
	ch := &child{process: cmd.Process, stdin: stdin, gone: gone, group: c.openGroup()}
	// Before it does anything: it waits for its first line.
	if err := ch.group.add(cmd.Process.Pid); err != nil {
		c.config.Logger.Warn("memory of the executor is not capped", "err", err)
	}
	// Not here: a child that hangs does not read, and a pipe holds little.
	c.waiters.Go(func() {
		if _, err := stdin.Write(line); err != nil {
			c.config.Logger.Warn("executor took no settings", "err", err)
		}
	})
	return ch, nil
}
