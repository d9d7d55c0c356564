// Package logfile writes and reads the log files of instances, in the format
// that wasm.Log describes. It must not know who writes or reads.
package logfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/weftrun/weft/wasm"
)

const (
	// MaxText is the most text of one record in bytes: longer lines are cut
	// into parts marked P.
	MaxText = 16 << 10
	// DefaultMaxBytes is the size at which a file is rotated.
	DefaultMaxBytes = 10 << 20

	// flushDelay is how long a line may wait for others, so that a thousand
	// writers cost a hundred rounds a second at most.
	flushDelay = 10 * time.Millisecond
	bufBytes   = 64 << 10
	timeFormat = "2006-01-02T15:04:05.000000000Z07:00"
)

// Flusher writes out what Writers hold back, all of them in one goroutine.
// The zero value is ready.
type Flusher struct {
	once sync.Once
	wake chan struct{}

	mu    sync.Mutex
	dirty []*Writer
}

func (f *Flusher) init() { f.once.Do(func() { f.wake = make(chan struct{}, 1) }) } // 1: a wake-up is not lost

func (f *Flusher) add(w *Writer) {
	f.init()
	f.mu.Lock()
	f.dirty = append(f.dirty, w)
	first := len(f.dirty) == 1
	f.mu.Unlock()
	if first {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
}

// Run flushes until ctx ends. While it does not run, lines reach the file when
// a Writer's buffer is full and when it is closed.
func (f *Flusher) Run(ctx context.Context) {
	f.init()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		}
		select {
		case <-ctx.Done():
		case <-time.After(flushDelay):
		}
		f.mu.Lock()
		dirty := f.dirty
		f.dirty = nil
		f.mu.Unlock()
		for _, w := range dirty {
			w.flush()
		}
	}
}

// Writer writes one instance's log. The file is made at the first line. Its
// methods and streams may be used concurrently.
type Writer struct {
	path     string
	maxBytes int64
	flusher  *Flusher

	mu     sync.Mutex
	file   *os.File
	size   int64
	buf    []byte // whole records that are not in the file yet
	listed bool   // the flusher knows of buf
	closed bool
	err    error // the first of writing; the guest never sees it
	out    Stream
	errs   Stream
}

// NewWriter returns a Writer for that log. It opens nothing. An empty Path
// discards everything.
func NewWriter(l wasm.Log, f *Flusher) *Writer {
	w := &Writer{path: l.Path, maxBytes: l.MaxBytes, flusher: f}
	if w.maxBytes <= 0 {
		w.maxBytes = DefaultMaxBytes
	}
	w.out = Stream{w: w, name: "stdout"}
	w.errs = Stream{w: w, name: "stderr"}
	return w
}

// Stdout returns the stream of standard output.
func (w *Writer) Stdout() io.Writer { return &w.out }

// Stderr returns the stream of standard error.
func (w *Writer) Stderr() io.Writer { return &w.errs }

// Stream cuts what is written to it into records.
type Stream struct {
	w    *Writer
	name string
	part []byte // a line's begin, without its end yet; guarded by w.mu
}

// Write takes all of p. It never fails: a full disk must not end a guest.
func (s *Stream) Write(p []byte) (int, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.take(p)
	return len(p), nil
}

// recordRoom is more than a record has beside its text, in bytes.
const recordRoom = 64

// TryWrite takes all of p as Write does, or nothing if that might wait for a
// disk: others write out what is held back, or it would be time to.
func (s *Stream) TryWrite(p []byte) bool {
	w := s.w
	if !w.mu.TryLock() {
		return false
	}
	defer w.mu.Unlock()
	lines := 1 + bytes.Count(p, []byte{'\n'}) + len(p)/MaxText
	if n := len(w.buf) + len(s.part) + len(p) + lines*recordRoom; int64(n) >= min(bufBytes, w.maxBytes) {
		return false
	}
	s.take(p)
	return true
}

// take is Write. The caller holds mu.
func (s *Stream) take(p []byte) {
	w := s.w
	if w.closed || w.path == "" {
		return
	}
	now := time.Now()
	for rest := p; len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n')
		if end >= 0 && len(s.part)+end <= MaxText {
			w.record(now, s.name, 'F', s.part, rest[:end])
			s.part = s.part[:0]
			rest = rest[end+1:]
			continue
		}
		if n := MaxText - len(s.part); n <= len(rest) {
			w.record(now, s.name, 'P', s.part, rest[:n])
			s.part = s.part[:0]
			rest = rest[n:]
			continue
		}
		s.part = append(s.part, rest...)
		break
	}
	if len(w.buf) > 0 && !w.listed {
		w.listed = true
		w.flusher.add(w)
	}
}

// record appends one record to buf and writes buf out if that is full.
func (w *Writer) record(now time.Time, stream string, tag byte, a, b []byte) {
	w.buf = now.UTC().AppendFormat(w.buf, timeFormat)
	w.buf = append(w.buf, ' ')
	w.buf = append(w.buf, stream...)
	w.buf = append(w.buf, ' ', tag, ' ')
	w.buf = append(w.buf, a...)
	w.buf = append(w.buf, b...)
	w.buf = append(w.buf, '\n')
	if int64(len(w.buf)) >= min(bufBytes, w.maxBytes) {
		w.write()
	}
}

func (w *Writer) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.listed = false
	w.write()
	if cap(w.buf) > bufBytes/8 {
		w.buf = nil // a thousand idle writers must not keep it
	}
}

// Flush writes out what is held back, but for a line without its end. It
// returns the first error of writing there ever was.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.write()
	return w.err
}

// Close writes out everything, a last line without its end too, and closes the
// file. It returns the first error of writing there ever was.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return w.err
	}
	for _, s := range [...]*Stream{&w.out, &w.errs} {
		if len(s.part) > 0 {
			w.record(time.Now(), s.name, 'F', s.part, nil)
			s.part = nil
		}
	}
	w.write()
	w.closed, w.buf = true, nil
	if w.file != nil {
		w.keep(w.file.Close())
		w.file = nil
	}
	return w.err
}

func (w *Writer) keep(err error) {
	if w.err == nil && err != nil {
		w.err = fmt.Errorf("write log %s: %w", w.path, err)
	}
}

// write moves buf to the file, and begins a new file when that one is full.
func (w *Writer) write() {
	if len(w.buf) == 0 {
		return
	}
	defer func() { w.buf = w.buf[:0] }()
	if w.file != nil && w.size > 0 && w.size+int64(len(w.buf)) > w.maxBytes {
		w.rotate()
	}
	if w.file == nil && !w.open() {
		return
	}
	n, err := w.file.Write(w.buf)
	w.size += int64(n)
	w.keep(err)
}

func (w *Writer) open() bool {
	f, err := openAppend(w.path)
	if errors.Is(err, os.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(w.path), 0o750); err == nil {
			f, err = openAppend(w.path)
		}
	}
	if err != nil {
		w.keep(err)
		return false
	}
	info, err := f.Stat()
	if err != nil {
		w.keep(errors.Join(err, f.Close()))
		return false
	}
	w.file, w.size = f, info.Size()
	if w.size > 0 && w.size+int64(len(w.buf)) > w.maxBytes {
		w.rotate()
		return w.file != nil || w.open()
	}
	return true
}

func openAppend(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
}

// rotate leaves file nil, or as it was if it cannot be renamed: a file that is
// too large is better than lines that are lost.
func (w *Writer) rotate() {
	if err := os.Rename(w.path, w.path+RotatedSuffix); err != nil {
		w.keep(err)
		w.size = 0 // try again after as much again
		return
	}
	w.keep(w.file.Close())
	w.file, w.size = nil, 0
}
