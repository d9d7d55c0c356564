// Package natstest runs NATS servers for tests.
package natstest

import (
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
