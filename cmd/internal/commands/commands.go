// Package commands holds Weft's own commands, those that kubectl does not
// have. It must only read flags and hand over.
package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/cmd/internal/cluster"
	"github.com/weftrun/weft/cmd/internal/settings"
	"github.com/weftrun/weft/cmd/internal/usage"
)

// flags are those of every process of a cluster.
type flags struct {
	config, data, level string
}

func (f *flags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.config, "config", "", "settings file (default: weft.toml in the data folder, if there is one)")
	c.Flags().StringVar(&f.data, "data", "", "data folder (default: $WEFT_DATA, or ~/.weft)")
	c.Flags().StringVar(&f.level, "log-level", "", "debug, info, warn or error (default: log_level in the settings)")
}

func (f *flags) load() (*settings.Settings, *slog.Logger, error) {
	s, err := settings.Load(f.config, f.data)
	if err != nil {
		return nil, nil, err
	}
	if f.level != "" {
		s.LogLevel = f.level
		if err := s.Validate(); err != nil {
			return nil, nil, err
		}
	}
	if err := os.MkdirAll(s.Data, 0o700); err != nil {
		return nil, nil, fmt.Errorf("make data folder: %w", err)
	}
	return s, logger(s.LogLevel), nil
}

// start loads the settings of a process that works by them at once.
func (f *flags) start() (*settings.Settings, *slog.Logger, error) {
	s, log, err := f.load()
	if err == nil {
		err = s.CheckFiles()
	}
	return s, log, err
}

// again are the flags that lead another process to the same settings.
func (f *flags) again(s *settings.Settings) []string {
	args := []string{"--data=" + s.Data, "--log-level=" + s.LogLevel}
	if f.config != "" {
		args = append(args, "--config="+f.config)
	}
	return args
}

func logger(level string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo // settings were validated
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: l}))
}

// drainTime is how long a process may take to end after a signal.
const drainTime = 4500 * time.Millisecond

// untilSignal ends the context at the first signal. A second one ends the
// process at once, and so does the end of drainTime: what it started dies with
// it, and what was acknowledged is safe.
func untilSignal(work func(context.Context) error) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ended := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-ended:
			return
		case <-ctx.Done():
		}
		stop() // signals have their usual effect again
		select {
		case <-ended:
		case <-time.After(drainTime):
			fmt.Fprintf(os.Stderr, "weft: did not end within %s, ending now\n", drainTime)
			os.Exit(1)
		}
	})
	err := work(ctx)
	close(ended)
	watching.Wait()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// All returns Weft's own commands.
func All() []*cobra.Command {
	return []*cobra.Command{up(), coreCommand(), node(), pluginCommand(), executor(), compiler(), credentials(), natsConfig(), restore()}
}

// addAcceptLoss adds the flag that is named when a log is damaged.
func addAcceptLoss(c *cobra.Command, to *bool) {
	c.Flags().BoolVar(to, "accept-loss", false, "go on with what is left of a damaged log, and give up the rest for good")
}

func up() *cobra.Command {
	var f flags
	var acceptLoss bool
	c := &cobra.Command{
		Use:   "up [FOLDER]",
		Short: "Run a whole cluster in the foreground, and apply the manifests in a folder",
		Long: `Run a whole cluster in the foreground: an embedded NATS server, the core, the
plugin process of the built-in kinds, and a node with its executor. The
manifests in FOLDER are applied, and modules that they name as file:NAME are
looked for in it. Ctrl-C stops everything.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if f.level == "" {
				f.level = os.Getenv("WEFT_LOG_LEVEL")
			}
			s, log, err := f.start()
			if err != nil {
				return err
			}
			if f.level == "" && s.Quiet {
				s.LogLevel = "warn" // a person watches
				log = logger(s.LogLevel)
			}
			s.AcceptLoss = acceptLoss
			u := cluster.Up{Settings: s, Flags: f.again(s), Out: c.OutOrStdout(), Logger: log}
			if len(args) > 0 {
				u.Folder = args[0]
			}
			return untilSignal(u.Run)
		},
	}
	f.add(c)
	addAcceptLoss(c, &acceptLoss)
	return c
}

func coreCommand() *cobra.Command {
	var f flags
	var acceptLoss bool
	c := &cobra.Command{
		Use:   "core",
		Short: "Run a core: the API, the store, the scheduler and the controllers' host",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, log, err := f.start()
			if err != nil {
				return err
			}
			s.AcceptLoss = acceptLoss
			return untilSignal(func(ctx context.Context) error {
				return cluster.RunCore(ctx, s, log, func(ctx context.Context, c cluster.Core) error {
					if err := c.AwaitReady(ctx); err != nil {
						log.Warn("the core listens, but is not ready", "err", err)
					}
					log.Info("core is ready", "api", c.Server, "nats", c.NATS)
					return nil
				})
			})
		},
	}
	f.add(c)
	addAcceptLoss(c, &acceptLoss)
	return c
}

func node() *cobra.Command {
	var f flags
	var name string
	var modules []string
	var dieWithParent bool
	c := &cobra.Command{
		Use:   "node",
		Short: "Run a node: it runs the pods that the scheduler gives it",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, log, err := f.start()
			if err != nil {
				return err
			}
			if name != "" {
				s.Node.Name = name
			}
			s.Node.ModulePath = append(modules, s.Node.ModulePath...)
			if err := s.Validate(); err != nil {
				return err
			}
			return untilSignal(func(ctx context.Context) error {
				if dieWithParent {
					var cancel context.CancelFunc
					ctx, cancel = context.WithCancel(ctx)
					defer cancel()
					go func() {
						_, _ = io.Copy(io.Discard, os.Stdin) // ends with the parent
						cancel()
					}()
				}
				return cluster.RunNode(ctx, s, log, dieWithParent)
			})
		},
	}
	f.add(c)
	c.Flags().StringVar(&name, "name", "", "the node's name (default: node.name in the settings)")
	c.Flags().StringSliceVar(&modules, "module-path", nil, "further folders in which image = \"file:NAME\" is looked for, first")
	c.Flags().BoolVar(&dieWithParent, "die-with-parent", false, "end, with the executor and all pods, when standard input ends")
	return c
}

func pluginCommand() *cobra.Command {
	var kinds []string
	var socket string
	c := &cobra.Command{
		Use:   "plugin",
		Short: "Serve the controllers of built-in kinds to a core (a core starts this itself)",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return cluster.RunPlugin(c.Context(), kinds, socket, logger("warn"))
		},
	}
	c.Flags().StringVar(&socket, "debug-socket", "", "Unix socket to serve profiles on (default: none)")
	c.Flags().StringSliceVar(&kinds, "kinds", nil, "kinds to serve (default: all built-in ones)")
	return c
}

func executor() *cobra.Command {
	return &cobra.Command{
		Use: "executor", Short: "Run guests for a node (a node starts this itself)", Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return untilSignal(func(ctx context.Context) error { return cluster.RunExecutor(ctx, os.Stdin, logger("warn")) })
		},
	}
}

func compiler() *cobra.Command {
	return &cobra.Command{
		Use: "compiler", Short: "Compile modules for a node (a node starts this itself)", Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return untilSignal(func(ctx context.Context) error {
				return cluster.RunCompiler(ctx, os.Stdin, os.Stdout, logger("warn"))
			})
		},
	}
}

func credentials() *cobra.Command {
	var f flags
	c := &cobra.Command{
		Use:   "credentials ROLE NAME",
		Short: "Print NATS credentials for a node, an observer or a core",
		Args:  cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			who := bus.Identity{Role: bus.Role(args[0]), Name: args[1]}
			if problems := validation.IsDNS1123Subdomain(who.Name); who.Role == bus.RoleNode && len(problems) > 0 {
				return fmt.Errorf("no node may be called %q: %s", who.Name, problems[0])
			}
			s, _, err := f.load()
			if err != nil {
				return err
			}
			data, err := cluster.Credentials(s, who)
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(data)
			return err
		},
	}
	f.add(c)
	return c
}

func natsConfig() *cobra.Command {
	var f flags
	var listen, monitoring, store string
	c := &cobra.Command{
		Use:   "nats-config",
		Short: "Print the configuration file of an outside NATS server for this cluster",
		Long: `Print the configuration file of an outside NATS server for this cluster. The
cluster's keys are made in the data folder if there are none; the file holds
none of them, only what lets the server check credentials.

  weft nats-config > nats.conf
  nats-server -c nats.conf`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, _, err := f.load()
			if err != nil {
				return err
			}
			if store == "" {
				store = cluster.Paths{Data: s.Data}.NATSServer()
			}
			text, err := cluster.ServerConfig(s, listen, monitoring, store)
			if err != nil {
				return err
			}
			_, err = io.WriteString(c.OutOrStdout(), text)
			return err
		},
	}
	f.add(c)
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:4222", "address that clients connect to")
	c.Flags().StringVar(&monitoring, "monitoring", "127.0.0.1:8222", "address of the server's monitoring")
	c.Flags().StringVar(&store, "store", "", "the server's folder for streams (default: nats/server in the data folder)")
	return c
}

// Daemon tells whether a command line is one of Weft's own, which need none of
// kubectl.
func Daemon(args []string) (*cobra.Command, bool) {
	if len(args) == 0 {
		return nil, false
	}
	for _, c := range All() {
		if c.Name() == args[0] {
			usage.Tell(c)
			root := &cobra.Command{Use: "weft", SilenceUsage: true, SilenceErrors: true}
			root.AddCommand(c)
			root.SetArgs(args)
			return root, true
		}
	}
	return nil, false
}
