// Package place reads and writes backups where they are kept: in files, pipes
// and object stores. It must not know what a backup is: its caller checks it.
package place

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/weftrun/weft/bus/nats"
)

// Usage says what a place may be, for help texts.
const Usage = `a file, - for a pipe, or nats://HOST[:PORT]/BUCKET/NAME for an object
in the object store of a NATS server (tls:// where it asks for TLS;
USER:PASSWORD@ or TOKEN@ before the host, or --nats-credentials)`

// Access is what an object store asks for.
type Access struct {
	Credentials string // file, as nsc writes them; optional
	CA          string // file of authorities in PEM; optional
}

// Add adds flags that set a.
func (a *Access) Add(flags *pflag.FlagSet) {
	flags.StringVar(&a.Credentials, "nats-credentials", "", "file with the credentials for the object store of nats://")
	flags.StringVar(&a.CA, "nats-ca", "", "file with the certificate authorities of tls:// (default: the system's)")
}

func (a *Access) object(ctx context.Context, url string) (*nats.Object, error) {
	return nats.OpenObject(ctx, nats.ObjectConfig{URL: url, CredsFile: a.Credentials, CAFile: a.CA})
}

// Shown is a place as it may be printed: without the password or the token in
// it, and not longer than a line.
func Shown(path string) string {
	if nats.IsObjectURL(path) {
		u, err := url.Parse(path)
		if err != nil {
			scheme, _, _ := strings.Cut(path, "://")
			return scheme + "://..." // who knows what part of it is the password
		}
		u.User = nil
		path = u.String()
	}
	if len(path) > shownMax {
		return path[:shownMax] + "..."
	}
	return path
}

const shownMax = 200

// Check tells why path is no place, before anything is done for it. It asks
// nobody.
func Check(path string) error {
	scheme, _, isURL := strings.Cut(path, "://")
	switch {
	case path == "":
		return errors.New("where it is kept is required: a file, -, or nats://HOST[:PORT]/BUCKET/NAME")
	case isURL && !nats.IsObjectURL(path):
		return fmt.Errorf("%.20s:// is not known, nats:// and tls:// are; for others use - and a pipe", scheme)
	case isURL:
		return (&nats.ObjectConfig{URL: path}).Validate()
	}
	return nil
}

// Open returns what is kept at path, from its begin; of "-" that is in. The
// caller closes it.
func Open(ctx context.Context, path string, in io.Reader, a Access) (io.ReadCloser, error) {
	if err := Check(path); err != nil {
		return nil, err
	}
	switch {
	case path == "-":
		return io.NopCloser(in), nil
	case !nats.IsObjectURL(path):
		return os.Open(path)
	}
	object, err := a.object(ctx, path)
	if err != nil {
		return nil, err
	}
	content, err := object.Get(ctx)
	if err != nil {
		object.Close()
		return nil, err
	}
	return &opened{content, object}, nil
}

// opened closes the connection with the content.
type opened struct {
	io.ReadCloser
	object *nats.Object
}

func (o *opened) Close() error {
	defer o.object.Close()
	return o.ReadCloser.Close()
}

// Seekable returns what is kept at path, so that it can be read several times.
// What is no file is copied to a temporary one, which done removes.
func Seekable(ctx context.Context, path string, in io.Reader, a Access) (content io.ReadSeeker, done func(), err error) {
	from, err := Open(ctx, path, in, a)
	if err != nil {
		return nil, nil, err
	}
	if file, ok := from.(*os.File); ok {
		return file, func() { _ = file.Close() }, nil // only read
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	file, err := os.CreateTemp("", "weft-backup-*")
	if err != nil {
		return nil, nil, err
	}
	done = func() { _, _ = file.Close(), os.Remove(file.Name()) }
	if _, err = io.Copy(file, from); err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	return file, done, nil
}

// Keep keeps content at path once whole, which reads it, says that it is;
// it is called twice for what is stored elsewhere: while it is sent, and when it
// is read back. What was there before is replaced by what is whole, or stays.
func Keep(ctx context.Context, path string, content io.Reader, whole func(io.Reader) error, a Access) error {
	if err := Check(path); err != nil {
		return err
	}
	if !nats.IsObjectURL(path) {
		return keepFile(path, content, whole)
	}
	object, err := a.object(ctx, path)
	if err != nil {
		return err
	}
	defer object.Close()
	sending := checked(content, whole)
	err = object.Put(ctx, sending)
	sending.Close()
	if err != nil {
		return err
	}
	stored, err := object.Get(ctx)
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if err := errors.Join(whole(stored), stored.Close()); err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	return nil
}

// checking gives what content gives, and ends with an error unless whole, which
// reads it at the same time, has none.
type checking struct {
	content io.Reader
	to      *io.PipeWriter
	done    chan struct{} // closed when whole has ended
	result  error         // of whole; valid then
	err     error         // the end
}

// checked returns one; it is to be closed.
func checked(content io.Reader, whole func(io.Reader) error) *checking {
	from, to := io.Pipe()
	c := &checking{content: content, to: to, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.result = whole(from)
		_ = from.CloseWithError(c.result) // what is still sent has nobody to read it
	}()
	return c
}

func (c *checking) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.content.Read(p)
	if n > 0 {
		if _, refused := c.to.Write(p[:n]); refused != nil {
			err = refused
		}
	}
	if err == nil {
		return n, nil
	}
	// The check ends for want of more, and is waited for.
	_ = c.to.CloseWithError(err) // the end, or why there is no more
	<-c.done
	if c.result != nil {
		err = c.result
	}
	c.err = err
	if !errors.Is(err, io.EOF) {
		n = 0
	}
	return n, err
}

// Close ends the check, if nobody has read to the end.
func (c *checking) Close() {
	_ = c.to.CloseWithError(io.ErrUnexpectedEOF) // has no effect after the end
	<-c.done
}

// keepFile keeps a file under path once it was read back and is whole.
func keepFile(path string, content io.Reader, whole func(io.Reader) error) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		if named, ok := errors.AsType[*os.PathError](err); ok {
			named.Path = path // who reads it knows of no other
		}
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	_, err = io.Copy(file, content)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	back, err := os.Open(file.Name())
	if err != nil {
		return err
	}
	if err = errors.Join(whole(back), back.Close()); err != nil {
		return err
	}
	if err = os.Rename(file.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
