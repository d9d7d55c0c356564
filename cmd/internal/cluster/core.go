package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/cmd/internal/debug"
	"github.com/weftrun/weft/cmd/internal/guard"
	"github.com/weftrun/weft/cmd/internal/processors"
	"github.com/weftrun/weft/cmd/internal/settings"
	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/apiserver"
	"github.com/weftrun/weft/core/auth"
	"github.com/weftrun/weft/core/events"
	"github.com/weftrun/weft/core/feed"
	"github.com/weftrun/weft/core/lifecycle"
	"github.com/weftrun/weft/core/metrics"
	"github.com/weftrun/weft/core/nodelink"
	"github.com/weftrun/weft/core/reconcile"
	"github.com/weftrun/weft/core/registry"
	"github.com/weftrun/weft/core/scheduler"
	"github.com/weftrun/weft/core/store"
	"github.com/weftrun/weft/plugins/host"
)

// Core is a running core.
type Core struct {
	Server string // the API's URL
	NATS   string // the NATS server's URL
	Client core.Client
	Hub    *nodelink.Hub
	// Ready returns why the cluster cannot take work yet, as /readyz does.
	Ready func() error
}

// AwaitReady returns when the cluster takes work, or says why it does not when
// ctx ends or patience does.
func (c *Core) AwaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	return await(ctx, c.Ready)
}

// Roles of the users that the two kubeconfigs are for.
var (
	admin  = core.User{Name: "weft-admin", Groups: []string{core.GroupAdmins}}
	reader = core.User{Name: "weft-reader", Groups: []string{core.GroupReaders}}
)

// RunCore runs a core until ctx ends. It calls ready once, when the API
// listens and this core leads. On an outside NATS server it stands by until it
// is its turn to lead; what it returns when it leads no longer has an ExitCode.
func RunCore(ctx context.Context, s *settings.Settings, log *slog.Logger, ready func(context.Context, Core) error) error {
	release, err := lock(Paths{s.Data}.Core(), "a core")
	if err != nil {
		return err
	}
	defer release()
	if err := finishRestore(s.Data, log); err != nil {
		return err
	}
	carrier, err := connectCore(ctx, s, log)
	if err != nil {
		return err
	}
	defer carrier.close()
	counts := newCoreCounts(log)
	defer observe(ctx, s, counts, log)()
	if carrier.shared {
		return runMember(ctx, s, carrier, counts, log, ready)
	}
	// The folder's lock is enough: nobody else leads.
	config, err := coreStore(ctx, s, carrier.bus, log)
	if err != nil {
		return err
	}
	counts.count(&config)
	state, err := store.Open(ctx, config)
	if err != nil {
		return unopened(s, err)
	}
	return withStore(ctx, state, nil, func(ctx context.Context) error {
		c, err := assemble(s, carrier, state, counts, log)
		if err != nil {
			return err
		}
		entrance, err := openEntrance(ctx, s, log)
		if err != nil {
			return err
		}
		return c.run(ctx, entrance, entrance.serve, ready)
	})
}

// observe watches the clock and the processors in use, and serves profiles of this core if
// the settings ask for that, also while it opens its store or stands by, until stop is called.
func observe(ctx context.Context, s *settings.Settings, counts *coreCounts, log *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var observing sync.WaitGroup
	observing.Go(func() { _ = counts.clock.Run(ctx) })  // it has no errors
	observing.Go(func() { _ = processors.Govern(ctx) }) // nor has this
	if s.DebugSockets {
		observing.Go(func() { debug.Serve(ctx, Paths{s.Data}.DebugSocket("core"), counts, log) })
	}
	return func() {
		cancel()
		observing.Wait()
	}
}

// withStore runs the store while work works. It is the last to end, since
// everything else may still write; but if handOver is not nil, another core
// waits to lead: then it ends as soon as ctx does, and handOver is called. What
// still wants to write is refused, and comes again to the other one.
func withStore(ctx context.Context, state *store.Store, handOver func(), work func(context.Context) error) error {
	storeCtx, stopStore := context.WithCancel(context.WithoutCancel(ctx))
	defer stopStore()
	if handOver != nil {
		defer context.AfterFunc(ctx, stopStore)()
	}
	workCtx, stopWork := context.WithCancelCause(ctx)
	done := make(chan error, 1) // the one result
	go func() {
		err := state.Run(storeCtx)
		if handOver != nil {
			handOver()
		}
		stopWork(fmt.Errorf("the store ended: %w", err))
		done <- err
	}()
	err := work(workCtx)
	if handOver != nil && ctx.Err() != nil {
		err = nil // the store ended under it, as is meant
	}
	stopWork(nil)
	stopStore()
	return errors.Join(err, <-done)
}

// coreStore configures the store of this core, with its key and its mark.
func coreStore(ctx context.Context, s *settings.Settings, b bus.Bus, log *slog.Logger) (store.Config, error) {
	key, err := store.LoadOrCreateKey(Paths{s.Data}.Key())
	if err != nil {
		return store.Config{}, err
	}
	config, err := storeConfig(ctx, b, key, log)
	config.MarkFile, config.AcceptLoss = Paths{s.Data}.Mark(), s.AcceptLoss
	return config, err
}

// storeConfig configures a store on the cluster's logs.
func storeConfig(ctx context.Context, b bus.Bus, key store.Key, log *slog.Logger) (store.Config, error) {
	wal, err := b.OpenLog(ctx, logName)
	if err != nil {
		return store.Config{}, fmt.Errorf("open the log: %w", err)
	}
	snapshots, err := b.OpenLog(ctx, "SNAPSHOTS")
	if err != nil {
		return store.Config{}, fmt.Errorf("open the log of snapshots: %w", err)
	}
	durability := map[core.GroupResource]core.Durability{}
	for _, strategy := range registry.Builtin() {
		durability[strategy.Kind.GroupResource()] = strategy.Kind.Durability
	}
	return store.Config{
		Log: wal, Snapshots: snapshots, Key: key, Logger: log.With("part", "store"),
		Decoders:   processors.Most(), // those in use are few while a core stands by
		Durability: func(r core.GroupResource) core.Durability { return durability[r] },
	}, nil
}

// coreParts are the parts of a core that run.
type coreParts struct {
	settings *settings.Settings
	carrier  *carrier
	store    *store.Store
	counts   *coreCounts
	log      *slog.Logger

	registry   *registry.Registry
	events     *events.Recorder
	host       *host.Host
	reconciler *reconcile.Reconciler
	scheduler  *scheduler.Scheduler
	lifecycle  *lifecycle.Lifecycle
	hub        *nodelink.Hub
	feed       *feed.Feed
	metrics    metrics.Table

	settled atomic.Bool // it was ready once
}

func assemble(s *settings.Settings, carrier *carrier, state *store.Store, counts *coreCounts, log *slog.Logger) (*coreParts, error) {
	c := &coreParts{settings: s, carrier: carrier, store: state, counts: counts, log: log}
	part := func(name string) *slog.Logger { return log.With("part", name) }
	var err error
	c.registry, err = registry.New(registry.Config{
		Store: state, Strategies: registry.Builtin(), Logger: part("registry"),
		Admission: []registry.AdmissionFunc{registry.AdmitRuntimeClass},
	})
	if err != nil {
		return nil, err
	}
	if c.events, err = events.New(events.Config{Client: c.registry, Logger: part("events")}); err != nil {
		return nil, err
	}
	plugins, err := pluginConfig(s, part("plugins"))
	if err != nil {
		return nil, err
	}
	if c.host, err = host.New(plugins); err != nil {
		return nil, err
	}
	c.reconciler, err = reconcile.New(reconcile.Config{
		Client: c.registry, Source: c.host, Events: c.events, DecideTimeout: s.Plugins.DecideTimeout,
		Decided: counts.decided, Logger: part("reconcile"),
	})
	if err != nil {
		return nil, err
	}
	c.scheduler, err = scheduler.New(scheduler.Config{
		Client: c.registry, Events: c.events, Attempted: counts.attempted, Logger: part("scheduler"),
	})
	if err != nil {
		return nil, err
	}
	if c.lifecycle, err = lifecycle.New(lifecycle.Config{Client: c.registry, Events: c.events, Logger: part("lifecycle")}); err != nil {
		return nil, err
	}
	c.hub, err = nodelink.New(nodelink.Config{
		Bus: carrier.bus, Client: c.registry, Events: c.events, Usage: c.metrics.Put, Logger: part("nodes"),
		Term: func() uint64 { return uint64(state.Term()) },
		Blob: func(ctx context.Context, digest string) (io.ReadCloser, error) {
			_, content, err := carrier.bus.GetBlob(ctx, digest)
			return content, err
		},
	})
	if err != nil {
		return nil, err
	}
	c.feed, err = feed.New(feed.Config{
		Bus: carrier.bus, Client: c.registry, Term: func() uint64 { return uint64(state.Term()) }, Logger: part("feed"),
	})
	return c, err
}

// pluginConfig has the built-in kinds served by this binary, in one process.
func pluginConfig(s *settings.Settings, log *slog.Logger) (host.Config, error) {
	self, err := os.Executable()
	if err != nil {
		return host.Config{}, fmt.Errorf("find this program: %w", err)
	}
	memory, err := s.Plugins.MemoryLimit()
	if err != nil {
		return host.Config{}, fmt.Errorf("plugins.memory: %w", err)
	}
	c := host.Config{
		Folder: s.Plugins.Folder, DecideTimeout: s.Plugins.DecideTimeout, Memory: memory, Mark: s.Data,
		Guard: []string{self, guard.Argument}, Logger: log,
	}
	if len(s.Plugins.Builtin) > 0 {
		args := []string{"plugin", "--kinds=" + strings.Join(s.Plugins.Builtin, ",")}
		if s.DebugSockets {
			args = append(args, "--debug-socket="+Paths{s.Data}.DebugSocket("plugin"))
		}
		c.Plugins = append(c.Plugins, host.Plugin{Name: settings.BuiltinPlugin, Command: self, Args: args, Childless: true})
	}
	for _, p := range s.Plugins.Run {
		c.Plugins = append(c.Plugins, host.Plugin{Name: p.Name, Command: p.Command, Args: p.Args, Env: p.Env, Kinds: p.Kinds})
	}
	return c, nil
}

// run runs the parts until ctx ends or one of them does. The API is answered at
// the entrance; open is called once that is set, and works until ctx ends.
func (c *coreParts) run(ctx context.Context, at *entrance, open func(context.Context) error, ready func(context.Context, Core) error) error {
	server, err := c.apiServer(at.authority)
	if err != nil {
		return errors.Join(err, at.close())
	}
	group, ctx := errgroup.WithContext(ctx)
	for name, run := range map[string]func(context.Context) error{
		"registry": c.registry.Run, "events": c.events.Run, "plugins": c.host.Run, "reconcile": c.reconciler.Run,
		"scheduler": c.scheduler.Run, "lifecycle": c.lifecycle.Run, "nodes": c.hub.Run, "feed": c.feed.Run, "rest": rest,
		"encodings": func(ctx context.Context) error { server.Run(ctx); return nil },
		"api": func(ctx context.Context) error {
			c.holdAPI(ctx)
			at.front.Answer(server.Handler())
			return open(ctx)
		},
	} {
		group.Go(func() error {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	if err := c.writeFiles(at); err != nil {
		group.Go(func() error { return err })
	} else {
		group.Go(func() error {
			return ready(ctx, Core{Server: at.url, NATS: c.carrier.url, Client: c.registry, Hub: c.hub, Ready: c.ready})
		})
	}
	return group.Wait()
}

func (c *coreParts) apiServer(authority *auth.Authority) (*apiserver.Server, error) {
	tokens, err := auth.OpenTokens(filepath.Join(Paths{c.settings.Data}.Core(), "tokens.json"))
	if err != nil {
		return nil, err
	}
	limit := resource.MustParse(c.settings.Core.BlobLimit) // was validated
	spool := filepath.Join(Paths{c.settings.Data}.Core(), "uploads")
	if err := os.MkdirAll(spool, 0o700); err != nil {
		return nil, fmt.Errorf("make folder for uploads: %w", err)
	}
	return apiserver.New(apiserver.Config{
		Client: c.registry, Authenticate: &auth.Authenticator{Tokens: tokens}, Authorize: auth.Roles{},
		Log: c.log.With("part", "api"), Logs: c.hub, Blobs: c.carrier.bus, Scale: c.registry, Convert: c.registry, Metrics: &c.metrics, Counts: c.counts, Plan: planner{c.reconciler}, Ready: c.ready,
		Backup: c.backup, Checks: c.checks, MaxBlob: limit.Value(), SpoolDir: spool,
	})
}

// writeFiles writes what clients need to find the cluster.
func (c *coreParts) writeFiles(at *entrance) error {
	if err := at.writeKubeconfigs(); err != nil {
		return err
	}
	paths := Paths{c.settings.Data}
	if err := writeSecret(paths.NATSAddress(), []byte(c.carrier.url+"\n")); err != nil {
		return err
	}
	if _, err := os.Stat(paths.ObserverCredentials()); err == nil {
		return nil
	}
	observer, err := issue(c.settings, bus.Identity{Role: bus.RoleObserver, Name: "observer"})
	if err != nil {
		c.log.Info("credentials for observers are not made here", "why", err)
		return nil
	}
	return writeSecret(paths.ObserverCredentials(), observer)
}

// drainTime bounds how long the end of a process may take.
const drainTime = 4 * time.Second
