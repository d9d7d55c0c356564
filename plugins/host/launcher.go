package host

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"

	"github.com/weftrun/weft/plugins"
	"github.com/weftrun/weft/plugins/host/guard"
)

// unconfined is set once the kernel has refused a process namespace: it does so
// in most containers, and for those who are not root on some systems.
var unconfined atomic.Bool

// guardPatience is how long a guard may take to end when asked to, until it is
// killed.
const guardPatience = 3 * time.Second

// launcher starts a plugin's process once, beneath a guard if it needs one. It
// implements runner.Runner, and is not for concurrent use but for Kill.
type launcher struct {
	plugin   *exec.Cmd
	confined bool      // it is to have a process namespace
	guard    *exec.Cmd // nil for none
	kill     func()    // ends the process that is started
	pid      int       // the plugin's, once it was started

	stdout, stderr io.ReadCloser
}

var _ runner.Runner = (*launcher)(nil)

// launcher is the program with its environment and pipes. What it starts is
// killed when life ends, which kill does.
func (p *process) launcher(life context.Context, pipes *pipes, sockets string, kill func()) *launcher {
	cmd := exec.CommandContext(life, p.plugin.Command, p.plugin.Args...)
	cmd.Env = append(environment(), plugins.LifelineEnv+"=3", goplugin.EnvUnixSocketDir+"="+sockets)
	if p.config.Mark != "" {
		cmd.Env = append(cmd.Env, markEnv+"="+p.config.Mark)
	}
	if p.config.Memory > 0 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("GOMEMLIMIT=%d", p.config.Memory/10*9))
	}
	cmd.Env = append(cmd.Env, p.plugin.Env...)
	l := &launcher{plugin: cmd, kill: kill, confined: isolate(cmd)}
	if command := p.config.Guard; guard.Possible && !l.confined && len(command) > 0 && !p.plugin.Childless {
		l.guard = exec.CommandContext(life, command[0], command[1:]...)
		l.guard.Env = environment()
		isolateGuard(l.guard)
	}
	l.started().ExtraFiles = []*os.File{pipes.lifeRead, pipes.deathWrite}
	return l
}

// started is the process that is this one's child.
func (l *launcher) started() *exec.Cmd {
	if l.guard != nil {
		return l.guard
	}
	return l.plugin
}

// prepare adds what go-plugin wants of the process. The folder for the socket
// stays the one that is known: what has it in its environment is the plugin's.
func (l *launcher) prepare(spec *exec.Cmd) (err error) {
	if l.plugin.Err != nil { // it was not found
		return l.plugin.Err
	}
	l.plugin.Env = append(l.plugin.Env, slices.DeleteFunc(spec.Env, func(pair string) bool {
		return strings.HasPrefix(pair, goplugin.EnvUnixSocketDir+"=")
	})...)
	cmd := l.started()
	cmd.Stdin = spec.Stdin
	if l.stdout, err = cmd.StdoutPipe(); err != nil {
		return err
	}
	l.stderr, err = cmd.StderrPipe()
	return err
}

// Start implements runner.Runner.
func (l *launcher) Start(ctx context.Context) (err error) {
	if l.guard != nil {
		order := guard.Order{Path: l.plugin.Path, Args: l.plugin.Args, Env: l.plugin.Environ()}
		l.pid, err = startGuarded(ctx, l.guard, order)
		return err
	}
	if err := l.plugin.Start(); err != nil {
		return err
	}
	l.pid = l.plugin.Process.Pid
	return nil
}

// Wait implements runner.AttachedRunner.
func (l *launcher) Wait(context.Context) error { return l.started().Wait() }

// Kill implements runner.AttachedRunner. It does not wait.
func (l *launcher) Kill(context.Context) error {
	l.kill()
	return nil
}

// Stdout implements runner.Runner.
func (l *launcher) Stdout() io.ReadCloser { return l.stdout }

// Stderr implements runner.Runner.
func (l *launcher) Stderr() io.ReadCloser { return l.stderr }

// Name implements runner.Runner.
func (l *launcher) Name() string { return l.plugin.Path }

// ID implements runner.AttachedRunner. It is empty unless a process was started.
func (l *launcher) ID() string {
	if l.pid == 0 {
		return ""
	}
	return strconv.Itoa(l.pid)
}

// Diagnose implements runner.Runner.
func (l *launcher) Diagnose(context.Context) string { return "" }

// PluginToHost implements runner.AddrTranslator.
func (l *launcher) PluginToHost(network, address string) (string, string, error) {
	return network, address, nil
}

// HostToPlugin implements runner.AddrTranslator.
func (l *launcher) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}
