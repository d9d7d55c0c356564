// Package natstest runs NATS servers for tests.
package natstest

import (
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Run runs a server until the test ends; it is ready on return.
func Run(t testing.TB, o *server.Options) *server.Server {
	t.Helper()
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the NATS server is not ready")
	}
	return s
}

// Three runs three servers as a cluster with JetStream, on free ports, until the test
// ends; all have found each other on return. Each is of other options.
func Three(t testing.TB, options func() *server.Options) []*server.Server {
	t.Helper()
	var all []*server.Server
	// JetStream wants to know that there will be others, before there are.
	seed := &url.URL{Scheme: "nats-route", Host: "127.0.0.1:1"}
	for i := range 3 {
		o := options()
		o.Host, o.Port, o.NoSigs, o.NoLog = "127.0.0.1", server.RANDOM_PORT, true, true
		o.ServerName, o.StoreDir = fmt.Sprint("nats-", i), t.TempDir()
		o.Cluster = server.ClusterOpts{Name: "three", Host: "127.0.0.1", Port: server.RANDOM_PORT}
		o.Routes = []*url.URL{seed}
		s := Run(t, o)
		if i == 0 {
			await(t, "the route's port", func() bool { return s.ClusterAddr() != nil && s.ClusterAddr().Port > 0 })
			seed = &url.URL{Scheme: "nats-route", Host: s.ClusterAddr().String()}
		}
		all = append(all, s)
	}
	await(t, "JetStream's leader", func() bool {
		return slices.ContainsFunc(all, func(s *server.Server) bool {
			return s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == len(all)
		})
	})
	return all
}

func await(t testing.TB, what string, is func() bool) {
	t.Helper()
	each := time.NewTicker(10 * time.Millisecond)
	defer each.Stop()
	for begin := time.Now(); !is(); <-each.C {
		if time.Since(begin) > time.Minute {
			t.Fatalf("%s did not come", what)
		}
	}
}

// Objects runs a server with an empty object store bucket for the user ada, and
// returns the URL of it, nats://ada:lovelace@HOST:PORT.
func Objects(t testing.TB, bucket string) (url string) {
	t.Helper()
	s := Run(t, &server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
		Users: []*server.User{{Username: "ada", Password: "lovelace"}},
	})
	url = "nats://ada:lovelace@" + s.Addr().String()
	Bucket(t, url, bucket)
	return url
}

// Bucket makes an object store bucket on the server at url.
func Bucket(t testing.TB, url, bucket string) {
	t.Helper()
	conn, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err == nil {
		_, err = js.CreateObjectStore(t.Context(), jetstream.ObjectStoreConfig{Bucket: bucket})
	}
	if err != nil {
		t.Fatal(err)
	}
}
