package nats_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/bustest"
	"github.com/weftrun/weft/bus/creds"
	"github.com/weftrun/weft/bus/nats"
	"github.com/weftrun/weft/bus/nats/natstest"
)

// outside runs a server as an operator would, from the printed configuration.
func outside(t *testing.T, extra func(*server.Options)) (*server.Server, *creds.Authority) {
	t.Helper()
	dir := t.TempDir()
	a, err := creds.Open(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(path, []byte(a.ServerConfig(filepath.Join(dir, "store"))), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := server.ProcessConfigFile(path)
	if err != nil {
		t.Fatal(err)
	}
	o.Host, o.Port, o.NoSigs, o.NoLog = "127.0.0.1", server.RANDOM_PORT, true, true
	if extra != nil {
		extra(o)
	}
	return natstest.Run(t, o), a
}

func config(t *testing.T, s *server.Server, a *creds.Authority, who bus.Identity) nats.Config {
	t.Helper()
	user, err := a.Issue(who)
	if err != nil {
		t.Fatal(err)
	}
	return nats.Config{URLs: []string{s.ClientURL()}, Identity: who, Creds: user, Logger: slog.New(slog.DiscardHandler)}
}

func connect(t *testing.T, c nats.Config) *nats.Conn {
	t.Helper()
	b, err := nats.Connect(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func TestContractOutside(t *testing.T) {
	bustest.Run(t, func(t *testing.T) func(bus.Identity) bus.Bus {
		s, a := outside(t, func(o *server.Options) { o.SyncAlways = false }) // faster
		return func(who bus.Identity) bus.Bus { return connect(t, config(t, s, a, who)) }
	})
}

func TestSmallMaxPayloadIsRefused(t *testing.T) {
	s, a := outside(t, func(o *server.Options) { o.MaxPayload = 1 << 20 })
	_, err := nats.Connect(t.Context(), config(t, s, a, bustest.Core))
	if !errors.Is(err, bus.ErrRefused) || !strings.Contains(err.Error(), "max_payload") {
		t.Errorf("got %v", err)
	}
}

func TestSyncState(t *testing.T) {
	for _, always := range []bool{true, false} {
		s, a := outside(t, func(o *server.Options) {
			o.SyncAlways = always
			o.HTTPHost, o.HTTPPort = "127.0.0.1", server.RANDOM_PORT
		})
		c := config(t, s, a, bustest.Core)
		if got, err := connect(t, c).SyncState(t.Context()); got != nats.SyncUnknown || err != nil {
			t.Errorf("without monitoring: got %s, %v", got, err)
		}
		c.MonitorURLs = []string{"http://" + s.MonitorAddr().String()}
		const gone = "http://127.0.0.1:1"
		c.MonitorURLs = append([]string{gone}, c.MonitorURLs...)
		got, err := connect(t, c).SyncState(t.Context())
		unread, some := errors.AsType[*nats.UnreadError](err)
		if always && (got != nats.SyncUnknown || !some || !slices.Equal(unread.URLs, []string{gone}) || !errors.Is(err, bus.ErrUnavailable)) {
			t.Errorf("one of two is gone: got %s, %v", got, err)
		}
		if !always && (got != nats.SyncDelayed || err != nil) {
			t.Errorf("one of two is gone, and the other syncs late: got %s, %v", got, err)
		}
		c.MonitorURLs = c.MonitorURLs[1:]
		want := map[bool]nats.SyncState{true: nats.SyncAlways, false: nats.SyncDelayed}[always]
		if got, err := connect(t, c).SyncState(t.Context()); got != want || err != nil {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	}
}

func TestReconnect(t *testing.T) {
	var options *server.Options
	s, a := outside(t, func(o *server.Options) { options = o })
	options.Port = s.Addr().(*net.TCPAddr).Port
	core, node := connect(t, config(t, s, a, bustest.Core)), connect(t, config(t, s, a, bustest.Node))
	got := make(chan struct{}, 1024) // more heartbeats than are sent
	if _, err := core.Subscribe(t.Context(), bus.AllHeartbeats, func(bus.Message) { got <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	log, err := core.OpenLog(t.Context(), "WAL")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := log.Append(t.Context(), 0, []byte("1")); err != nil {
		t.Fatal(err)
	}
	s.Shutdown()
	s.WaitForShutdown()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := log.Append(ctx, 1, []byte("2")); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("append without a server: %v", err)
	}
	options.TrustedKeys = nil // derived by the first server
	natstest.Run(t, options)
	// Both come back by themselves, the core's subscription with it.
	deadline := time.Now().Add(15 * time.Second)
	for mended := false; !mended; {
		if time.Now().After(deadline) {
			t.Fatal("not mended")
		}
		_ = node.Publish(t.Context(), bus.Message{Subject: bus.HeartbeatSubject(bustest.Node.Name)}) // fails until then
		select {
		case <-got:
			mended = true
		case <-time.After(50 * time.Millisecond):
		}
	}
	if last, err := log.Append(t.Context(), 1, []byte("2")); last != 2 || err != nil {
		t.Errorf("append: %d, %v", last, err)
	}
}

func TestConnectWaitsForTheServer(t *testing.T) {
	s, a := outside(t, nil)
	c := config(t, s, a, bustest.Core)
	said := &strings.Builder{} // by one goroutine
	c.Logger = slog.New(slog.NewTextHandler(said, nil))
	c.URLs[0] = strings.Replace(c.URLs[0], "nats://", "nats://ada:lovelace@", 1)
	s.Shutdown()
	s.WaitForShutdown()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := nats.Connect(ctx, c); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if n := strings.Count(said.String(), "NATS cannot be reached, trying on"); n != 1 || strings.Contains(said.String(), "lovelace") {
		t.Errorf("it said: %s", said)
	}
}

func TestNoCredentials(t *testing.T) {
	s, a := outside(t, nil)
	c := config(t, s, a, bustest.Core)
	c.Creds, c.CredsFile = nil, filepath.Join(t.TempDir(), "none.creds")
	_, err := nats.Connect(t.Context(), c)
	if !errors.Is(err, bus.ErrRefused) || !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), c.CredsFile) {
		t.Errorf("got %v", err)
	}
	for _, content := range []string{"", "x", strings.Repeat("x", 1<<20)} {
		if err := os.WriteFile(c.CredsFile, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := nats.Connect(t.Context(), c)
		if !errors.Is(err, bus.ErrRefused) || !strings.Contains(err.Error(), c.CredsFile+" holds no credentials") {
			t.Errorf("%.10q: got %v", content, err)
		}
	}
}

func TestConfigProblemsAreCollected(t *testing.T) {
	_, err := nats.Connect(t.Context(), nats.Config{Replicas: 2})
	for _, want := range []string{"identity", "URLs", "CredsFile", "Logger", "Replicas"} {
		if err == nil || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
}

// TestMoreReplicas: what exists gets as many copies as are configured, and keeps
// those that it has.
func TestMoreReplicas(t *testing.T) {
	a, err := creds.Open(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(path, []byte(a.ServerConfig(t.TempDir())), 0o600); err != nil {
		t.Fatal(err)
	}
	all := natstest.Three(t, func() *server.Options {
		o, err := server.ProcessConfigFile(path)
		if err != nil {
			t.Fatal(err)
		}
		o.HTTPPort = -1
		return o
	})
	use := func(replicas int) {
		t.Helper()
		c := config(t, all[0], a, bustest.Core)
		c.Replicas = replicas
		b, err := nats.Connect(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = b.Close() }() // the test looks at the servers
		if _, err := b.OpenLog(t.Context(), "WAL"); err != nil {
			t.Fatal(err)
		}
		if _, err := b.PutBlob(t.Context(), "x", 10, strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Acquire(t.Context(), "leader", "a", time.Second); err != nil {
			t.Fatal(err)
		}
	}
	copies := func() map[string]int {
		t.Helper()
		found := map[string]int{}
		for _, s := range all { // each tells of its own
			state, err := s.Jsz(&server.JSzOptions{Accounts: true, Streams: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, account := range state.AccountDetails {
				for _, stream := range account.Streams {
					found[stream.Name]++
				}
			}
		}
		return found
	}
	use(1)
	if got := copies(); got["WAL"] != 1 || got["OBJ_BLOBS"] != 1 || got["LEASE"] != 1 {
		t.Errorf("at first: %v", got)
	}
	for _, replicas := range []int{3, 1} {
		use(replicas)
		if got := copies(); got["WAL"] != 3 || got["OBJ_BLOBS"] != 3 || got["LEASE"] != 3 {
			t.Errorf("with %d configured: %v", replicas, got)
		}
	}
}

// TestReplicasRefused: who wants more copies than there are servers is told.
func TestReplicasRefused(t *testing.T) {
	s, a := outside(t, nil)
	c := config(t, s, a, bustest.Core)
	if _, err := connect(t, c).OpenLog(t.Context(), "WAL"); err != nil {
		t.Fatal(err)
	}
	c.Replicas = 3
	_, err := connect(t, c).OpenLog(t.Context(), "WAL")
	if err == nil || !strings.Contains(err.Error(), "have 3 copies of stream WAL, which has 1: ") {
		t.Errorf("got %v", err)
	}
}

// TestTakeOver measures how long after the death of a holder another gets the
// lease, as cores do it.
func TestTakeOver(t *testing.T) {
	s, a := outside(t, nil)
	dead, next := connect(t, config(t, s, a, bustest.Core)), connect(t, config(t, s, a, bustest.Core2))
	held, err := dead.Acquire(t.Context(), "leader", "a", 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	each := time.NewTicker(50 * time.Millisecond)
	defer each.Stop()
	for {
		_, err := next.Acquire(t.Context(), "leader", "b", 2*time.Second)
		if err == nil {
			break
		}
		if !errors.Is(err, bus.ErrConflict) || time.Since(begin) > 10*time.Second {
			t.Fatal(err)
		}
		<-each.C
	}
	if time.Now().Before(held.Deadline()) {
		t.Error("taken before the deadline")
	}
	t.Logf("taken over %s after the last renewal", time.Since(begin))
}

// TestLeaseAfterRestart: leases are in the server's memory; after its restart
// they must be taken again without one of the cores, and not while another may
// still rely on one.
func TestLeaseAfterRestart(t *testing.T) {
	var options *server.Options
	s, a := outside(t, func(o *server.Options) { options = o })
	options.Port = s.Addr().(*net.TCPAddr).Port
	core := connect(t, config(t, s, a, bustest.Core))
	const ttl = 3 * time.Second // longer than a restart
	first := time.Now()
	held, err := core.Acquire(t.Context(), "leader", "a", ttl)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(first); took > ttl/2 {
		t.Errorf("on a new server it took %v", took)
	}
	if _, err := core.OpenLog(t.Context(), "WAL"); err != nil {
		t.Fatal(err)
	}
	each := time.NewTicker(50 * time.Millisecond)
	defer each.Stop()
	for time.Since(first) < ttl+ttl/2 { // the log is older than a lease lasts
		<-each.C
		if err := held.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s.Shutdown()
	s.WaitForShutdown()
	options.TrustedKeys = nil // derived by the first server
	natstest.Run(t, options)
	for begin := time.Now(); ; <-each.C {
		// What is asked while the connection mends itself gets no answer.
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		_, err := core.Acquire(ctx, "leader", "b", ttl)
		cancel()
		if err == nil {
			break
		}
		if time.Since(begin) > 15*time.Second {
			t.Fatal(err)
		}
	}
	if left := time.Until(held.Deadline()); left > 0 {
		t.Errorf("two hold it for %v", left)
	}
}

// TestFullStoreRefuses: what the server certainly did not store must not be
// waited for as if it might be.
func TestFullStoreRefuses(t *testing.T) {
	s, a := outside(t, func(o *server.Options) { o.JetStreamMaxStore = 1 << 20 })
	log, err := connect(t, config(t, s, a, bustest.Core)).OpenLog(t.Context(), "WAL")
	if err != nil {
		t.Fatal(err)
	}
	var last uint64
	for last < 100 && err == nil {
		var stored uint64
		if stored, err = log.Append(t.Context(), last, make([]byte, 100<<10)); err == nil {
			last = stored
		}
	}
	if !errors.Is(err, bus.ErrRefused) {
		t.Errorf("after %d records: %v", last, err)
	}
	if _, newest, err := log.Bounds(t.Context()); err != nil || newest != last {
		t.Errorf("the newest is %d, %v, want %d", newest, err, last)
	}
}
