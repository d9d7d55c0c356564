// Package image finds the modules that image references name, and keeps those
// that came from the cluster in a folder by digest. It must not compile or run
// them, and knows no registry.
package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/weftrun/weft/wasm/module"
)

// DefaultMaxBytes bounds a module's size.
const DefaultMaxBytes = 256 << 20

// Policy is a Kubernetes image pull policy.
type Policy string

// The policies. Content with a digest never changes, and a file is always read
// anew if it changed, so Always and IfNotPresent do the same here.
const (
	Always       Policy = "Always"
	IfNotPresent Policy = "IfNotPresent"
	Never        Policy = "Never"
)

// Config configures a Store. The zero value of an optional field means its
// default.
type Config struct {
	// Folders are searched in order for file:NAME. Optional, none.
	Folders []string
	// ForbidAbsolute refuses file:///PATH. Optional, allowed.
	ForbidAbsolute bool
	// CacheDir keeps what came from the cluster. Required with Blob.
	CacheDir string
	// Blob fetches the content with that digest ("sha256:<hex>"). The Store
	// verifies it and closes the reader. Optional: without it, only what lies
	// in CacheDir already can be had.
	Blob func(ctx context.Context, digest string) (io.ReadCloser, error)
	// MaxBytes bounds one module. Optional, 256 MiB.
	MaxBytes int64
}

// Image is a module on this machine.
type Image struct {
	Digest string // sha256:<hex>
	Path   string
	Size   int64
}

// Store resolves references. Its methods may be called concurrently.
type Store struct {
	config Config
	flight singleflight.Group
	tidied sync.Once

	mu     sync.Mutex
	hashes map[string]hashed // by path
}

// hashed is what a file was when it was read. Any difference means that it has
// to be read again.
type hashed struct {
	image Image
	stat  fs.FileInfo
}

// New returns a Store.
func New(c Config) (*Store, error) {
	if c.Blob != nil && c.CacheDir == "" {
		return nil, errors.New("image: CacheDir is required with Blob")
	}
	if c.MaxBytes < 0 {
		return nil, errors.New("image: MaxBytes must not be negative")
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = DefaultMaxBytes
	}
	return &Store{config: c, hashes: map[string]hashed{}}, nil
}

// Resolve returns the module that a reference names, and fetches it if it must
// and the policy allows. All errors but ctx's are of type *Error.
func (s *Store) Resolve(ctx context.Context, ref string, p Policy) (Image, error) {
	r, err := Parse(ref)
	if err != nil {
		return Image{}, err
	}
	switch r.Source {
	case Cluster:
		return s.cluster(ctx, ref, r, p)
	case Absolute:
		if s.config.ForbidAbsolute {
			return Image{}, badName("image %q: this node's settings forbid files by absolute path", ref)
		}
		return s.file(ctx, ref, r.Path, p)
	}
	for _, folder := range s.config.Folders {
		path := filepath.Join(folder, r.Path)
		if _, err := os.Stat(path); err == nil {
			return s.file(ctx, ref, path, p)
		}
	}
	return Image{}, absent(p, ref, fmt.Sprintf("there is no file %s in the node's module folders (%s)", r.Path, strings.Join(s.config.Folders, ", ")))
}

func absent(p Policy, ref, message string) *Error {
	if p == Never {
		return &Error{Reason: ErrImageNeverPull, Message: fmt.Sprintf("image %q is not present with pull policy of Never: %s", ref, message)}
	}
	return &Error{Reason: ErrImagePull, Message: fmt.Sprintf("image %q: %s", ref, message)}
}

func (s *Store) file(ctx context.Context, ref, path string, p Policy) (Image, error) {
	i, err := s.hash(ctx, path)
	switch {
	case err == nil:
		return i, nil
	case ctx.Err() != nil:
		return Image{}, ctx.Err()
	case errors.Is(err, fs.ErrNotExist):
		return Image{}, absent(p, ref, "there is no file "+path)
	}
	return Image{}, pullError(err, "image %q", ref)
}

// settled is how old a change must be for its time to tell it from the next: a
// file system's clock is coarse.
const settled = 100 * time.Millisecond

// hash inspects and hashes a file, unless it is as it was the last time.
func (s *Store) hash(ctx context.Context, path string) (Image, error) {
	stat, err := os.Stat(path)
	if err != nil {
		return Image{}, err
	}
	s.mu.Lock()
	h, ok := s.hashes[path]
	s.mu.Unlock()
	if ok && os.SameFile(h.stat, stat) && h.stat.Size() == stat.Size() && h.stat.ModTime().Equal(stat.ModTime()) {
		return h.image, nil
	}
	result := s.flight.DoChan("file "+path, func() (any, error) { return s.read(path) })
	select {
	case r := <-result:
		if r.Err != nil {
			return Image{}, r.Err
		}
		return r.Val.(Image), nil
	case <-ctx.Done():
		return Image{}, ctx.Err()
	}
}

func (s *Store) read(path string) (Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return Image{}, err
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return Image{}, err
	}
	if !stat.Mode().IsRegular() {
		return Image{}, errors.New("it is a folder or a device, not a file")
	}
	if stat.Size() > s.config.MaxBytes {
		return Image{}, s.tooLarge(stat.Size())
	}
	if _, err := module.Inspect(f, stat.Size()); err != nil {
		return Image{}, err
	}
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(f, s.config.MaxBytes+1))
	if err != nil {
		return Image{}, err
	}
	i := Image{Digest: "sha256:" + hex.EncodeToString(sum.Sum(nil)), Path: path, Size: n}
	if n == stat.Size() && time.Since(stat.ModTime()) > settled {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.hashes[path] = hashed{image: i, stat: stat}
	}
	return i, nil
}

func (s *Store) tooLarge(size int64) error {
	return fmt.Errorf("it has %d bytes; at most %d are allowed", size, s.config.MaxBytes)
}

// List returns what came from the cluster and lies here, by digest.
func (s *Store) List(context.Context) ([]Image, error) {
	if s.config.CacheDir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(s.config.CacheDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var images []Image
	for _, e := range entries {
		digest := "sha256:" + strings.TrimSuffix(e.Name(), suffix)
		info, err := e.Info()
		if err != nil || !digestPattern.MatchString(digest) {
			continue
		}
		images = append(images, Image{Digest: digest, Path: filepath.Join(s.config.CacheDir, e.Name()), Size: info.Size()})
	}
	slices.SortFunc(images, func(a, b Image) int { return strings.Compare(a.Digest, b.Digest) })
	return images, nil
}

// Remove removes what came from the cluster with that digest. What runs of it
// runs on. It is no error if there is none.
func (s *Store) Remove(_ context.Context, digest string) error {
	if !digestPattern.MatchString(digest) {
		return badName("digest %q must be sha256: and 64 hexadecimal digits", digest)
	}
	path := s.path(digest)
	s.mu.Lock()
	delete(s.hashes, path)
	s.mu.Unlock()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove image: %w", err)
	}
	return nil
}
