package nats_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/nats"
	"github.com/weftrun/weft/bus/nats/natstest"
)

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
	o := openObject(t, natstest.Objects(t, "weft")+"/weft/backups/one")
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

// TestObjectLost: when the server goes away in the middle, that is said at once.
func TestObjectLost(t *testing.T) {
	s := natstest.Run(t, &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir()})
	natstest.Bucket(t, s.ClientURL(), "weft")
	o := openObject(t, s.ClientURL()+"/weft/one")
	if err := o.Put(t.Context(), bytes.NewReader(make([]byte, 64<<20))); err != nil {
		t.Fatal(err)
	}
	r, err := o.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }() // only read
	started := time.Now()
	err = o.Put(t.Context(), &cancelling{left: 4 << 20, cancel: s.Shutdown})
	if !errors.Is(err, bus.ErrUnavailable) || !strings.Contains(err.Error(), "was lost") {
		t.Errorf("got %v", err)
	}
	if n, err := io.Copy(io.Discard, r); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("%d bytes were read, and then %v", n, err)
	}
	if took := time.Since(started); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
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
	url := natstest.Objects(t, "weft")
	for name, tt := range map[string]struct{ url, want string }{
		"no bucket":      {url + "/other/one", "make it first"},
		"no name":        {url + "/weft", "has 0 bytes: 1 to 512 are permitted"},
		"long name":      {url + "/weft/" + strings.Repeat("x", 513), "has 513 bytes: 1 to 512 are permitted"},
		"hostile name":   {url + "/weft/a%00b", "control characters are not permitted"},
		"hostile bucket": {url + "/we.ft/one", "letters, digits, - and _"},
		"escaped slash":  {url + "/we%2fft/one", "letters, digits, - and _"},
		"nothing":        {"nats://", "nats://HOST[:PORT]/BUCKET/NAME is expected"},
		"no host":        {"nats:///weft/one", "nats://HOST[:PORT]/BUCKET/NAME is expected"},
		"a query":        {url + "/weft/one?a=b", "nats://HOST[:PORT]/BUCKET/NAME is expected"},
		"wrong password": {strings.Replace(url, "lovelace", "byron", 1) + "/weft/one", "Authorization Violation"},
		"nobody there":   {"nats://127.0.0.1:1/weft/one", "connect to NATS"},
		"no URL":         {"nats://ada:love lace@%/weft/one", "nats://HOST[:PORT]/BUCKET/NAME is expected"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := nats.OpenObject(t.Context(), nats.ObjectConfig{URL: tt.url})
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "ada") {
				t.Errorf("got %v, want %q and no user", err, tt.want)
			}
		})
	}
}
