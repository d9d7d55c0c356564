package logfile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/logfile"
)

// text reads a whole log as "stream text" lines, parts put together again.
func text(tb testing.TB, path string, o logfile.Options) []string {
	tb.Helper()
	var lines []string
	part := map[string]string{}
	err := logfile.Read(tb.Context(), path, o, func(l logfile.Line) error {
		part[l.Stream] += string(l.Text)
		if !l.Partial {
			lines = append(lines, l.Stream+" "+part[l.Stream])
			delete(part, l.Stream)
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return lines
}

func write(tb testing.TB, w *logfile.Writer, s string) {
	tb.Helper()
	if n, err := w.Stdout().Write([]byte(s)); n != len(s) || err != nil {
		tb.Fatalf("wrote %d, %v", n, err)
	}
}

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pod", "0.log")
	w := logfile.NewWriter(wasm.Log{Path: path}, new(logfile.Flusher))
	long := strings.Repeat("x", 2*logfile.MaxText+5)
	write(t, w, "one\ntw")
	if _, err := w.Stderr().Write([]byte("err\n")); err != nil {
		t.Fatal(err)
	}
	write(t, w, "o\n\n"+long+"\n"+long[:logfile.MaxText]+"\nlast")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	want := []string{"stdout one", "stderr err", "stdout two", "stdout ", "stdout " + long, "stdout " + long[:logfile.MaxText], "stdout last"}
	if diff := cmp.Diff(want, text(t, path, logfile.Options{})); diff != "" {
		t.Error(diff)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(content, []byte(" stdout P ")); n != 2 {
		t.Errorf("%d parts", n)
	}
	write(t, w, "after the end\n")
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

// Any split of any text into writes reads back as it was.
func TestWriteProperty(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		path := filepath.Join(t.TempDir(), "0.log")
		w := logfile.NewWriter(wasm.Log{Path: path, MaxBytes: 1 << 30}, new(logfile.Flusher))
		var all strings.Builder
		for range 50 {
			s := strings.Repeat("ab", r.IntN(1<<r.IntN(16))) + []string{"", "\n", "\n\n"}[r.IntN(3)]
			all.WriteString(s)
			write(t, w, s)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		got := strings.Join(text(t, path, logfile.Options{}), "\n")
		want := "stdout " + strings.ReplaceAll(strings.TrimSuffix(all.String(), "\n"), "\n", "\nstdout ")
		if got != want {
			t.Fatalf("seed %d: got %d bytes, want %d", seed, len(got), len(want))
		}
	}
}

func TestRotate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	l := wasm.Log{Path: path, MaxBytes: 1000}
	w := logfile.NewWriter(l, new(logfile.Flusher))
	for n := range 100 {
		write(t, w, fmt.Sprintf("line %d\n", n))
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if n == 50 {
			// Another writer goes on where one ended.
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			w = logfile.NewWriter(l, new(logfile.Flusher))
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, path + logfile.RotatedSuffix} {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 1000 {
			t.Errorf("%s has %d bytes", p, info.Size())
		}
	}
	lines := text(t, path, logfile.Options{})
	for i, l := range lines {
		if want := fmt.Sprintf("stdout line %d", 100-len(lines)+i); l != want {
			t.Fatalf("got %q, want %q", l, want)
		}
	}
	for _, n := range []int64{0, 1, 5, 20, int64(len(lines)), 1000} {
		got := text(t, path, logfile.Options{Tail: &n})
		if diff := cmp.Diff(lines[max(len(lines)-int(n), 0):], got); diff != "" && (n != 0 || len(got) != 0) {
			t.Errorf("tail %d: %s", n, diff)
		}
	}
}

func TestSince(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	content := "2026-01-01T00:00:00.5Z stdout F old\ndamaged\n2026-01-01T02:00:01.000000001+01:00 stderr F new\n2026-01-01T01:00:02Z stdout F"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	since := time.Date(2026, 1, 1, 1, 0, 0, 0, time.UTC)
	if diff := cmp.Diff([]string{"stderr new"}, text(t, path, logfile.Options{Since: since})); diff != "" {
		t.Error(diff)
	}
	if got := text(t, path+"none", logfile.Options{}); got != nil {
		t.Errorf("got %v", got)
	}
}

func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	w := logfile.NewWriter(wasm.Log{Path: path, MaxBytes: 20_000}, new(logfile.Flusher))
	ended := make(chan struct{})
	next := make(chan struct{})
	var wg sync.WaitGroup
	got := 0
	wg.Go(func() {
		defer close(next)
		err := logfile.Read(t.Context(), path, logfile.Options{Follow: true, Ended: ended}, func(l logfile.Line) error {
			if want := fmt.Sprintf("line %d", got); string(l.Text) != want {
				return fmt.Errorf("got %q, want %q", l.Text, want)
			}
			got++
			if got%100 == 0 {
				next <- struct{}{}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	for n := range 1000 {
		write(t, w, fmt.Sprintf("line %d\n", n))
		if n%100 == 99 {
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			<-next // so that no more than one rotation is between two reads
		}
	}
	write(t, w, "line 1000\n")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	close(ended)
	wg.Wait()
	if got != 1001 {
		t.Errorf("got %d lines", got)
	}
}

func TestFollowCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		err := logfile.Read(ctx, filepath.Join(t.TempDir(), "0.log"), logfile.Options{Follow: true}, func(logfile.Line) error { return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	cancel()
	wg.Wait()
}

func TestFlusher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "0.log")
		var f logfile.Flusher
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { f.Run(ctx) })
		w := logfile.NewWriter(wasm.Log{Path: path}, &f)
		for n := range 3 {
			write(t, w, "line\n")
			time.Sleep(20 * time.Millisecond)
			synctest.Wait()
			if got := len(text(t, path, logfile.Options{})); got != n+1 {
				t.Errorf("%d lines after 20ms, want %d", got, n+1)
			}
		}
		cancel()
		wg.Wait()
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A full disk or a bad path must not end a guest.
func TestUnwritable(t *testing.T) {
	dir := t.TempDir()
	w := logfile.NewWriter(wasm.Log{Path: dir}, new(logfile.Flusher))
	write(t, w, "lost\n")
	if err := w.Close(); err == nil {
		t.Error("no error")
	}
	w = logfile.NewWriter(wasm.Log{}, new(logfile.Flusher))
	write(t, w, "nowhere\n")
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("2026-01-01T00:00:00.5Z stdout F text\n2026-01-01T00:00:01Z stderr P part\n"), int64(1))
	f.Add([]byte("\n\n  \nx"), int64(2))
	f.Add(append(bytes.Repeat([]byte("x"), 20_000), "\n2026-01-01T00:00:00Z stdout F a\n"...), int64(5))
	f.Fuzz(func(t *testing.T, content []byte, tail int64) {
		path := filepath.Join(t.TempDir(), "0.log")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		all := text(t, path, logfile.Options{})
		if some := text(t, path, logfile.Options{Tail: &tail}); len(some) > len(all) {
			t.Errorf("tail %d gave %d of %d lines", tail, len(some), len(all))
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	w := logfile.NewWriter(wasm.Log{Path: filepath.Join(b.TempDir(), "0.log")}, new(logfile.Flusher))
	line := []byte("hello from pod/hello-7d4b9c-x2x4z: line 12345\n")
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Stdout().Write(line); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
}

// TestTryWrite: what would wait is not begun.
func TestTryWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := logfile.NewWriter(wasm.Log{Path: path}, &logfile.Flusher{})
	out := w.Stdout().(interface {
		io.Writer
		TryWrite([]byte) bool
	})
	line := []byte(strings.Repeat("x", 99) + "\n")
	written := 0
	for out.TryWrite(line) {
		written++
	}
	if _, err := os.Stat(path); err == nil || written < 100 {
		t.Errorf("after %d lines the file is there: %v", written, err)
	}
	if _, err := out.Write(line); err != nil {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(path)
	if got := strings.Count(string(text), "\n"); err != nil || got != written+1 {
		t.Errorf("%d lines of %d, %v", got, written+1, err)
	}
	if !out.TryWrite(line) {
		t.Error("a closed one would wait")
	}
}
