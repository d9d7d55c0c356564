package nats_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"sync"
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

// TestObjectWaits: who waits for bytes hears at once that the connection has
// ended, or that they are not wanted any more.
func TestObjectWaits(t *testing.T) {
	url := natstest.Objects(t, "weft")
	if err := openObject(t, url+"/weft/one").Put(t.Context(), bytes.NewReader(make([]byte, 16<<20))); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"cut": "was lost", "cancelled": "canceled"} {
		t.Run(name, func(t *testing.T) {
			path := stall(t, url, 700<<10) // a chunk and a part of the next one
			o := openObject(t, path.url+"/weft/one")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r, err := o.Get(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = r.Close() }() // only read
			if _, err := io.CopyN(io.Discard, r, 512<<10); err != nil {
				t.Fatal(err)
			}
			<-path.holds
			ends := cancel
			if name == "cut" {
				ends = path.cut
			}
			go ends()
			started := time.Now()
			if n, err := io.Copy(io.Discard, r); !errors.Is(err, bus.ErrUnavailable) || !strings.Contains(err.Error(), want) {
				t.Errorf("%d bytes were read, and then %v", n, err)
			}
			if took := time.Since(started); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// TestObjectPauses: bytes that are long in coming are waited for.
func TestObjectPauses(t *testing.T) {
	url := natstest.Objects(t, "weft")
	content := bytes.Repeat([]byte("weft"), 4<<20)
	if err := openObject(t, url+"/weft/one").Put(t.Context(), bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	path := stall(t, url, 700<<10)
	go func() {
		<-path.holds
		time.AfterFunc(3*nats.Beat, path.resume)
	}()
	wantObject(t, openObject(t, path.url+"/weft/one"), content)
}

// stalled is a way to a server that passes on so many bytes of it, and the answer to who
// asks for messages, which may come behind the first of them, and no more before resume.
type stalled struct {
	url         string
	holds       chan struct{} // closed when it passes on no more
	cut, resume func()
}

func stall(t *testing.T, to string, size int64) stalled {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	holds, resumed, accepted := make(chan struct{}), make(chan struct{}), make(chan net.Conn, 1)
	cut := sync.OnceFunc(func() {
		_, _ = listener.Close(), server.Close() // the end of the test
		if client, ok := <-accepted; ok {
			_ = client.Close()
		}
	})
	t.Cleanup(cut)
	go func() {
		defer close(accepted)
		client, err := listener.Accept()
		if err != nil {
			return
		}
		accepted <- client
		go func() { _, _ = io.Copy(server, client) }()
		passUntilAnswered(client, server, size)
		close(holds)
		select {
		case <-resumed:
			_, _ = io.Copy(client, server)
		case <-t.Context().Done():
		}
	}()
	u.Host = listener.Addr().String()
	return stalled{u.String(), holds, cut, sync.OnceFunc(func() { close(resumed) })}
}

// passUntilAnswered passes on size bytes at least, and what comes until a consumer was
// made.
func passUntilAnswered(to io.Writer, from io.Reader, size int64) {
	answer := []byte("consumer_create_response")
	b, kept, answered := make([]byte, 64<<10), 0, false
	for size > 0 || !answered {
		n, err := from.Read(b[kept:])
		if err != nil {
			return
		}
		if _, err := to.Write(b[kept : kept+n]); err != nil {
			return
		}
		size -= int64(n)
		seen := b[:kept+n]
		answered = answered || bytes.Contains(seen, answer)
		kept = copy(b, seen[max(0, len(seen)-len(answer)):]) // it may have come in two parts
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
