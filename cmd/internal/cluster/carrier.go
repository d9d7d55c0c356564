package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/creds"
	"github.com/weftrun/weft/bus/embedded"
	"github.com/weftrun/weft/bus/nats"
	"github.com/weftrun/weft/cmd/internal/settings"
)

// carrier is the core's way to NATS.
type carrier struct {
	bus    bus.Bus
	url    string
	synced bool
	// taking returns why no writes are taken; nil if that is not known.
	taking func() error
	shared bool // with other cores, perhaps
	close  func()
}

// connectCore starts the embedded server, or connects to an outside one.
func connectCore(ctx context.Context, s *settings.Settings, log *slog.Logger) (*carrier, error) {
	who := bus.Identity{Role: bus.RoleCore, Name: s.Node.Name}
	if len(s.NATS.URLs) > 0 {
		return connectOutside(ctx, s, who, log)
	}
	address := again(ctx, s.NATS.Listen, settings.DefaultNATS, lastNATS(Paths{s.Data}))
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("nats.listen: %w", err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return nil, fmt.Errorf("nats.listen: port %q: %w", text, err)
	}
	if err := inspectLog(s, log); err != nil {
		return nil, err
	}
	server, err := embedded.Start(ctx, embedded.Config{Dir: Paths{s.Data}.NATS(), Host: host, Port: port, Logger: log.With("part", "nats")})
	if err != nil {
		return nil, err
	}
	conn, err := server.Connect(ctx, who)
	if err != nil {
		server.Shutdown()
		return nil, err
	}
	return &carrier{bus: conn, url: server.ClientURL(), synced: true, taking: server.Taking, close: func() {
		if err := conn.Close(); err != nil {
			log.Warn("close connection to NATS", "err", err)
		}
		server.Shutdown()
	}}, nil
}

func connectOutside(ctx context.Context, s *settings.Settings, who bus.Identity, log *slog.Logger) (*carrier, error) {
	config := nats.Config{
		URLs: s.NATS.URLs, Identity: who, CredsFile: s.NATS.Credentials,
		MonitorURLs: s.NATS.Monitoring, Replicas: s.NATS.Replicas, Logger: log.With("part", "nats"),
	}
	if config.CredsFile == "" {
		issued, err := issue(s, who)
		if err != nil {
			return nil, err
		}
		config.Creds = issued
	}
	conn, err := nats.Connect(ctx, config)
	if err != nil {
		return nil, err
	}
	state, err := conn.SyncState(ctx)
	state = recallSync(Paths{s.Data}.Synced(), s.NATS.Monitoring, state, err, log)
	if state != nats.SyncAlways && !s.NATS.AssumeSynced {
		_ = conn.Close()
		return nil, unsynced(s.NATS, state, err)
	}
	if state != nats.SyncAlways {
		log.Warn("the NATS server may lose acknowledged writes on power loss; assume_synced is set", "sync", state, "err", err)
	}
	return &carrier{bus: conn, url: strings.Join(s.NATS.URLs, ","), synced: state == nats.SyncAlways, shared: true, close: func() {
		if err := conn.Close(); err != nil {
			log.Warn("close connection to NATS", "err", err)
		}
	}}, nil
}

// unsynced says what to do about a server that may not sync.
func unsynced(s settings.NATS, state nats.SyncState, err error) error {
	where := strings.Join(s.URLs, ", ")
	switch {
	case err != nil:
		return fmt.Errorf("NATS at %s: whether it syncs each write is unknown: %w: nats.monitoring must name the monitoring address (http:// in its configuration) of each server; or set nats.assume_synced = true if you know that it does", where, err)
	case state == nats.SyncDelayed:
		return fmt.Errorf("NATS at %s: it does not sync each write, so a power loss would lose what was acknowledged: set sync_interval: always in the jetstream block of its configuration (\"weft nats-config\" prints one), or set nats.assume_synced = true to live with that", where)
	}
	return fmt.Errorf("NATS at %s: whether it syncs each write is unknown: set nats.monitoring to the monitoring address of each server, such as [\"http://127.0.0.1:8222\"], from which it is read; or set nats.assume_synced = true if you know that it does", where)
}

// nodeDialer returns what connects a node to the cluster of its data folder, or
// to the one that its settings name. It tries until ctx ends.
func nodeDialer(s *settings.Settings, log *slog.Logger) (func(ctx context.Context) (bus.Bus, error), error) {
	who := bus.Identity{Role: bus.RoleNode, Name: s.Node.Name}
	config := nats.Config{URLs: s.NATS.URLs, Identity: who, CredsFile: s.NATS.Credentials, Logger: log.With("part", "nats")}
	if _, err := natsURLs(s); err != nil {
		return nil, err
	}
	if config.CredsFile == "" {
		issued, err := issue(s, who)
		if err != nil {
			return nil, err
		}
		config.Creds = issued
	}
	return func(ctx context.Context) (bus.Bus, error) {
		said := false
		for {
			urls, err := natsURLs(s) // a core that is started again may have another
			if err != nil {
				return nil, err
			}
			config.URLs = urls
			trying, cancel := context.WithTimeout(ctx, dialTime)
			conn, err := nats.Connect(trying, config)
			cancel()
			if err == nil {
				return conn, nil
			}
			if ctx.Err() != nil || !errors.Is(err, bus.ErrUnavailable) {
				return nil, err
			}
			if !said {
				said = true
				log.Warn("the cluster cannot be reached, the node works without it and tries on", "nats", strings.Join(urls, ","), "err", err)
			}
		}
	}, nil
}

// dialTime is how long a node tries an address before it looks whether there is
// another.
const dialTime = 5 * time.Second

// natsURLs are those that a node's settings name, or that a core has left.
func natsURLs(s *settings.Settings) ([]string, error) {
	if len(s.NATS.URLs) > 0 {
		return s.NATS.URLs, nil
	}
	address, err := os.ReadFile(Paths{s.Data}.NATSAddress())
	if err != nil {
		return nil, fmt.Errorf("find the cluster: %w; start a core with this data folder, or set nats.urls", err)
	}
	return strings.Split(strings.TrimSpace(string(address)), ","), nil
}

// issue makes credentials, which is possible where the cluster's keys are.
func issue(s *settings.Settings, who bus.Identity) ([]byte, error) {
	keys := Paths{s.Data}.NATSKeys()
	if _, err := os.Stat(keys); err != nil {
		return nil, fmt.Errorf("credentials for %s: the cluster's keys are not in %s: set nats.credentials to a file made where the core runs by \"weft credentials %s %s\"", who, keys, who.Role, who.Name)
	}
	authority, err := creds.Open(keys)
	if err != nil {
		return nil, err
	}
	return authority.Issue(who)
}

// ServerConfig returns the configuration file of an outside NATS server. The
// cluster's keys are made if there are none. listen and monitoring are
// addresses; store is the server's folder for streams.
func ServerConfig(s *settings.Settings, listen, monitoring, store string) (string, error) {
	for key, address := range map[string]string{"listen": listen, "monitoring": monitoring} {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return "", fmt.Errorf("%s: %w", key, err)
		}
	}
	store, err := filepath.Abs(store)
	if err != nil {
		return "", fmt.Errorf("store: %w", err)
	}
	authority, err := creds.Open(Paths{s.Data}.NATSKeys())
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("listen: %q\n# Weft reads here whether writes are synced; keep it from strangers.\nhttp: %q\n\n%s",
		listen, monitoring, authority.ServerConfig(store)), nil
}

// Credentials makes credentials for a connection to the cluster of the data
// folder.
func Credentials(s *settings.Settings, who bus.Identity) ([]byte, error) { return issue(s, who) }
