package apiserver_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/apiserver"
)

// leaders is who leads, one after the other.
type leaders struct {
	mu     sync.Mutex
	server string
	leads  context.Context
	end    context.CancelFunc
}

func (l *leaders) become(ctx context.Context, server string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.end != nil {
		l.end()
	}
	l.server = server
	l.leads, l.end = context.WithCancel(ctx)
}

func (l *leaders) leader(ctx context.Context) (string, context.Context, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.server == "" {
		return "", nil, context.DeadlineExceeded
	}
	return l.server, l.leads, nil
}

type rita struct{}

func (rita) Authenticate(r *http.Request) (core.User, error) {
	if r.Header.Get("Stranger") != "" {
		return core.User{}, fmt.Errorf("no")
	}
	if r.Header.Get("Nobody") != "" {
		return core.User{Name: core.UserAnonymous}, nil
	}
	return core.User{Name: "rita", Groups: []string{"readers", "all"}}, nil
}

// standby returns a proxy before the leaders, and how to ask it.
func standby(t *testing.T, l *leaders) (ask func(method, path, body string, headers ...string) (int, string)) {
	t.Helper()
	p, err := apiserver.NewProxy(apiserver.ProxyConfig{
		Leader: l.leader, Authenticate: rita{}, TLS: &tls.Config{InsecureSkipVerify: true}, Patience: 2 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	return func(method, path, body string, headers ...string) (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(headers); i += 2 {
			request.Header.Set(headers[i], headers[i+1])
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }() // only read
		data, err := io.ReadAll(response.Body)
		if err != nil {
			return response.StatusCode, "broken: " + err.Error()
		}
		return response.StatusCode, string(data)
	}
}

func tlsServer(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// TestProxyIdentity: the leader is told who asks, by the proxy alone.
func TestProxyIdentity(t *testing.T) {
	s := tlsServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %s %s user=%q groups=%q token=%q", r.Method, r.URL, body,
			r.Header.Get("X-Remote-User"), r.Header.Values("X-Remote-Group"), r.Header.Get("Authorization"))
	})
	l := &leaders{}
	l.become(t.Context(), s.URL)
	ask := standby(t, l)
	if code, got := ask("POST", "/api/v1/x?a=b", "body", "X-Remote-User", "admin", "X-Remote-Group", "system:masters"); code != 200 ||
		got != `POST /api/v1/x?a=b body user="rita" groups=["readers" "all"] token=""` {
		t.Errorf("%d %s", code, got)
	}
	if code, got := ask("GET", "/", "", "Authorization", "Bearer t", "X-Remote-User", "admin"); code != 200 || got != `GET /  user="" groups=[] token="Bearer t"` {
		t.Errorf("%d %s", code, got)
	}
	if code, got := ask("GET", "/", "", "Stranger", "yes"); code != 401 || !strings.Contains(got, `"reason":"Unauthorized"`) {
		t.Errorf("%d %s", code, got)
	}
}

// breakOff sends the begin of an answer, and then nothing more.
func breakOff(w http.ResponseWriter, length string) {
	if length != "" {
		w.Header().Set("Content-Length", length)
	}
	_, _ = io.WriteString(w, "begin")
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// TestProxyTakeOver: a request that the leader did not take waits for the next
// one; one that may have been carried out is not sent twice.
func TestProxyTakeOver(t *testing.T) {
	var served atomic.Int32
	next := tlsServer(t, func(w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "next %s", body)
	})
	still := make(chan struct{})
	defer close(still)
	for name, tt := range map[string]struct {
		before func(l *leaders, w http.ResponseWriter) // what the leader does
		method string
		code   int
		want   string
		served int32
	}{
		"its store has ended": {func(l *leaders, w http.ResponseWriter) {
			l.become(context.Background(), next.URL)
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, "POST", 200, "next body", 1},
		"it breaks off, a change": {func(l *leaders, _ http.ResponseWriter) {
			l.become(context.Background(), next.URL)
			panic(http.ErrAbortHandler)
		}, "POST", 504, `"reason":"Timeout"`, 0},
		"it breaks off, a question": {func(l *leaders, _ http.ResponseWriter) {
			l.become(context.Background(), next.URL)
			panic(http.ErrAbortHandler)
		}, "GET", 200, "next", 1},
		"it breaks off within its answer to a change": {func(l *leaders, w http.ResponseWriter) {
			l.become(context.Background(), next.URL)
			breakOff(w, "")
		}, "POST", 504, `"reason":"Timeout"`, 0},
		"it breaks off within its answer to a question": {func(l *leaders, w http.ResponseWriter) {
			l.become(context.Background(), next.URL)
			breakOff(w, "100")
		}, "GET", 200, "next", 1},
		"it stands still": {func(l *leaders, _ http.ResponseWriter) {
			l.become(context.Background(), next.URL)
			<-still
		}, "GET", 200, "next", 1},
	} {
		t.Run(name, func(t *testing.T) {
			served.Store(0)
			l := &leaders{}
			first := tlsServer(t, func(w http.ResponseWriter, _ *http.Request) { tt.before(l, w) })
			l.become(t.Context(), first.URL)
			code, got := standby(t, l)(tt.method, "/", "body")
			if code == 504 && strings.Contains(got, "retryAfterSeconds") {
				t.Errorf("client-go would repeat it: %s", got)
			}
			if code != tt.code || !strings.Contains(got, tt.want) || served.Load() != tt.served {
				t.Errorf("%d %s, the next leader served %d", code, got, served.Load())
			}
		})
	}
	t.Run("it is gone", func(t *testing.T) {
		served.Store(0)
		l := &leaders{}
		first := tlsServer(t, nil)
		l.become(t.Context(), first.URL)
		first.Close()
		time.AfterFunc(50*time.Millisecond, func() { l.become(context.Background(), next.URL) })
		if code, got := standby(t, l)("POST", "/", "body"); code != 200 || got != "next body" || served.Load() != 1 {
			t.Errorf("%d %s", code, got)
		}
	})
	t.Run("it ends before the handshake", func(t *testing.T) {
		served.Store(0)
		l := &leaders{}
		first, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = first.Close() }() // the test is over
		go func() {
			if c, err := first.Accept(); err == nil {
				l.become(context.Background(), next.URL)
				_ = c.Close() // is what the test is about
			}
		}()
		l.become(t.Context(), "https://"+first.Addr().String())
		if code, got := standby(t, l)("POST", "/", "body"); code != 200 || got != "next body" || served.Load() != 1 {
			t.Errorf("%d %s", code, got)
		}
	})
	t.Run("nobody leads", func(t *testing.T) {
		if code, got := standby(t, &leaders{})("POST", "/", "body"); code != 503 || !strings.Contains(got, "retryAfterSeconds") {
			t.Errorf("%d %s", code, got)
		}
	})
}

// TestProxyForwardsOnce: what another core forwards waits there, and is not
// taken for a stranger's.
func TestProxyForwardsOnce(t *testing.T) {
	p, err := apiserver.NewProxy(apiserver.ProxyConfig{
		Leader: (&leaders{}).leader, Authenticate: rita{}, TLS: &tls.Config{},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.Header.Set("Stranger", "it is not asked who it is")
	r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{Subject: pkix.Name{Organization: []string{core.GroupCores}}}}}}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestProxyEndsWatches: what is read from a leader ends when it leads no longer,
// a watch in order.
func TestProxyEndsWatches(t *testing.T) {
	for path, want := range map[string]string{"/watch?watch=1": "first\n", "/list": "broken: unexpected EOF"} {
		t.Run(path, func(t *testing.T) { endOfLeader(t, path, want) })
	}
}

func endOfLeader(t *testing.T, path, want string) {
	t.Helper()
	begun := make(chan struct{})
	s := tlsServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "first\n")
		_ = http.NewResponseController(w).Flush()
		close(begun)
		<-r.Context().Done()
	})
	l := &leaders{}
	l.become(t.Context(), s.URL)
	ask := standby(t, l)
	go func() {
		<-begun
		l.become(context.Background(), "https://127.0.0.1:1")
	}()
	if code, got := ask("GET", path, ""); code != 200 || got != want {
		t.Errorf("%d %q", code, got)
	}
}

// TestProxyTellsRefusal: why a leader carries nothing out is what its client
// hears, at once if no other leader would fare better.
func TestProxyTellsRefusal(t *testing.T) {
	for name, tt := range map[string]struct {
		body     string
		min, max int64 // how often the leader is asked
	}{
		"another one may":  {`{"kind":"Status","message":"not ready","details":{"retryAfterSeconds":1}}`, 2, 15},
		"no status":        {"the disk is full", 2, 15},
		"no other one can": {`{"kind":"Status","message":"the disk is full","details":{"causes":[{"reason":"LogRefused"}]}}`, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			s := tlsServer(t, func(w http.ResponseWriter, _ *http.Request) {
				asked.Add(1)
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(http.StatusServiceUnavailable)
				_, _ = io.WriteString(w, tt.body) // the client tells
			})
			l := &leaders{}
			l.become(t.Context(), s.URL)
			for _, method := range []string{http.MethodPost, http.MethodGet} {
				asked.Store(0)
				if code, got := standby(t, l)(method, "/api", ""); code != http.StatusServiceUnavailable || got != tt.body {
					t.Errorf("%s: %d %s", method, code, got)
				}
				if n := asked.Load(); n < tt.min || n > tt.max {
					t.Errorf("%s: the leader was asked %d times", method, n)
				}
			}
		})
	}
}

// TestProxyKeepsSome: bodies are kept, to be sent again, up to a bound; others
// are forwarded as they come. Who has only a token takes no room of the others, and
// who is nobody none.
func TestProxyKeepsSome(t *testing.T) {
	begun := make(chan struct{}, 1)
	s := tlsServer(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = r.Body.Read(make([]byte, 1))
		begun <- struct{}{}
		_, _ = io.Copy(io.Discard, r.Body) // who answers before has the sender read no more of it
	})
	l := &leaders{}
	l.become(t.Context(), s.URL)
	p, err := apiserver.NewProxy(apiserver.ProxyConfig{Leader: l.leader, Authenticate: rita{}, TLS: &tls.Config{InsecureSkipVerify: true}})
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	defer group.Wait()
	send := func(header string) *slowBody {
		body := &slowBody{reading: make(chan struct{}), end: make(chan struct{})}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api", io.MultiReader(strings.NewReader("begin"), body))
		r.ContentLength = 3 << 20
		r.Header.Set(header, "x")
		group.Go(func() { p.ServeHTTP(httptest.NewRecorder(), r) })
		<-body.reading
		return body
	}
	defer close(send("Nobody").end)
	<-begun
	for range 10 {
		defer close(send("Authorization").end)
	}
	select {
	case <-begun:
		t.Error("a body was forwarded that could be kept")
	default:
	}
	defer close(send("Authorization").end)
	<-begun
	defer close(send("Known").end)
	select {
	case <-begun:
		t.Error("those without a proof took the room of those with one")
	default:
	}
}

// TestProxyBodyToCome: a body costs what has come of it, whatever its sender says.
func TestProxyBodyToCome(t *testing.T) {
	p, err := apiserver.NewProxy(apiserver.ProxyConfig{Leader: (&leaders{}).leader, Authenticate: rita{}, TLS: &tls.Config{}})
	if err != nil {
		t.Fatal(err)
	}
	reading := make(chan struct{})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	body := &slowBody{reading: reading, end: make(chan struct{})}
	r := httptest.NewRequest(http.MethodPost, "/api", body)
	r.ContentLength = 3 << 20
	r.Header.Set("Authorization", "Bearer nonsense")
	var group sync.WaitGroup
	group.Go(func() { p.ServeHTTP(httptest.NewRecorder(), r) })
	<-reading
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
		t.Errorf("%d bytes for nothing", grown)
	}
	close(body.end)
	group.Wait()
}

// slowBody gives nothing until end is closed, and then breaks off.
type slowBody struct {
	reading chan struct{}
	end     chan struct{}
}

func (b *slowBody) Read([]byte) (int, error) {
	close(b.reading)
	<-b.end
	return 0, io.ErrUnexpectedEOF
}
