package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/cmd/internal/settings"
	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/apiserver"
	"github.com/weftrun/weft/core/auth"
	"github.com/weftrun/weft/core/store"
)

// followEvery is how often a core that stands by looks for what was logged.
const followEvery = 100 * time.Millisecond

// member is one core of several on an outside NATS server. While another one
// leads it stands by: it follows the log, so that it could lead at once, and
// forwards what clients ask of it.
type member struct {
	settings  *settings.Settings
	carrier   *carrier
	counts    *coreCounts
	log       *slog.Logger
	candidate *candidate
	where     *whereabouts
	entrance  *entrance // nil: there is no authority yet, and so nobody else leads
}

// runMember runs a member until ctx ends or it leads no longer.
func runMember(ctx context.Context, s *settings.Settings, carrier *carrier, counts *coreCounts, log *slog.Logger, ready func(context.Context, Core) error) error {
	candidate, err := newCandidate(Paths{s.Data}, carrier.bus, log)
	if err != nil {
		return err
	}
	m := &member{settings: s, carrier: carrier, counts: counts, log: log, candidate: candidate, where: newWhereabouts(log)}
	candidate.resigned = m.where.resigned
	heard, err := m.where.listen(ctx, carrier.bus)
	if err != nil {
		return fmt.Errorf("listen for who leads: %w", err)
	}
	defer func() { _ = heard.Close() }() // the connection is closed next
	if candidate.keyless == nil {
		if err := m.open(ctx); err != nil {
			return err
		}
	}
	return m.run(ctx, ready)
}

// open opens the entrance, with all requests going to whoever leads.
func (m *member) open(ctx context.Context) error {
	at, err := openEntrance(ctx, m.settings, m.log)
	if err != nil {
		return err
	}
	proxy, err := m.proxy(at.authority)
	if err == nil {
		err = at.writeKubeconfigs()
	}
	if err != nil {
		return errors.Join(err, at.close())
	}
	at.front.Answer(proxy)
	m.entrance = at
	return nil
}

func (m *member) proxy(authority *auth.Authority) (*apiserver.Proxy, error) {
	certificate, key, err := authority.Client(core.User{Name: "system:weft:core", Groups: []string{core.GroupCores}})
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("use the core's certificate: %w", err)
	}
	return apiserver.NewProxy(apiserver.ProxyConfig{
		Leader: m.where.leader, Authenticate: &auth.Authenticator{}, Log: m.log.With("part", "proxy"),
		TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: authority.Pool(), Certificates: []tls.Certificate{pair}},
	})
}

func (m *member) run(ctx context.Context, ready func(context.Context, Core) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	following, stopFollowing := context.WithCancel(ctx)
	defer stopFollowing()
	var standby *store.Standby
	followed := make(chan struct{})
	group.Go(func() (err error) {
		defer close(followed)
		if m.entrance != nil {
			standby, err = m.follow(following)
		}
		return err
	})
	if m.entrance != nil {
		group.Go(func() error { return m.entrance.serve(ctx) })
	}
	group.Go(func() error {
		defer cancel() // the rest ends with it
		return m.candidate.lead(ctx, func(ctx context.Context, l *leadership) error {
			stopFollowing()
			<-followed
			return m.lead(ctx, l, standby, ready)
		})
	})
	return group.Wait()
}

// follow keeps a standby of the store up to date until ctx ends. It returns nil
// if there is none yet.
func (m *member) follow(ctx context.Context) (*store.Standby, error) {
	var standby *store.Standby
	step := func() (err error) {
		if standby == nil {
			standby, err = m.standBy(ctx)
			return err
		}
		return standby.CatchUp(ctx)
	}
	for said := false; ; {
		err := step()
		switch {
		case ctx.Err() != nil:
			return standby, nil
		case err == nil:
			said = false
		case !errors.Is(err, bus.ErrUnavailable):
			return nil, fmt.Errorf("this core cannot stand by: %w", unopened(m.settings, err))
		case !said:
			said = true
			m.log.Warn("the log cannot be followed, trying again", "err", err)
		}
		select {
		case <-ctx.Done():
			return standby, nil
		case <-time.After(followEvery):
		}
	}
}

// standBy recovers the state as it is now.
func (m *member) standBy(ctx context.Context) (*store.Standby, error) {
	config, err := coreStore(ctx, m.settings, m.carrier.bus, m.log)
	if err != nil {
		return nil, err
	}
	m.counts.count(&config)
	return store.Follow(ctx, config)
}

// lead works as the leader for as long as ctx lasts.
func (m *member) lead(ctx context.Context, l *leadership, standby *store.Standby, ready func(context.Context, Core) error) error {
	if standby == nil {
		var err error
		if standby, err = m.standBy(ctx); err != nil {
			return unopened(m.settings, err)
		}
	}
	state, err := standby.Lead(ctx, l.Leading)
	if err != nil {
		return unopened(m.settings, err)
	}
	if m.entrance == nil {
		if err := m.open(ctx); err != nil {
			return err
		}
		serving, stop := context.WithCancel(ctx)
		served := make(chan error, 1) // the one result
		go func() { served <- m.entrance.serve(serving) }()
		defer func() {
			stop()
			if err := <-served; err != nil {
				m.log.Warn("the API did not end in order", "err", err)
			}
		}()
	}
	says := announcement{Server: m.entrance.url, Holder: m.candidate.holder, Term: state.Term()}
	return withStore(ctx, state, func() { m.handOver(ctx, l, says) }, func(ctx context.Context) error {
		c, err := assemble(m.settings, m.carrier, state, m.counts, m.log)
		if err != nil {
			return err
		}
		return c.run(ctx, m.entrance, func(ctx context.Context) error { return m.announce(ctx, says) }, ready)
	})
}

// announce says who leads until ctx ends.
func (m *member) announce(ctx context.Context, says announcement) error {
	m.log.Info("this core answers the API", "api", says.Server, "term", says.Term)
	tick := time.NewTicker(leaseRenew)
	defer tick.Stop()
	for {
		if err := says.publish(ctx, m.carrier.bus); err != nil && ctx.Err() == nil {
			m.log.Debug("it was not said who leads", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// handOver lets another core lead at once. It is called when the store has
// ended, so that nothing is written after it.
func (m *member) handOver(ctx context.Context, l *leadership, says announcement) {
	l.giveUp(ctx)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	says.Resigned = true
	err := says.publish(ctx, m.carrier.bus)
	if err == nil {
		err = m.carrier.bus.Flush(ctx)
	}
	if err != nil {
		m.log.Debug("it was not said that this core resigned", "err", err)
	}
	m.log.Info("the store has ended, and the lease was given up", "term", says.Term)
}
