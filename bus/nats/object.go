package nats

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

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
	// port is 4222, and NAME may contain slashes. Required.
	URL string
	// CredsFile is a file of credentials as nsc writes them. Optional.
	CredsFile string
	// CAFile is a file with the authorities that the server's certificate is
	// checked by, in PEM. Optional: those of the system.
	CAFile string
	// Timeout is for connecting, and for each request but transfers; 5s.
	Timeout time.Duration
}

// IsObjectURL tells whether text names an object and not a file.
func IsObjectURL(text string) bool {
	return strings.HasPrefix(text, "nats://") || strings.HasPrefix(text, "tls://")
}

// parse returns the server's URL, the bucket and the object's name.
func (c *ObjectConfig) parse() (server, bucket, name string, err error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return "", "", "", fmt.Errorf("it is no URL; nats://HOST[:PORT]/BUCKET/NAME is expected: %w", bus.ErrRefused) // of which nothing is shown: it may hold a password
	}
	bucket, name, _ = strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	if (u.Scheme != "nats" && u.Scheme != "tls") || u.Host == "" || bucket == "" || name == "" || u.RawQuery != "" || u.Fragment != "" {
		u.User = nil
		return "", "", "", fmt.Errorf("%s: nats://HOST[:PORT]/BUCKET/NAME is expected: %w", u, bus.ErrRefused)
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
}

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
	options := []natsgo.Option{natsgo.Name("weft backup"), natsgo.Timeout(c.Timeout)}
	if c.CredsFile != "" {
		options = append(options, natsgo.UserCredentials(c.CredsFile))
	}
	if c.CAFile != "" {
		options = append(options, natsgo.RootCAs(c.CAFile))
	}
	conn, err := natsgo.Connect(server, options...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", translate(err))
	}
	o := &Object{conn: conn, name: name}
	js, err := jetstream.New(conn)
	if err == nil {
		asking, cancel := bounded(ctx, c.Timeout)
		defer cancel()
		o.bucket, err = js.ObjectStore(asking, bucket)
	}
	if err != nil {
		conn.Close()
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

// Put stores what r gives, in the place of an object of that name. When r or the
// transfer fails, or the process is killed, that one stays as it was.
func (o *Object) Put(ctx context.Context, r io.Reader) error {
	ctx, cancel := bounded(ctx, objectTime)
	defer cancel()
	content := &remembering{r: r}
	_, err := o.bucket.Put(ctx, jetstream.ObjectMeta{
		Name: o.name, Description: "weft backup", Opts: &jetstream.ObjectMetaOptions{ChunkSize: blobChunk},
	}, content)
	switch {
	case content.err != nil: // the bucket has removed what it had
		return content.err
	case err != nil:
		return fmt.Errorf("store object %s: %w", o.name, translate(err))
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
	ctx, cancel := bounded(ctx, objectTime)
	object, err := o.bucket.Get(ctx, o.name)
	if err == nil {
		var info *jetstream.ObjectInfo
		if info, err = object.Info(); err == nil {
			return &blobReader{object: object, name: o.name, cancel: cancel, left: int64(info.Size)}, nil
		}
	}
	cancel()
	return nil, fmt.Errorf("read object %s: %w", o.name, translate(err))
}
