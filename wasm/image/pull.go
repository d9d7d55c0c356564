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
	"strings"
	"time"

	"github.com/weftrun/weft/wasm/module"
)

const (
	suffix = ".wasm"
	// partial names what is being fetched, and staleAfter is when nobody does
	// so any more: its process was killed.
	partial    = "pull-*"
	staleAfter = time.Hour
)

// tidy removes what processes before this one left half fetched.
func (s *Store) tidy() {
	left, err := filepath.Glob(filepath.Join(s.config.CacheDir, partial))
	if err != nil {
		return // a folder whose own name is a pattern: nothing is found
	}
	for _, name := range left {
		if info, err := os.Stat(name); err == nil && time.Since(info.ModTime()) > staleAfter {
			_ = os.Remove(name) // is tried again by the next process
		}
	}
}

// path is where the content with that digest is kept.
func (s *Store) path(digest string) string {
	return filepath.Join(s.config.CacheDir, strings.TrimPrefix(digest, "sha256:")+suffix)
}

// cluster returns a blob from the cache, and fetches it first if need be.
func (s *Store) cluster(ctx context.Context, ref string, r Reference, p Policy) (Image, error) {
	if s.config.CacheDir != "" {
		i, err := s.hash(ctx, s.path(r.Digest))
		if err == nil && i.Digest == r.Digest {
			return i, nil
		}
		if ctx.Err() != nil {
			return Image{}, ctx.Err()
		}
		// What is damaged here is as good as absent.
	}
	if p == Never {
		return Image{}, absent(p, ref, "it was not fetched to this node before")
	}
	if s.config.Blob == nil {
		return Image{}, absent(p, ref, "this node has no way to the cluster's store")
	}
	// One fetches for all who ask; none who gives up ends it for the others.
	detached := context.WithoutCancel(ctx)
	result := s.flight.DoChan("blob "+r.Digest, func() (any, error) { return s.pull(detached, r.Digest) })
	select {
	case got := <-result:
		if got.Err != nil {
			return Image{}, pullError(got.Err, "image %q", ref)
		}
		return got.Val.(Image), nil
	case <-ctx.Done():
		return Image{}, ctx.Err()
	}
}

// pull fetches, verifies and keeps a blob.
func (s *Store) pull(ctx context.Context, digest string) (Image, error) {
	if err := os.MkdirAll(s.config.CacheDir, 0o755); err != nil {
		return Image{}, err
	}
	s.tidied.Do(s.tidy)
	content, err := s.config.Blob(ctx, digest)
	if err != nil {
		return Image{}, fmt.Errorf("fetch from the cluster's store: %w", err)
	}
	defer content.Close()
	f, err := os.CreateTemp(s.config.CacheDir, partial)
	if err != nil {
		return Image{}, err
	}
	size, err := s.receive(f, content, digest)
	if err == nil {
		// A name must never lead to a half of its content, not after a power
		// loss either.
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), s.path(digest))
	}
	if err != nil {
		if rm := os.Remove(f.Name()); rm != nil && !errors.Is(rm, fs.ErrNotExist) {
			err = errors.Join(err, rm)
		}
		return Image{}, err
	}
	return Image{Digest: digest, Path: s.path(digest), Size: size}, nil
}

// receive copies content to f and checks it.
func (s *Store) receive(f *os.File, content io.Reader, digest string) (int64, error) {
	sum := sha256.New()
	size, err := io.Copy(io.MultiWriter(f, sum), io.LimitReader(content, s.config.MaxBytes+1))
	if err != nil {
		return 0, fmt.Errorf("fetch from the cluster's store: %w", err)
	}
	if size > s.config.MaxBytes {
		return 0, fmt.Errorf("it has more than the %d bytes that are allowed", s.config.MaxBytes)
	}
	if got := "sha256:" + hex.EncodeToString(sum.Sum(nil)); got != digest {
		return 0, fmt.Errorf("the %d bytes that came have the digest %s: they were damaged on the way or in the store", size, got)
	}
	if _, err := module.Inspect(f, size); err != nil {
		return 0, err
	}
	return size, nil
}
