// Package nats carries Weft's messages and keeps its logs on a NATS server
// with JetStream. It must not start a server (see bus/embedded) nor make keys
// (see bus/creds).
package nats

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/creds"
	"github.com/weftrun/weft/bus/internal/wire"
)

// Config configures a connection. The zero value of an optional field means
// its default.
type Config struct {
	// URLs of the servers, such as nats://127.0.0.1:4222. Required unless
	// InProcess is set.
	URLs []string
	// InProcess connects without a socket; URLs and TLS are then not used.
	InProcess natsgo.InProcessConnProvider
	// Identity is whom the credentials are for. Required.
	Identity bus.Identity
	// Creds is the content of a .creds file, or CredsFile its path. One is
	// required; the file is read again at each reconnect.
	Creds     []byte
	CredsFile string
	// TLS, optional, is used when the server offers or demands it.
	TLS *tls.Config
	// MonitorURLs, optional, of all servers' monitoring, such as
	// http://127.0.0.1:8222: SyncState reads whether they sync always.
	MonitorURLs []string
	// Synced says that the server is known to sync each write; the embedded
	// one knows.
	Synced bool
	// Taking, optional, returns why the server takes no writes now, as an error
	// that wraps bus.ErrRefused, or a context that ends when it ceases to.
	Taking func() (context.Context, error)
	// Replicas of logs, leases and blobs in a cluster of servers: 1, 3 or 5;
	// 1 by default. What exists gets more copies, and never fewer.
	Replicas int
	// Timeout of a request to the server whose context has no deadline; 10 s
	// by default.
	Timeout time.Duration
	// Logger is required.
	Logger *slog.Logger
}

func (c *Config) validate() error {
	var problems []error
	if err := c.Identity.Validate(); err != nil {
		problems = append(problems, err)
	}
	if len(c.URLs) == 0 && c.InProcess == nil {
		problems = append(problems, errors.New("field URLs: at least one is required"))
	}
	if len(c.Creds) == 0 && c.CredsFile == "" {
		problems = append(problems, errors.New("field CredsFile: credentials are required"))
	}
	if c.Logger == nil {
		problems = append(problems, errors.New("field Logger: is required"))
	}
	switch c.Replicas {
	case 0:
		c.Replicas = 1
	case 1, 3, 5:
	default:
		problems = append(problems, fmt.Errorf("field Replicas: %d is not one of 1, 3, 5", c.Replicas))
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	return errors.Join(problems...)
}

// Conn is a bus.Bus over one NATS connection, which mends itself for ever.
type Conn struct {
	*wire.Conn
	config Config
	nc     *natsgo.Conn
	js     jetstream.JetStream
	closed chan struct{} // the NATS connection is gone

	mu    sync.Mutex
	store jetstream.ObjectStore // nil until used
	lease jetstream.Stream      // nil until used
}

// Connect returns a connection. It tries until ctx ends, unless the server
// refuses the credentials or is not fit. The caller closes it.
func Connect(ctx context.Context, c Config) (*Conn, error) {
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	conn := &Conn{config: c}
	if err := conn.dial(ctx); err != nil {
		return nil, fmt.Errorf("connect to NATS as %s: %w", c.Identity, err)
	}
	if limit := conn.nc.MaxPayload(); limit < bus.MinPayload {
		conn.nc.Close()
		return nil, fmt.Errorf("connect to NATS: the server %s has max_payload %d, Weft needs at least %d: set max_payload: 8MB in its configuration and reload it: %w",
			conn.nc.ConnectedUrlRedacted(), limit, bus.MinPayload, bus.ErrRefused)
	}
	js, err := jetstream.New(conn.nc, jetstream.WithDefaultTimeout(c.Timeout), jetstream.WithPublishAsyncTimeout(blobWait))
	if err != nil {
		conn.nc.Close()
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	conn.js = js
	conn.Conn = wire.New(wire.Config{Identity: c.Identity, Carrier: &carrier{nc: conn.nc, timeout: c.Timeout}, ID: nuid.Next(),
		Logger: c.Logger, MaxPayload: int(min(conn.nc.MaxPayload(), bus.MaxPayload))})
	context.AfterFunc(closedContext{conn.closed}, conn.Lost)
	return conn, nil
}

// closedContext lets context.AfterFunc wait for a channel.
type closedContext struct{ done chan struct{} }

func (closedContext) Deadline() (time.Time, bool) { return time.Time{}, false }
func (c closedContext) Done() <-chan struct{}     { return c.done }
func (closedContext) Value(any) any               { return nil }
func (c closedContext) Err() error {
	select {
	case <-c.done:
		return context.Canceled
	default:
		return nil
	}
}

// sayEvery is how often it is told that there is no connection yet.
const sayEvery = time.Minute

func (c *Conn) dial(ctx context.Context) error {
	if c.config.CredsFile != "" { // the client would connect without them
		if _, err := creds.ReadFile(c.config.CredsFile); err != nil {
			return fmt.Errorf("%w: credentials: %w", bus.ErrRefused, err)
		}
	}
	var said time.Time
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		// An attempt that fails may count as a closed connection.
		closed := make(chan struct{})
		options := c.options(sync.OnceFunc(func() { close(closed) }))
		nc, err := options.Connect()
		if err == nil {
			c.nc, c.closed = nc, closed
			return nil
		}
		if errors.Is(err, natsgo.ErrAuthorization) || errors.Is(err, natsgo.ErrAuthExpired) || errors.Is(err, natsgo.ErrAuthRevoked) ||
			errors.Is(err, natsgo.ErrAccountAuthExpired) || errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
			return fmt.Errorf("%w: %w", bus.ErrRefused, err)
		}
		if time.Since(said) >= sayEvery {
			said = time.Now()
			c.config.Logger.Warn("NATS cannot be reached, trying on", "servers", c.servers(), "err", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w: %w", bus.ErrUnavailable, context.Cause(ctx), err)
		case <-time.After(wait/2 + rand.N(wait)):
		}
	}
}

// servers are the addresses, without what URLs hold of users.
func (c *Conn) servers() string {
	shown := make([]string, len(c.config.URLs))
	for i, text := range c.config.URLs {
		shown[i] = "a URL that cannot be read"
		if u, err := url.Parse(text); err == nil {
			shown[i] = u.Host
		}
	}
	return strings.Join(shown, ", ")
}

func (c *Conn) options(closed func()) natsgo.Options {
	o := natsgo.GetDefaultOptions()
	o.Servers = c.config.URLs
	o.InProcessServer = c.config.InProcess
	o.Name = "weft " + c.config.Identity.String()
	o.InboxPrefix = c.config.Identity.Inbox()
	o.AllowReconnect = true
	o.MaxReconnect = -1
	o.ReconnectWait = 200 * time.Millisecond
	o.ReconnectJitter = 800 * time.Millisecond
	o.ReconnectJitterTLS = 2 * time.Second
	o.ReconnectBufSize = -1         // what is old when the connection is mended must not be sent
	o.SubChanLen = 2 * batchRecords // what synchronous subscriptions allocate at once
	o.PingInterval = 10 * time.Second
	o.MaxPingsOut = 2
	o.Timeout = 5 * time.Second
	if c.config.InProcess == nil {
		o.TLSConfig = c.config.TLS
	}
	if len(c.config.Creds) > 0 {
		_ = natsgo.UserCredentialBytes(c.config.Creds)(&o) // only sets callbacks
	} else {
		_ = natsgo.UserCredentials(c.config.CredsFile)(&o) // only sets callbacks
	}
	logger := c.config.Logger
	o.AsyncErrorCB = func(_ *natsgo.Conn, s *natsgo.Subscription, err error) {
		subject := ""
		if s != nil {
			subject = s.Subject
		}
		logger.Warn("NATS reports an error", "subject", subject, "err", err)
	}
	o.DisconnectedErrCB = func(_ *natsgo.Conn, err error) {
		if err != nil {
			logger.Warn("NATS connection is broken", "err", err)
		}
	}
	o.ReconnectedCB = func(nc *natsgo.Conn) {
		logger.Info("NATS connection is mended", "server", nc.ConnectedUrlRedacted())
	}
	o.ClosedCB = func(*natsgo.Conn) { closed() }
	return o
}

// Close implements bus.Bus.
func (c *Conn) Close() error {
	c.Conn.Close()
	c.nc.Close()
	return nil
}

// coreOnly refuses at once what the server would leave unanswered.
func (c *Conn) coreOnly() error {
	if c.config.Identity.Role != bus.RoleCore {
		return fmt.Errorf("%s is no core: %w", c.config.Identity, bus.ErrRefused)
	}
	return nil
}

// bounded gives a context without a deadline the default one.
func bounded(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, timeout)
}
