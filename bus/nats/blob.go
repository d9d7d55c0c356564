package nats

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/weftrun/weft/bus"
)

const (
	blobBucket = "BLOBS"
	blobChunk  = 512 << 10        // bytes; each chunk costs one fsync
	blobTime   = 10 * time.Minute // for one transfer whose context has no deadline
	blobWait   = 30 * time.Second // for one chunk to be acknowledged: its server may be gone
)

// errNoBlobs says that no blob was ever put.
var errNoBlobs = fmt.Errorf("there are no blobs: %w", bus.ErrNotFound)

// blobs opens the bucket. Where there is none it is created, or errNoBlobs returned:
// on a full disk what only reads must work.
func (c *Conn) blobs(ctx context.Context, create bool) (jetstream.ObjectStore, error) {
	if err := c.coreOnly(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.store != nil {
		return c.store, nil
	}
	ctx, cancel := bounded(ctx, c.config.Timeout)
	defer cancel()
	store, err := c.js.ObjectStore(ctx, blobBucket)
	switch {
	case err == nil:
		_, err = c.replicate(ctx, "OBJ_"+blobBucket)
	case errors.Is(err, jetstream.ErrBucketNotFound) && !create:
		return nil, errNoBlobs
	case errors.Is(err, jetstream.ErrBucketNotFound):
		store, err = c.js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{
			Bucket:      blobBucket,
			Description: "Weft: modules and other large content.",
			Storage:     jetstream.FileStorage,
			Replicas:    c.config.Replicas,
		})
	}
	if err != nil {
		return nil, translate(err)
	}
	c.store = store
	return store, nil
}

// PutBlob implements bus.Blobs.
func (c *Conn) PutBlob(ctx context.Context, name string, limit int64, r io.Reader) (bus.BlobInfo, error) {
	fail := func(err error) (bus.BlobInfo, error) {
		return bus.BlobInfo{}, fmt.Errorf("put blob %s: %w", name, err)
	}
	if name == "" {
		return fail(fmt.Errorf("a name is required: %w", bus.ErrRefused))
	}
	store, err := c.blobs(ctx, true)
	if err != nil {
		return fail(err)
	}
	if c.config.Taking != nil {
		if _, err := c.config.Taking(); err != nil {
			return fail(err)
		}
	}
	ctx, cancel := bounded(ctx, blobTime)
	defer cancel()
	content := &limited{r: r, left: limit, limit: limit}
	info, err := store.Put(ctx, jetstream.ObjectMeta{Name: name, Opts: &jetstream.ObjectMetaOptions{ChunkSize: blobChunk}}, content)
	switch {
	case content.err != nil: // the store has removed what it had
		return fail(content.err)
	case err != nil:
		return fail(translate(err))
	}
	return blobInfo(info), nil
}

// limited fails, where io.LimitReader ends, when there is more than the limit.
type limited struct {
	r           io.Reader
	left, limit int64
	err         error
}

func (l *limited) Read(p []byte) (int, error) {
	if l.err != nil {
		return 0, l.err
	}
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		l.err = fmt.Errorf("more than %d bytes: %w", l.limit, bus.ErrRefused)
		return 0, l.err
	}
	if err != nil && !errors.Is(err, io.EOF) {
		l.err = fmt.Errorf("read content: %w", err)
		return 0, l.err
	}
	return n, err
}

func blobInfo(info *jetstream.ObjectInfo) bus.BlobInfo {
	return bus.BlobInfo{Name: info.Name, Size: int64(info.Size), Modified: info.ModTime}
}

// GetBlob implements bus.Blobs.
func (c *Conn) GetBlob(ctx context.Context, name string) (bus.BlobInfo, io.ReadCloser, error) {
	store, err := c.blobs(ctx, false)
	if err != nil {
		return bus.BlobInfo{}, nil, fmt.Errorf("get blob %s: %w", name, err)
	}
	ctx, cancel := bounded(ctx, blobTime)
	r, err := openBlob(ctx, store, name, "blob "+name)
	if err != nil {
		cancel()
		return bus.BlobInfo{}, nil, fmt.Errorf("get blob %s: %w", name, err)
	}
	r.cancel = cancel
	return blobInfo(r.info), r, nil
}

// openBlob begins to read an object of the store. The caller sets cancel.
func openBlob(ctx context.Context, store jetstream.ObjectStore, name, what string) (*blobReader, error) {
	object, err := store.Get(beating{ctx}, name)
	if err != nil {
		return nil, lostOr(ctx, err)
	}
	info, err := object.Info()
	if err != nil {
		return nil, lostOr(ctx, err)
	}
	return &blobReader{ctx: ctx, object: object, info: info, what: what, left: int64(info.Size)}, nil
}

// beating is a context whose deadline is always near, though it ends when the one
// within ends. An object's reader that waits for bytes looks at the deadline
// alone: it would not hear before it that its context, or its connection, ended.
type beating struct{ context.Context }

const beat = 100 * time.Millisecond

func (beating) Deadline() (time.Time, bool) { return time.Now().Add(beat), true }

// blobReader passes on io.EOF only after the digest was checked and the size
// is right.
type blobReader struct {
	ctx    context.Context // the transfer's, which ends what waits
	object jetstream.ObjectResult
	info   *jetstream.ObjectInfo
	what   string // for errors
	cancel context.CancelFunc
	left   int64
}

func (b *blobReader) Read(p []byte) (int, error) {
	n, err := b.object.Read(p)
	for n == 0 && len(p) > 0 && (err == nil || errors.Is(err, os.ErrDeadlineExceeded)) { // a beat
		n, err = b.object.Read(p)
	}
	b.left -= int64(n)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF) && b.left == 0:
		if err := b.object.Error(); err != nil {
			return n, fmt.Errorf("read %s: %w", b.what, lostOr(b.ctx, err))
		}
		return n, io.EOF
	case errors.Is(err, io.EOF):
		err = fmt.Errorf("%d bytes are missing: %w", b.left, bus.ErrUnavailable)
	}
	return n, fmt.Errorf("read %s: %w", b.what, lostOr(b.ctx, err))
}

func (b *blobReader) Close() error {
	b.cancel()
	return b.object.Close()
}

// DeleteBlob implements bus.Blobs.
func (c *Conn) DeleteBlob(ctx context.Context, name string) error {
	store, err := c.blobs(ctx, false)
	if err == nil {
		ctx, cancel := bounded(ctx, c.config.Timeout)
		defer cancel()
		// The store deletes what is deleted without a word.
		if _, err = store.GetInfo(ctx, name); err == nil {
			err = store.Delete(ctx, name)
		}
		err = translate(err)
	}
	if err != nil {
		return fmt.Errorf("delete blob %s: %w", name, err)
	}
	return nil
}

// ListBlobs implements bus.Blobs.
func (c *Conn) ListBlobs(ctx context.Context) ([]bus.BlobInfo, error) {
	store, err := c.blobs(ctx, false)
	switch {
	case errors.Is(err, errNoBlobs):
		return []bus.BlobInfo{}, nil
	case err != nil:
		return nil, fmt.Errorf("list blobs: %w", err)
	}
	ctx, cancel := bounded(ctx, c.config.Timeout)
	defer cancel()
	objects, err := store.List(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoObjectsFound) {
		return nil, fmt.Errorf("list blobs: %w", translate(err))
	}
	infos := make([]bus.BlobInfo, 0, len(objects))
	for _, o := range objects {
		infos = append(infos, blobInfo(o))
	}
	slices.SortFunc(infos, func(a, b bus.BlobInfo) int { return cmp.Compare(a.Name, b.Name) })
	return infos, nil
}
