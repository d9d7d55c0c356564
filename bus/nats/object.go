package nats

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/weftrun/weft/bus"
)

// objectTime bounds one transfer to or from an object store.
const objectTime = 6 * time.Hour

// ObjectConfig says where an object lies, in the object store of any NATS
// server: it need not be the cluster's, and for a backup should not be.
type ObjectConfig struct {
	// URL is nats://HOST[:PORT]/BUCKET/NAME, or tls:// where the server asks
	// for TLS; a user and password or a token may stand before the host. The
	// port is 4222. BUCKET has letters, digits, - and _, up to 128, and NAME up
	// to 512 bytes, which may be slashes. Required.
	URL string
	// CredsFile is a file of credentials as nsc writes them. Optional.
	CredsFile string
	// CAFile is a file with the authorities that the server's certificate is
	// checked by, in PEM. Optional: those of the system.
	CAFile string
	// Timeout is for connecting, and for each request but transfers; 5s.
	Timeout time.Duration
}

// IsObjectURL tells whether text names an object, by its scheme.
func IsObjectURL(text string) bool {
	scheme, _, ok := strings.Cut(text, "://")
	return ok && (strings.EqualFold(scheme, "nats") || strings.EqualFold(scheme, "tls"))
}

// objectNameMax bounds an object's name, in bytes: it is a part of a subject.
const objectNameMax = 512

var bucketName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,128}$`)

// Validate tells what is wrong with the URL.
func (c *ObjectConfig) Validate() error {
	_, _, _, err := c.parse()
	return err
}

// parse returns the server's URL, the bucket and the object's name. Of what is
// wrong as a whole nothing is shown: it may hold a password.
func (c *ObjectConfig) parse() (server, bucket, name string, err error) {
	u, err := url.Parse(c.URL)
	if err != nil || !IsObjectURL(c.URL) || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return "", "", "", errors.New("nats://HOST[:PORT]/BUCKET/NAME is expected, or tls:// in place of nats://")
	}
	bucket, name, _ = strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	switch {
	case !bucketName.MatchString(bucket) || u.RawPath != "":
		return "", "", "", fmt.Errorf("bucket %.130q: up to 128 letters, digits, - and _ are expected after the host, and the name after a slash", bucket)
	case name == "" || len(name) > objectNameMax:
		return "", "", "", fmt.Errorf("the name of the object, after the bucket, has %d bytes: 1 to %d are permitted", len(name), objectNameMax)
	case strings.ContainsFunc(name, unicode.IsControl):
		return "", "", "", fmt.Errorf("name %q: control characters are not permitted", name)
	}
	at := url.URL{Scheme: u.Scheme, User: u.User, Host: u.Host}
	return at.String(), bucket, name, nil
}

// Object is one object in an object store. It may be used by one goroutine at a
// time.
type Object struct {
	conn   *natsgo.Conn
	bucket jetstream.ObjectStore
	name   string
	lost   chan struct{} // closed when the connection has ended
}

// objectPing is the interval of the questions whether the server is still there;
// the second one without an answer ends the connection.
const objectPing = 10 * time.Second

var errLost = fmt.Errorf("the connection to the server was lost: %w", bus.ErrUnavailable)

// OpenObject connects to the server and finds the bucket; the object need not be
// there. The caller closes it.
func OpenObject(ctx context.Context, c ObjectConfig) (*Object, error) {
	server, bucket, name, err := c.parse()
	if err != nil {
		return nil, err
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	o := &Object{name: name, lost: make(chan struct{})}
	options := []natsgo.Option{
		natsgo.Name("weft backup"), natsgo.Timeout(c.Timeout),
		// A transfer cannot go on over another connection.
		natsgo.NoReconnect(), natsgo.PingInterval(objectPing), natsgo.MaxPingsOutstanding(1),
		natsgo.ClosedHandler(func(*natsgo.Conn) { close(o.lost) }),
	}
	if c.CredsFile != "" {
		options = append(options, natsgo.UserCredentials(c.CredsFile))
	}
	if c.CAFile != "" {
		options = append(options, natsgo.RootCAs(c.CAFile))
	}
	o.conn, err = natsgo.Connect(server, options...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", translate(err))
	}
	js, err := jetstream.New(o.conn, jetstream.WithPublishAsyncTimeout(blobWait))
	if err == nil {
		asking, cancel := bounded(ctx, c.Timeout)
		defer cancel()
		o.bucket, err = js.ObjectStore(asking, bucket)
	}
	if err != nil {
		o.conn.Close()
		return nil, explainBucket(bucket, err)
	}
	return o, nil
}

// explainBucket says what to do about a bucket that cannot be opened.
func explainBucket(bucket string, err error) error {
	switch {
	case errors.Is(err, jetstream.ErrBucketNotFound):
		return fmt.Errorf("the server has no object store %s: make it first, with \"nats object add %s\" for example: %w", bucket, bucket, bus.ErrNotFound)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount), errors.Is(err, natsgo.ErrNoResponders):
		return fmt.Errorf("the server has no JetStream for this user, and so no object store %s: %w", bucket, bus.ErrRefused)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("object store %s: no answer; perhaps the user may not ask for it (permission to publish to $JS.API.STREAM.INFO.OBJ_%s): %w", bucket, bucket, bus.ErrUnavailable)
	}
	return fmt.Errorf("object store %s: %w", bucket, translate(err))
}

// Close closes the connection.
func (o *Object) Close() { o.conn.Close() }

// transfer is a context of at most objectTime that ends with the connection too.
func (o *Object) transfer(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := bounded(ctx, objectTime)
	ctx, lose := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-o.lost:
			lose(errLost)
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		lose(nil)
		cancel()
	}
}

// lostOr is what a transfer failed with: that the connection was lost, or err.
func lostOr(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errLost) {
		return cause
	}
	return translate(err)
}

// Put stores what r gives, in the place of an object of that name. When r or the
// transfer fails, or the process is killed, that one stays as it was.
func (o *Object) Put(ctx context.Context, r io.Reader) error {
	ctx, cancel := o.transfer(ctx)
	defer cancel()
	content := &remembering{r: r}
	_, err := o.bucket.Put(ctx, jetstream.ObjectMeta{
		Name: o.name, Description: "weft backup", Opts: &jetstream.ObjectMetaOptions{ChunkSize: blobChunk},
	}, content)
	switch {
	case content.err != nil: // the bucket has removed what it had
		return content.err
	case err != nil:
		return fmt.Errorf("store object %s: %w", o.name, lostOr(ctx, err))
	}
	return nil
}

// remembering keeps the error that its reader ended with, if it was one.
type remembering struct {
	r   io.Reader
	err error
}

func (r *remembering) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

// Get returns the object's content, which ends with io.EOF only if it is whole
// and has its digest. The caller closes it.
func (o *Object) Get(ctx context.Context) (io.ReadCloser, error) {
	ctx, cancel := o.transfer(ctx)
	r, err := openBlob(ctx, o.bucket, o.name, "object "+o.name)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("read object %s: %w", o.name, err)
	}
	r.cancel = cancel
	return r, nil
}
