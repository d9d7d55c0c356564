package nats_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/nats"
)

// objectServer runs a server with a bucket "weft" for the user ada, whose
// password is in the URL that it returns.
func objectServer(t *testing.T) (url string) {
	t.Helper()
	s := run(t, &server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
		Users: []*server.User{{Username: "ada", Password: "lovelace"}},
	})
	url = "nats://ada:lovelace@" + s.Addr().String()
	conn, err := natsgo.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err == nil {
		_, err = js.CreateObjectStore(t.Context(), jetstream.ObjectStoreConfig{Bucket: "weft"})
	}
	if err != nil {
		t.Fatal(err)
	}
	return url
}

func openObject(t *testing.T, url string) *nats.Object {
	t.Helper()
	o, err := nats.OpenObject(t.Context(), nats.ObjectConfig{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	return o
}

func wantObject(t *testing.T, o *nats.Object, want []byte) {
	t.Helper()
	r, err := o.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }() // only read
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v; want %d", len(got), err, len(want))
	}
}

// TestObject: an object is replaced as a whole, or stays as it was.
func TestObject(t *testing.T) {
	o := openObject(t, objectServer(t)+"/weft/backups/one")
	if _, err := o.Get(t.Context()); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("of what is not there: %v", err)
	}
	first := make([]byte, 3<<20)
	random := rand.NewChaCha8([32]byte{})
	_, _ = random.Read(first) // it has no errors
	if err := o.Put(t.Context(), bytes.NewReader(first)); err != nil {
		t.Fatal(err)
	}
	wantObject(t, o, first)

	broken := errors.New("the source broke")
	err := o.Put(t.Context(), io.MultiReader(bytes.NewReader(first[:2<<20]), &failing{broken}))
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	wantObject(t, o, first)

	ctx, cancel := context.WithCancel(t.Context())
	if err := o.Put(ctx, &cancelling{left: 2 << 20, cancel: cancel}); err == nil {
		t.Error("it was stored although it was given up")
	}
	wantObject(t, o, first)

	if err := o.Put(t.Context(), strings.NewReader("second")); err != nil {
		t.Fatal(err)
	}
	wantObject(t, o, []byte("second"))
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

// cancelling gives so many bytes, and then cancels what is done with them.
type cancelling struct {
	left   int
	cancel context.CancelFunc
}

func (c *cancelling) Read(p []byte) (int, error) {
	if c.left <= 0 {
		c.cancel()
	}
	n := min(len(p), 64<<10)
	c.left -= n
	return n, nil
}

func TestObjectRefused(t *testing.T) {
	url := objectServer(t)
	for name, tt := range map[string]struct{ url, want string }{
		"no bucket":      {url + "/other/one", "make it first"},
		"no name":        {url + "/weft", "nats://HOST[:PORT]/BUCKET/NAME is expected"},
		"wrong password": {strings.Replace(url, "lovelace", "byron", 1) + "/weft/one", "Authorization Violation"},
		"nobody there":   {"nats://127.0.0.1:1/weft/one", "connect to NATS"},
		"no URL":         {"nats://ada:love lace@%/weft/one", "it is no URL"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := nats.OpenObject(t.Context(), nats.ObjectConfig{URL: tt.url})
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "ada") {
				t.Errorf("got %v, want %q and no user", err, tt.want)
			}
		})
	}
}
