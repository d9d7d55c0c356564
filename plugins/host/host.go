// Package host finds, launches, supervises and swaps plugin processes, and
// serves their controllers as a core.ControllerSource. It must not apply what
// they decide.
package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weftrun/weft/core"
)

// Plugin says how to start one plugin process.
type Plugin struct {
	// Name is unique and for people.
	Name string
	// Command is the program, and Args its arguments.
	Command string
	Args    []string
	// Env are further NAME=value pairs; the process inherits nothing but PATH,
	// HOME, TMPDIR and these.
	Env []string
	// Kinds, if not empty, are the only ones taken from it, as
	// "resource.group" ("jobs.batch"); it then serves them in place of any
	// other plugin.
	Kinds []string
	// Childless says that it is known to start no processes, so that it needs
	// no guard.
	Childless bool
}

// Config configures a Host. The zero value of an optional field means its
// default.
type Config struct {
	// Plugins are always run. Of two that serve one kind, the one whose Kinds
	// name it serves it, else the earlier.
	Plugins []Plugin
	// Folder is watched for executables, each a plugin named as its file; a
	// kind that Plugins serve is not taken from there. Optional.
	Folder string
	// DecideTimeout is how long a controller may think about one object
	// before its process is restarted. Optional, 10s.
	DecideTimeout time.Duration
	// Memory is how many bytes one plugin's process may hold; one that holds
	// more is started anew. It is looked at a few times a second, on Linux
	// alone; a program in Go collects its garbage so that it stays below.
	// Optional, no limit.
	Memory int64
	// Mark names whose plugins these are, such as by the cluster's data
	// folder. What an earlier host with the same mark has left behind, being
	// killed before it could end it, is ended when this one runs, on Linux.
	// Optional, nothing is.
	Mark string
	// Guard is a command, with its arguments, that leads to guard.Run. On
	// Linux, where the kernel refuses process namespaces, each plugin is the
	// child of such a process, which ends all that the plugin has started with
	// the plugin and with this process, however that ends. Optional: without,
	// what has kept the environment of its plugin is ended with that, or by
	// the next host with the same mark.
	Guard  []string
	Logger *slog.Logger // required
}

// Validate says what is wrong with the configuration.
func (c *Config) Validate() error {
	var errs []error
	names := map[string]bool{}
	for i, p := range c.Plugins {
		if p.Name == "" || p.Command == "" {
			errs = append(errs, fmt.Errorf("plugins[%d]: name and command are required", i))
		}
		if names[p.Name] {
			errs = append(errs, fmt.Errorf("plugins[%d]: there are two plugins called %q", i, p.Name))
		}
		names[p.Name] = true
	}
	if c.Logger == nil {
		errs = append(errs, errors.New("a logger is required"))
	}
	if c.DecideTimeout < 0 {
		errs = append(errs, fmt.Errorf("decideTimeout: %s must not be negative", c.DecideTimeout))
	}
	if c.Memory < 0 {
		errs = append(errs, fmt.Errorf("memory: %d must not be negative", c.Memory))
	}
	return errors.Join(errs...)
}

// Host runs plugins. It implements core.ControllerSource.
type Host struct {
	config Config

	mu      sync.Mutex
	running []*process // in the order of precedence
	serving []core.Controller
	changed chan struct{}
}

// New returns a host that runs nothing until Run.
func New(c Config) (*Host, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("plugin host: %w", err)
	}
	if c.DecideTimeout == 0 {
		c.DecideTimeout = 10 * time.Second
	}
	return &Host{config: c, changed: make(chan struct{})}, nil
}

// Run runs the plugins until ctx ends, and then stops them all. A plugin that
// fails is started again with back-off; it never ends Run.
func (h *Host) Run(ctx context.Context) error {
	if h.config.Mark != "" {
		if n := endFamily(markEnv + "=" + h.config.Mark); n > 0 {
			h.config.Logger.Warn("ended processes that plugins of an earlier core have left", "processes", n)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, plugin := range h.config.Plugins {
		p := newProcess(plugin, h.config, h.refresh)
		h.add(p)
		group.Go(func() error { return p.run(ctx) })
	}
	if h.config.Folder != "" {
		group.Go(func() error { return h.watchFolder(ctx, group) })
	}
	return group.Wait()
}

// Controllers implements core.ControllerSource. A controller stays in the list
// while its process is being restarted.
func (h *Host) Controllers() ([]core.Controller, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.serving), h.changed
}

func (h *Host) add(p *process) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.running = append(h.running, p)
}

func (h *Host) remove(p *process) {
	h.mu.Lock()
	h.running = slices.DeleteFunc(h.running, func(other *process) bool { return other == p })
	h.mu.Unlock()
	h.refresh(false)
}

// refresh decides anew which process serves which kind, and tells if that
// differs from before, or in any case: then everything is decided anew.
func (h *Host) refresh(always bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	chosen := map[core.GroupResource]core.Controller{}
	var order []core.GroupResource
	for _, named := range []bool{true, false} {
		for _, p := range h.running {
			for _, c := range p.controllers() {
				resource := c.description.Resource
				if p.names(resource) != named || (!named && len(p.plugin.Kinds) > 0) {
					continue
				}
				if other, taken := chosen[resource]; taken {
					p.noteTaken(resource, other.(*proxy).process.plugin.Name)
					continue
				}
				chosen[resource] = c
				order = append(order, resource)
			}
		}
	}
	serving := make([]core.Controller, 0, len(order))
	for _, resource := range order {
		serving = append(serving, chosen[resource])
	}
	if slices.Equal(serving, h.serving) && !always {
		return
	}
	h.serving = serving
	close(h.changed)
	h.changed = make(chan struct{})
}

// Status tells of one plugin, for people.
type Status struct {
	Name        string
	Command     string
	Running     bool
	Restarts    int
	Error       string // why it does not run, or what it was refused
	Controllers []string
}

// Status returns the state of every plugin.
func (h *Host) Status() []Status {
	h.mu.Lock()
	running := slices.Clone(h.running)
	h.mu.Unlock()
	out := make([]Status, 0, len(running))
	for _, p := range running {
		out = append(out, p.status())
	}
	return out
}

func (p *process) names(resource core.GroupResource) bool {
	return slices.Contains(p.plugin.Kinds, resource.String())
}

func (h *Host) folderPlugin(path string) Plugin {
	return Plugin{Name: filepath.Base(path), Command: path}
}
