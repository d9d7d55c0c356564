// Package embedded runs a NATS server within the process. It must not carry
// messages itself: connections are those of bus/nats.
package embedded

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/creds"
	"github.com/weftrun/weft/bus/nats"
)

// DefaultPort is the usual port of NATS.
const DefaultPort = 4222

// Config configures a Server. The zero value of an optional field means its
// default.
type Config struct {
	// Dir is where streams and keys are kept, in folders of it. Required.
	Dir string
	// Host to listen on; 127.0.0.1 by default.
	Host string
	// Port to listen on; 0 is a free one. A DefaultPort that is taken is
	// replaced by a free one, any other that is taken is an error.
	Port int
	// NoListen serves only connections within the process.
	NoListen bool
	// TLS, optional, is demanded from connections over the network.
	TLS *tls.Config
	// Unsynced makes acknowledged data not survive a power loss: for tests and
	// benchmarks alone. A killed process loses nothing either way.
	Unsynced bool
	// Ready bounds the time to start; 10 s by default.
	Ready time.Duration
	// Logger is required.
	Logger *slog.Logger
}

// Server is a running NATS server.
type Server struct {
	config    Config
	authority *creds.Authority
	guard     *guard
	options   *server.Options
	stop      context.CancelFunc // ends the guard
	guarding  sync.WaitGroup

	mu     sync.Mutex
	server *server.Server // replaced when it could not write
}

// Start runs a server, which is ready when it returns. The caller shuts it
// down.
func Start(ctx context.Context, c Config) (*Server, error) {
	if c.Dir == "" || c.Logger == nil {
		return nil, errors.New("start NATS server: Dir and Logger are required")
	}
	if c.Host == "" {
		c.Host = "127.0.0.1"
	}
	if c.Ready == 0 {
		c.Ready = 10 * time.Second
	}
	authority, err := creds.Open(filepath.Join(c.Dir, "keys"))
	if err != nil {
		return nil, fmt.Errorf("start NATS server: %w", err)
	}
	options, err := c.options(authority)
	if err != nil {
		return nil, fmt.Errorf("start NATS server: %w", err)
	}
	if options.Port, err = c.port(ctx); err != nil {
		return nil, fmt.Errorf("start NATS server: %w", err)
	}
	s := &Server{config: c, authority: authority, options: options, guard: newGuard(ctx, streamsDir(c.Dir)), stop: func() {}}
	if err := s.boot(ctx); err != nil {
		s.Shutdown()
		return nil, fmt.Errorf("start NATS server: %w", err)
	}
	if address, ok := s.current().Addr().(*net.TCPAddr); ok {
		options.Port = address.Port // another server of this process has the same
	}
	s.guard.look() // before the first write
	guarding, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.guarding.Go(func() { s.guardDisk(guarding) })
	return s, nil
}

// boot runs a new server, and makes sure that it syncs as it was told to.
func (s *Server) boot(ctx context.Context) error {
	n, err := server.NewServer(s.options.Clone()) // it changes them
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.server = n
	s.mu.Unlock()
	log := &logger{to: s.config.Logger, hear: s.guard.hear}
	n.SetLoggerV2(log, false, false, false)
	n.Start()
	if err := s.await(ctx, n, log); err != nil {
		return err
	}
	if config := n.JetStreamConfig(); config == nil || config.SyncAlways == s.config.Unsynced {
		return fmt.Errorf("it does not say that it syncs each write, so a power loss would lose what was acknowledged: %w", bus.ErrRefused)
	}
	return nil
}

func (s *Server) current() *server.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.server
}

// await polls faster than the server's own function does.
func (s *Server) await(ctx context.Context, n *server.Server, log *logger) error {
	ctx, cancel := context.WithTimeout(ctx, s.config.Ready)
	defer cancel()
	for {
		if err := log.fatal.Load(); err != nil {
			return fmt.Errorf("%s", *err)
		}
		if n.ReadyForConnections(time.Millisecond) && n.JetStreamEnabled() {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it was not ready in time: %w: %w", bus.ErrUnavailable, context.Cause(ctx))
		case <-time.After(time.Millisecond):
		}
	}
}

func (c *Config) options(a *creds.Authority) (*server.Options, error) {
	operator, err := jwt.DecodeOperatorClaims(a.OperatorJWT)
	if err != nil {
		return nil, err
	}
	resolver := &server.MemAccResolver{}
	if err := errors.Join(resolver.Store(a.Account, a.AccountJWT), resolver.Store(a.System, a.SystemJWT)); err != nil {
		return nil, err
	}
	return &server.Options{
		ServerName:             "weft",
		Host:                   c.Host,
		DontListen:             c.NoListen,
		TLSConfig:              c.TLS,
		TLSTimeout:             5,
		NoSigs:                 true,
		NoSystemAccount:        false,
		MaxPayload:             bus.MaxPayload,
		MaxPending:             128 << 20,
		JetStream:              true,
		DisableJetStreamBanner: true,
		StoreDir:               streamsDir(c.Dir),
		SyncAlways:             !c.Unsynced,
		TrustedOperators:       []*jwt.OperatorClaims{operator},
		SystemAccount:          a.System,
		AccountResolver:        resolver,
	}, nil
}

// port finds the port to listen on. The server closes the short gap between
// the trial and its own listening by an error.
func (c *Config) port(ctx context.Context) (int, error) {
	if c.Port == 0 || c.NoListen {
		return server.RANDOM_PORT, nil
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", net.JoinHostPort(c.Host, strconv.Itoa(c.Port)))
	switch {
	case err == nil:
		return c.Port, l.Close()
	case c.Port != DefaultPort:
		return 0, err
	}
	c.Logger.Info("the usual port is taken, taking a free one", "port", c.Port)
	return server.RANDOM_PORT, nil
}

// ClientURL is where clients connect; empty with NoListen.
func (s *Server) ClientURL() string {
	if s.config.NoListen {
		return ""
	}
	return s.current().ClientURL()
}

// Taking returns why the server takes no writes now, or nil if it does.
func (s *Server) Taking() error {
	_, err := s.guard.Taking()
	return err
}

// Authority issues the credentials for this server.
func (s *Server) Authority() *creds.Authority { return s.authority }

// Connect returns a connection without a socket. The caller closes it.
func (s *Server) Connect(ctx context.Context, who bus.Identity) (*nats.Conn, error) {
	user, err := s.authority.Issue(who)
	if err != nil {
		return nil, err
	}
	return nats.Connect(ctx, nats.Config{InProcess: s, Taking: s.guard.Taking, Identity: who, Creds: user,
		Synced: !s.config.Unsynced, Logger: s.config.Logger})
}

// InProcessConn makes the server usable with nats.InProcessServer.
func (s *Server) InProcessConn() (net.Conn, error) { return s.current().InProcessConn() }

// Shutdown stops the server and waits for it. Connections should be closed
// before.
func (s *Server) Shutdown() {
	s.stop()
	s.guarding.Wait()
	if n := s.current(); n != nil {
		n.Shutdown()
		n.WaitForShutdown()
	}
}
