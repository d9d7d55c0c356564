package host

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"

	"github.com/weftrun/weft/wasm"
)

// Config is what a Guest is made of.
type Config struct {
	Args []string
	Env  []string // NAME=value
	// Hostname is shown as HOSTNAME, unless Env has that. Optional.
	Hostname string
	Stdout   io.Writer
	Stderr   io.Writer
	Mounts   []wasm.Mount
}

// Guest is one guest's world, for one instance. But for AskStop, Asked and Slept
// it belongs to the instance's goroutine. Close it after use.
type Guest struct {
	// Done, when closed, ends what the guest waits for in the host.
	Done <-chan struct{}
	// Pause and Resume, if not nil, are called around what the guest waits for
	// in the host, in its goroutine. Resume may end it.
	Pause, Resume func()
	// CPU, if not nil, returns the CPU time that the guest used. Without, it
	// is told the time that it did not sleep.
	CPU func() time.Duration

	world  *World
	config Config
	table  table
	timer  *time.Timer
	began  time.Time
	stop   stop

	slept    atomic.Int64 // nanoseconds of finished sleeps
	sleeping atomic.Int64 // when the present sleep began, 0 if it does not sleep
}

// NewGuest returns a guest of w. Set its exported fields before its first call.
func (w *World) NewGuest(c Config) *Guest {
	g := &Guest{world: w, config: c, began: time.Now()}
	g.stop.asked = make(chan struct{})
	return g
}

// Configure returns how to instantiate the guest. It has no start functions
// and no name: whoever instantiates it calls what it exports.
func (g *Guest) Configure() (wazero.ModuleConfig, error) {
	c := wazero.NewModuleConfig().
		WithName("").
		WithStartFunctions().
		WithArgs(g.config.Args...)
	env := g.config.Env
	if g.config.Hostname != "" && !slices.ContainsFunc(env, func(pair string) bool { return strings.HasPrefix(pair, "HOSTNAME=") }) {
		c = c.WithEnv("HOSTNAME", g.config.Hostname)
	}
	for i, pair := range env {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("env[%d]: %q must be NAME=value", i, pair)
		}
		if strings.Contains(pair, "\x00") {
			return nil, fmt.Errorf("env[%d]: %s must not contain NUL", i, name)
		}
		c = c.WithEnv(name, value)
	}
	return c, g.fill()
}

// fill makes the descriptors that are there from the start.
func (g *Guest) fill() error {
	mounts, err := mounts(g.config.Mounts)
	if err != nil {
		return err
	}
	g.table.entries = make([]*descriptor, 0, 4+len(mounts))
	for _, d := range []descriptor{
		{file: stdin{}, base: streamRights | rightFdRead},
		{file: stream{g.config.Stdout}, base: streamRights | rightFdWrite},
		{file: stream{g.config.Stderr}, base: streamRights | rightFdWrite},
	} {
		g.table.entries = append(g.table.entries, &d)
	}
	const all = fileRights | dirRights
	for _, m := range mounts {
		g.table.entries = append(g.table.entries, &descriptor{
			file: &directory{mount: m}, base: dirRights, inherit: all, preopen: m.guest,
		})
	}
	stop, err := stopPath(g.config.Env, mounts)
	if err != nil || stop == "" {
		return err
	}
	g.stop.name = path.Base(stop)
	// The last one, so that the mounts' numbers are as they would be without.
	g.table.entries = append(g.table.entries, &descriptor{
		file: stopDirectory{}, base: dirRights, inherit: all, preopen: path.Dir(stop),
	})
	return nil
}

// Close closes what the guest left open.
func (g *Guest) Close() {
	for _, d := range g.table.entries {
		if d == nil {
			continue
		}
		_ = d.file.close() // nobody is left to be told
		switch d.file.(type) {
		case *regular, *directory:
			if d.preopen == "" {
				g.world.open.Add(-1)
			}
		}
	}
	g.table.entries = nil
}

// Slept returns how long the guest has slept in the host until now.
func (g *Guest) Slept() time.Duration {
	d := time.Duration(g.slept.Load())
	if at := g.sleeping.Load(); at != 0 {
		d += time.Since(origin) - time.Duration(at)
	}
	return d
}
