package apiserver

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/apiserver/openapi"
)

// Authenticator says who sends a request. An error refuses it with 401.
type Authenticator interface {
	Authenticate(r *http.Request) (core.User, error)
}

// Authorizer judges what a user asks to do: one of resource and path is set.
// An error refuses it, with its own text as the reason; it is a Forbidden of
// apierrors.
type Authorizer interface {
	Authorize(user core.User, resource *authorizationv1.ResourceAttributes, path *authorizationv1.NonResourceAttributes) error
}

// PodLogs reads the logs of containers.
type PodLogs interface {
	// Logs writes a container's log to w, and returns when it ends or ctx does.
	Logs(ctx context.Context, pod *corev1.Pod, q core.LogQuery, w io.Writer) error
}

// Blobs keeps modules by digest ("sha256:<hex>"). A bus.Bus is one.
type Blobs interface {
	PutBlob(ctx context.Context, name string, limit int64, r io.Reader) (bus.BlobInfo, error)
	GetBlob(ctx context.Context, name string) (bus.BlobInfo, io.ReadCloser, error)
	ListBlobs(ctx context.Context) ([]bus.BlobInfo, error)
}

// Planner says what the controllers would do if objects were applied, and
// changes nothing. The report is answered as JSON.
type Planner interface {
	Plan(ctx context.Context, objects []core.Object) (report any, err error)
}

// Scaler reads the scale subresource of the object at key. A
// registry.Registry is one.
type Scaler interface {
	Scale(key core.Key) (*autoscalingv1.Scale, error)
}

// Converter returns a stored object in another served version of its kind and
// does not change it. A registry.Registry is one.
type Converter interface {
	Convert(object core.Object, version string) (core.Object, error)
}

// Config configures a Server. The zero value of an optional field means its
// default.
type Config struct {
	Client       core.Client   // required
	Authenticate Authenticator // required
	Authorize    Authorizer    // required
	TLS          *tls.Config   // required by Serve; with the server's certificate and the pool of client CAs
	Log          *slog.Logger  // optional, discards

	Logs  PodLogs // optional: without it logs are answered 503
	Blobs Blobs   // optional: without it blobs are answered 404
	Plan  Planner // optional: without it plans are answered 404
	// Checks are what a verbose health answer tells; optional.
	Checks func() []Check
	// Backup writes a backup of the cluster, encrypted with 32 bytes of key;
	// optional: without it backups are answered 404.
	Backup  func(ctx context.Context, w io.Writer, key []byte, modules bool) error
	Scale   Scaler  // optional: without it scale cannot be read
	Metrics Metrics // optional: without it metrics.k8s.io is not served
	// Counts answers /metrics; optional: without it that is answered 404.
	Counts  http.Handler
	Convert Converter // optional: without it only the storage version of built-in kinds can be read
	// Ready returns why the server should not get requests now; optional.
	Ready func() error

	Version     string // optional, "v1.36.6+weft": what /version tells
	MaxBody     int64  // optional, 3 MiB: bytes of a request's body
	MaxBlob     int64  // optional, 256 MiB: bytes of an uploaded blob
	MaxInflight int    // optional, 400: requests at once, watches and log followers not counted
	MaxWatches  int    // optional, 20,000: watches and log followers at once
	CacheBytes  int    // optional, 48 MiB: encoded objects kept for lists and watches
	SpoolDir    string // optional, the system's temporary folder: where uploads are checked before they are kept
}

// Server serves the API. Its methods may be called concurrently.
type Server struct {
	Config
	inflight chan struct{} // as many slots as MaxInflight
	watches  *longRunning
	encoded  *encodings
	pages    *pages
	docs     *openapi.Documents
	catalog  atomic.Pointer[catalog]
}

// New checks c and returns a Server that serves nothing yet.
func New(c Config) (*Server, error) {
	switch {
	case c.Client == nil:
		return nil, errors.New("configure API server: Client is required")
	case c.Authenticate == nil || c.Authorize == nil:
		return nil, errors.New("configure API server: Authenticate and Authorize are required")
	case c.MaxBody < 0 || c.MaxBlob < 0 || c.MaxInflight < 0 || c.MaxWatches < 0 || c.CacheBytes < 0:
		return nil, errors.New("configure API server: limits must not be negative")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	setDefault(&c.Version, "v1.36.6+weft")
	setDefault(&c.MaxBody, 3<<20)
	setDefault(&c.MaxBlob, 256<<20)
	setDefault(&c.MaxInflight, 400)
	setDefault(&c.MaxWatches, 20000)
	setDefault(&c.CacheBytes, 48<<20)
	setDefault(&c.SpoolDir, os.TempDir())
	return &Server{
		Config:   c,
		inflight: make(chan struct{}, c.MaxInflight),
		watches:  newLongRunning(c.MaxWatches),
		encoded:  newEncodings(c.CacheBytes),
		pages:    &pages{},
		docs:     openapi.New(c.Client, c.Version),
	}, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Serve answers requests on l over TLS until ctx ends, then ends watches and
// lets other requests finish for up to 5 s. It closes l. It may be called once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	front, err := NewFront(s.TLS, s.Log)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	front.Answer(s.Handler())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { s.Run(ctx); return nil })
	group.Go(func() error { return front.Serve(ctx, l) })
	return group.Wait()
}

// Run forgets what is too old of what was encoded, until ctx ends; then it
// ends watches. Serve does so itself; whoever puts Handler behind a [Front] of
// their own calls it.
func (s *Server) Run(ctx context.Context) {
	tick := time.NewTicker(encodingLife)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.encoded.age()
			s.pages.age(time.Now())
		case <-ctx.Done():
			s.watches.end()
			return
		}
	}
}

// Handler returns the whole pipeline as a handler; Serve uses it.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

func (s *Server) serve(plain http.ResponseWriter, r *http.Request) {
	w := &tracked{ResponseWriter: plain}
	id := rand.Text()
	w.Header().Set("Audit-Id", id)
	w.Header().Set("Cache-Control", "no-cache, private")
	defer s.recovered(w, r, id)
	if err := s.pipeline(w, r); err != nil {
		s.fail(w, r, err)
	}
}

// tracked knows whether its answer has begun.
type tracked struct {
	http.ResponseWriter
	begun bool
}

func (t *tracked) WriteHeader(code int) {
	t.begun = true
	t.ResponseWriter.WriteHeader(code)
}

func (t *tracked) Write(p []byte) (int, error) {
	t.begun = true
	return t.ResponseWriter.Write(p)
}

// Unwrap lets a ResponseController reach the server's own writer.
func (t *tracked) Unwrap() http.ResponseWriter { return t.ResponseWriter }

func (s *Server) recovered(w *tracked, r *http.Request, id string) {
	cause := recover()
	if cause == nil {
		return
	}
	if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(cause)
	}
	s.Log.Error("request panicked", "method", r.Method, "path", r.URL.Path, "id", id, "err", fmt.Sprint(cause), "stack", string(debug.Stack()))
	if w.begun {
		panic(http.ErrAbortHandler) // a broken connection is the only way to tell
	}
	writeStatus(w, apierrors.NewInternalError(fmt.Errorf("this request caused a panic, which was logged under id %s", id)))
}

// pipeline is every request's way: limits, who, what, may they, do it.
func (s *Server) pipeline(w http.ResponseWriter, r *http.Request) error {
	if err := checkRequest(r); err != nil {
		return err
	}
	q := parsePath(r)
	ctx, done, err := s.admit(r, q)
	if err != nil {
		return err
	}
	defer done()
	user, err := s.Authenticate.Authenticate(r)
	if err != nil {
		s.Log.Debug("request refused", "path", r.URL.Path, "err", err)
		w.Header().Set("WWW-Authenticate", "Bearer")
		return apierrors.NewUnauthorized("Unauthorized")
	}
	if err := refuseImpersonation(r, user); err != nil {
		return err
	}
	q.user = user
	if err := s.Authorize.Authorize(user, q.resourceAttributes(), q.pathAttributes()); err != nil {
		return err
	}
	return s.route(w, r.WithContext(core.WithUser(ctx, user)), q)
}

// admit takes a place among the running requests until done is called, or
// refuses. The context it returns ends a long-running request with the server,
// and others in time.
func (s *Server) admit(r *http.Request, q *request) (ctx context.Context, done func(), err error) {
	if q.longRunning {
		ctx, cancel := context.WithCancel(r.Context())
		leave, ok := s.watches.enter(cancel)
		if !ok {
			cancel()
			return nil, nil, tooMany()
		}
		return ctx, func() { leave(); cancel() }, nil
	}
	select {
	case s.inflight <- struct{}{}:
	default:
		return nil, nil, tooMany()
	}
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout(r))
	return ctx, func() { cancel(); <-s.inflight }, nil
}

// route calls the handler of a request that may be answered.
func (s *Server) route(w http.ResponseWriter, r *http.Request, q *request) error {
	if !q.isResource {
		return s.servePath(w, r, q)
	}
	if done, err := s.serveVirtual(w, r, q); done {
		return err
	}
	if done, err := s.serveMetrics(w, r, q); done {
		return err
	}
	if err := s.resolve(q); err != nil {
		return err
	}
	if q.subresource != "" {
		return s.serveSubresource(w, r, q)
	}
	switch q.verb {
	case "get":
		return s.get(w, r, q)
	case "list":
		return s.list(w, r, q)
	case "watch":
		return s.watch(w, r, q)
	case "create":
		return s.create(w, r, q)
	case "update":
		return s.update(w, r, q)
	case "patch":
		return s.patch(w, r, q)
	case "delete":
		return s.delete(w, r, q)
	case "deletecollection":
		return s.deleteCollection(w, r, q)
	}
	return apierrors.NewMethodNotSupported(q.groupResource(), r.Method)
}
