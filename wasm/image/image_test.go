package image_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/image"
	"github.com/weftrun/weft/wasm/wasmtest"
)

func TestParse(t *testing.T) {
	hex := strings.Repeat("ab", 32)
	for ref, want := range map[string]image.Reference{
		"file:pi.wasm":                      {Source: image.Relative, Path: "pi.wasm"},
		"file:a/../b.wasm":                  {Source: image.Relative, Path: "b.wasm"},
		"file:///x/../pi.wasm":              {Source: image.Absolute, Path: "/pi.wasm"},
		"file:/opt/pi.wasm":                 {Source: image.Absolute, Path: "/opt/pi.wasm"},
		"cluster.local/a/b-c@sha256:" + hex: {Source: image.Cluster, Name: "a/b-c", Digest: "sha256:" + hex},
	} {
		got, err := image.Parse(ref)
		if err != nil {
			t.Errorf("%s: %v", ref, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", ref, diff)
		}
	}
	for ref, want := range map[string]string{
		"":                                 "is empty",
		"file:../pi.wasm":                  "must stay within",
		"file://pi.wasm":                   "write file:pi.wasm",
		"./pi.wasm":                        "write file:pi.wasm",
		"nginx":                            "OCI registry",
		"ghcr.io/a/b:v1":                   "OCI registry",
		"https://example.org/a.wasm":       "over HTTP",
		"cluster.local/pi":                 "has no digest",
		"cluster.local/pi@sha256:1234":     "64 hexadecimal",
		"cluster.local/../x@sha256:" + hex: "must be lower-case",
		"file:a\nb":                        "control characters",
		strings.Repeat("x", 5000):          "at most 4096",
	} {
		_, err := image.Parse(ref)
		var e *image.Error
		if !errors.As(err, &e) || e.Reason != image.InvalidImageName || !strings.Contains(e.Message, want) {
			t.Errorf("%.40q: got %v, want %q", ref, err, want)
		}
	}
}

func store(t *testing.T, c image.Config) *image.Store {
	t.Helper()
	s, err := image.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func wantReason(t *testing.T, err error, reason, message string) {
	t.Helper()
	var e *image.Error
	if !errors.As(err, &e) || e.Reason != reason || !strings.Contains(e.Message, message) {
		t.Errorf("got %v, want %s with %q", err, reason, message)
	}
}

func TestFiles(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	s := store(t, image.Config{Folders: []string{first, second}})
	path := filepath.Join(second, "m.wasm")
	put(t, path, wasmtest.Module("park"))
	// Old enough for its time to be believed.
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	want := image.Image{Digest: wasmtest.Digest(wasmtest.Module("park")), Path: path, Size: int64(len(wasmtest.Module("park")))}
	for _, ref := range []string{"file:m.wasm", "file:m.wasm", "file://" + path} {
		got, err := s.Resolve(t.Context(), ref, image.Never)
		if err != nil || got != want {
			t.Errorf("got %v, %v", got, err)
		}
	}
	put(t, path, wasmtest.Module("exit"))
	if got, err := s.Resolve(t.Context(), "file:m.wasm", image.IfNotPresent); err != nil || got.Digest != wasmtest.Digest(wasmtest.Module("exit")) {
		t.Errorf("after a change: got %v, %v", got, err)
	}
	put(t, filepath.Join(first, "m.wasm"), []byte("#!/bin/sh\n"))
	_, err := s.Resolve(t.Context(), "file:m.wasm", image.IfNotPresent)
	wantReason(t, err, image.ErrImagePull, "a script")
	if !errors.Is(err, wasm.ErrInvalidModule) {
		t.Errorf("got %v", err)
	}
	_, err = s.Resolve(t.Context(), "file:none.wasm", image.IfNotPresent)
	wantReason(t, err, image.ErrImagePull, second)
	_, err = s.Resolve(t.Context(), "file:none.wasm", image.Never)
	wantReason(t, err, image.ErrImageNeverPull, "none.wasm")
	_, err = s.Resolve(t.Context(), "file://"+first, image.Always)
	wantReason(t, err, image.ErrImagePull, "a folder")
	_, err = store(t, image.Config{ForbidAbsolute: true}).Resolve(t.Context(), "file://"+path, image.Always)
	wantReason(t, err, image.InvalidImageName, "forbid")
}

func TestCluster(t *testing.T) {
	content := wasmtest.Module("park")
	digest := wasmtest.Digest(content)
	ref := "cluster.local/park@" + digest
	var calls atomic.Int64
	c := image.Config{
		CacheDir: filepath.Join(t.TempDir(), "images"),
		Blob: func(context.Context, string) (io.ReadCloser, error) {
			calls.Add(1)
			return io.NopCloser(bytes.NewReader(content)), nil
		},
	}
	s := store(t, c)
	_, err := s.Resolve(t.Context(), ref, image.Never)
	wantReason(t, err, image.ErrImageNeverPull, "was not fetched")

	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := s.Resolve(t.Context(), ref, image.Always); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if calls.Load() > 2 {
		t.Errorf("fetched %d times", calls.Load())
	}
	list, err := s.List(t.Context())
	if err != nil || len(list) != 1 || list[0].Digest != digest {
		t.Fatalf("got %v, %v", list, err)
	}
	// A cache that is damaged heals.
	put(t, list[0].Path, content[:20])
	got, err := s.Resolve(t.Context(), ref, image.IfNotPresent)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(got.Path); err != nil || !bytes.Equal(b, content) {
		t.Errorf("got %d bytes, %v", len(b), err)
	}
	if err := s.Remove(t.Context(), digest); err != nil {
		t.Fatal(err)
	}
	if list, err := s.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("got %v, %v", list, err)
	}

	t.Run("damaged on the way", func(t *testing.T) {
		c := c
		c.CacheDir = t.TempDir()
		c.Blob = func(context.Context, string) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(content[:50])), nil
		}
		_, err := store(t, c).Resolve(t.Context(), ref, image.IfNotPresent)
		wantReason(t, err, image.ErrImagePull, "damaged")
		if left, err := os.ReadDir(c.CacheDir); err != nil || len(left) != 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
	t.Run("unreachable", func(t *testing.T) {
		c := c
		c.CacheDir = t.TempDir()
		c.Blob = func(context.Context, string) (io.ReadCloser, error) { return nil, io.ErrUnexpectedEOF }
		_, err := store(t, c).Resolve(t.Context(), ref, image.IfNotPresent)
		wantReason(t, err, image.ErrImagePull, "unexpected EOF")
	})
}

func FuzzParse(f *testing.F) {
	f.Add("file:pi.wasm")
	f.Add("cluster.local/pi@sha256:" + strings.Repeat("ab", 32))
	f.Fuzz(func(t *testing.T, ref string) {
		r, err := image.Parse(ref)
		if err == nil && r.Source == image.Relative && !filepath.IsLocal(r.Path) {
			t.Errorf("%q leaves its folder: %q", ref, r.Path)
		}
	})
}

func TestHalfFetchedIsRemoved(t *testing.T) {
	dir := t.TempDir()
	stale, fresh := filepath.Join(dir, "pull-1"), filepath.Join(dir, "pull-2")
	put(t, stale, []byte("x"))
	put(t, fresh, []byte("x"))
	old := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(stale, old, old); err != nil {
		t.Fatal(err)
	}
	content := wasmtest.Module("exit")
	s := store(t, image.Config{CacheDir: dir, Blob: func(context.Context, string) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}})
	if _, err := s.Resolve(t.Context(), "cluster.local/x@"+wasmtest.Digest(content), image.Always); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stale); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was left half fetched: %v", err)
	}
	if _, err := os.Stat(fresh); err != nil {
		t.Errorf("what is being fetched: %v", err)
	}
}
