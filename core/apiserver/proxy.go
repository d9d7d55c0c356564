package apiserver

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
)

// ProxyConfig configures a Proxy. The zero value of an optional field means
// its default.
type ProxyConfig struct {
	// Leader returns where the core that leads serves the API, such as
	// "https://10.0.0.1:6443", and a context that ends when it leads no longer.
	// While none is known it waits until ctx ends. Required.
	Leader func(ctx context.Context) (server string, leads context.Context, err error)
	// Authenticate recognises client certificates. Bearer tokens it need not
	// know: the leader does. Required.
	Authenticate Authenticator
	// TLS is for the connections to the leader: the certificate of a member of
	// core.GroupCores, and the cluster's authority. Required.
	TLS *tls.Config
	// Patience is how long a request waits for a core to lead; 5s.
	Patience time.Duration
	Log      *slog.Logger // optional, discards
}

// Proxy forwards requests to the core that leads, each under the identity of
// who sent it. A request that the leader did not take, because it ended or
// leads no longer, waits for the next leader; one of which it is not known
// whether it was carried out is repeated only if it changes nothing. It may be
// used concurrently.
type Proxy struct {
	config  ProxyConfig
	reverse *httputil.ReverseProxy
	leaders *http.Transport
	known   *semaphore.Weighted // bytes of bodies kept for senders who proved who they are
	unknown *semaphore.Weighted // for those whose token only the leader can verify
}

// NewProxy checks c and returns a Proxy that forwards nothing yet.
func NewProxy(c ProxyConfig) (*Proxy, error) {
	if c.Leader == nil || c.Authenticate == nil || c.TLS == nil {
		return nil, errors.New("configure API proxy: Leader, Authenticate and TLS are required")
	}
	setDefault(&c.Patience, 5*time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	p := &Proxy{config: c, known: semaphore.NewWeighted(maxKept), unknown: semaphore.NewWeighted(maxKept), leaders: &http.Transport{
		TLSClientConfig:     c.TLS.Clone(),
		ForceAttemptHTTP2:   true,
		DialContext:         (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
		IdleConnTimeout:     90 * time.Second,
		// A leader that stands still must not keep what waits for it.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 2 * time.Second, PingTimeout: 3 * time.Second},
	}}
	p.reverse = &httputil.ReverseProxy{
		Rewrite:       func(*httputil.ProxyRequest) {}, // ServeHTTP has done it
		Transport:     p,
		FlushInterval: -1, // watches and logs are read as they come
		ErrorLog:      slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
		ErrorHandler:  p.fail,
	}
	return p, nil
}

const (
	maxReplay = 3 << 20  // bytes of the body of a request that can be sent twice
	maxKept   = 32 << 20 // bytes of such bodies at once
)

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if fromCore(r) {
		p.refuse(w)
		return
	}
	if err := p.identify(r); err != nil {
		p.config.Log.Debug("request refused", "path", r.URL.Path, "err", err)
		w.Header().Set("WWW-Authenticate", "Bearer")
		writeStatus(w, apierrors.NewUnauthorized("Unauthorized"))
		return
	}
	free, err := p.keepBody(w, r)
	defer free()
	if err != nil {
		w.Header().Set("Connection", "close")
		writeStatus(w, apierrors.NewBadRequest("read the request's body: "+err.Error()))
		return
	}
	p.reverse.ServeHTTP(w, r)
}

// fromCore tells whether another core forwards r, which takes this one for the
// leader: it did lead, or will. That one waits for the next leader, as long as
// it is told that nothing was done.
func fromCore(r *http.Request) bool {
	return r.TLS != nil && len(r.TLS.VerifiedChains) > 0 && len(r.TLS.VerifiedChains[0]) > 0 &&
		slices.Contains(r.TLS.VerifiedChains[0][0].Subject.Organization, core.GroupCores)
}

// identify puts the sender's identity into the headers. A token stays as it is:
// the leader verifies it.
func (p *Proxy) identify(r *http.Request) error {
	for _, name := range [...]string{core.HeaderRemoteUser, core.HeaderRemoteUID, core.HeaderRemoteGroup} {
		r.Header.Del(name)
	}
	if len(r.Header.Values("Authorization")) > 0 {
		return nil
	}
	user, err := p.config.Authenticate.Authenticate(r)
	if err != nil {
		return err
	}
	r.Header.Set(core.HeaderRemoteUser, user.Name)
	if user.UID != "" {
		r.Header.Set(core.HeaderRemoteUID, user.UID)
	}
	for _, group := range user.Groups {
		r.Header.Add(core.HeaderRemoteGroup, group)
	}
	return nil
}

// keepBody reads a body that is small enough, so that it can be sent again. Its
// sender may be anybody: it takes the memory of what has come, and for bodyTime,
// and where too much is kept it is forwarded as it comes, once. free gives back
// what it takes. Who is nobody may change nothing, so nothing is kept.
func (p *Proxy) keepBody(w http.ResponseWriter, r *http.Request) (free func(), err error) {
	if r.Body == nil || r.ContentLength <= 0 || r.ContentLength > maxReplay || r.Header.Get(core.HeaderRemoteUser) == core.UserAnonymous {
		return func() {}, nil
	}
	room, size := p.known, r.ContentLength
	if len(r.Header.Values("Authorization")) > 0 {
		room = p.unknown
	}
	if !room.TryAcquire(size) {
		return func() {}, nil
	}
	free = func() { room.Release(size) }
	body, err := readInTime(http.NewResponseController(w), r.Body)
	if err != nil {
		return free, err
	}
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	r.Body, _ = r.GetBody()
	return free, nil
}

// Errors of a request that reached no leader.
var (
	errNoLeader = errors.New("no core leads now")
	errUnsure   = errors.New("the core that led is gone, and it is not known whether it carried the request out")
)

// leaderGrace is for how long requests may go on at a core that leads no
// longer: one that ended in order still answers that it did not carry them out.
const leaderGrace = 500 * time.Millisecond

// The pause before a leader that did not take a request is asked for again: at
// first, and at most.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = 320 * time.Millisecond
)

// RoundTrip implements http.RoundTripper: it sends the request to whoever
// leads, again if need be.
func (p *Proxy) RoundTrip(r *http.Request) (*http.Response, error) {
	patience, cancel := context.WithTimeout(r.Context(), p.config.Patience)
	defer cancel()
	var refusal *http.Response // by whoever seemed to lead, and why
	given := func() (*http.Response, error) {
		switch {
		case r.Context().Err() != nil:
			return nil, r.Context().Err()
		case refusal != nil:
			return refusal, nil
		}
		return nil, errNoLeader
	}
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		server, leads, err := p.config.Leader(patience)
		if err != nil {
			return given()
		}
		answer, again, err := p.try(r, server, leads)
		if !again {
			return answer, err
		}
		p.config.Log.Debug("the leader did not take a request", "server", server, "path", r.URL.Path, "err", err)
		refusal = answer
		select {
		case <-time.After(pause):
		case <-patience.Done():
			return given()
		}
	}
}

// try sends the request to one leader. again says that it was not carried out,
// or changes nothing, and can be sent again; the answer may then say why, whole.
func (p *Proxy) try(r *http.Request, server string, leads context.Context) (answer *http.Response, again bool, err error) {
	base, err := url.Parse(server)
	if err != nil {
		return nil, false, fmt.Errorf("address of the leader: %w", err)
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	stop := context.AfterFunc(leads, func() {
		timer := time.AfterFunc(leaderGrace, func() { cancel(errNoLeader) })
		context.AfterFunc(ctx, func() { timer.Stop() })
	})
	var sent atomic.Bool // perhaps: it has a connection, whose handshake is done
	out := r.Clone(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent.Store(true) }}))
	out.URL.Scheme, out.URL.Host = base.Scheme, base.Host
	if r.GetBody != nil {
		if out.Body, err = r.GetBody(); err != nil {
			return nil, false, err
		}
	}
	answer, err = p.leaders.RoundTrip(out)
	if err == nil {
		err = settle(r, answer)
	}
	if err != nil {
		// Other connections to that leader are as broken, but perhaps not noticed
		// yet: what goes to one would have an outcome that nobody knows.
		p.leaders.CloseIdleConnections()
		stop()
		cancel(nil)
		return nil, r.Context().Err() == nil && repeatable(r, sent.Load()), unsure(r, sent.Load(), err)
	}
	// A store that has ended carries nothing out, and says to come again.
	if answer.StatusCode == http.StatusServiceUnavailable && answer.Header.Get("Retry-After") != "" && replayable(r) && !final(answer) {
		stop()
		cancel(nil)
		if !settles(r, answer) {
			_ = answer.Body.Close() // ends with ctx
			answer = nil
		}
		return answer, true, errNoLeader
	}
	answer.Body = &following{
		ReadCloser: answer.Body, watch: flag(r.URL.Query(), "watch"), done: func() { stop(); cancel(nil) },
	}
	return answer, false, nil
}

// settle reads an answer that is no stream to its end before the client sees
// its begin: once that is passed on, a leader that ends between the two can
// only be told by a broken stream. A change answers with one object, and what
// announces its length is none either. What is longer than maxReplay is passed
// on as it comes.
func settle(r *http.Request, answer *http.Response) error {
	if !settles(r, answer) {
		return nil
	}
	begin, err := io.ReadAll(io.LimitReader(answer.Body, maxReplay))
	if err != nil {
		_ = answer.Body.Close() // is broken
		return fmt.Errorf("read the leader's answer: %w", err)
	}
	rest := answer.Body
	if len(begin) < maxReplay {
		_ = rest.Close() // has been read
		rest = http.NoBody
	}
	answer.Body = &settled{io.MultiReader(bytes.NewReader(begin), rest), rest, begin}
	return nil
}

// settled is the body of an answer that settle has read.
type settled struct {
	io.Reader
	io.Closer
	begin []byte // up to maxReplay of it
}

// final tells whether a refusal would come from every other leader too.
func final(answer *http.Response) bool {
	whole, ok := answer.Body.(*settled)
	var status metav1.Status
	return ok && json.Unmarshal(whole.begin, &status) == nil && status.Details != nil &&
		slices.ContainsFunc(status.Details.Causes, func(c metav1.StatusCause) bool { return c.Type == core.CauseLogRefused })
}

func settles(r *http.Request, answer *http.Response) bool {
	changes := r.Method != http.MethodGet && r.Method != http.MethodHead
	return answer.StatusCode != http.StatusSwitchingProtocols && (changes || answer.ContentLength >= 0 && answer.ContentLength <= maxReplay)
}

// repeatable tells whether a request that failed can be sent again.
func repeatable(r *http.Request, sent bool) bool {
	if !sent {
		return replayable(r)
	}
	return r.Method == http.MethodGet || r.Method == http.MethodHead
}

func replayable(r *http.Request) bool {
	return r.Body == nil || r.Body == http.NoBody || r.GetBody != nil || r.ContentLength == 0
}

// unsure marks the error of a request that may have been carried out.
func unsure(r *http.Request, sent bool, err error) error {
	if !sent || r.Method == http.MethodGet || r.Method == http.MethodHead {
		return err
	}
	return fmt.Errorf("%w: %w", errUnsure, err)
}

// following is a body that ends when its leader leads no longer.
type following struct {
	io.ReadCloser
	watch bool
	done  func()
}

// Read has a watch end in order whatever ended it: a watch may end at any time,
// and its client begins another where it stands. Of what is whole only when it
// has been read to its end, such as a list, an error must be one.
func (f *following) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if err != nil && f.watch {
		err = io.EOF
	}
	return n, err
}

func (f *following) Close() error {
	defer f.done()
	return f.ReadCloser.Close()
}

// fail answers a request that got no answer.
func (p *Proxy) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return
	}
	p.config.Log.Debug("request was not forwarded", "method", r.Method, "path", r.URL.Path, "err", err)
	if errors.Is(err, errUnsure) {
		writeStatus(w, apierrors.NewTimeoutError(errUnsure.Error(), 0)) // client-go must not repeat it
		return
	}
	p.refuse(w)
}

// refuse says that nothing was done, and when to come again.
func (p *Proxy) refuse(w http.ResponseWriter) {
	status := failure(http.StatusServiceUnavailable, "ServiceUnavailable", "this core stands by, and no other one leads now: try again")
	status.ErrStatus.Details.RetryAfterSeconds = 1
	writeStatus(w, status)
}
