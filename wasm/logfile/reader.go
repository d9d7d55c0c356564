package logfile

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// pollInterval is how often a follower looks if the system does not notify it.
const pollInterval = 200 * time.Millisecond

// Options say what to read. The zero value reads everything there is.
type Options struct {
	// Tail limits it to the last lines of those there are at the start; nil
	// means all.
	Tail *int64
	// Since leaves out what is older.
	Since time.Time
	// Follow waits for more, over rotations, until ctx ends or Ended is closed
	// and everything was read.
	Follow bool
	// Ended is closed once nothing more will be written; may be nil.
	Ended <-chan struct{}
}

// Read calls emit for each line of the log at path, that before the last
// rotation first, until there is no more, ctx ends, or emit returns an error,
// which Read returns. A file that does not exist is empty. Records that cannot
// be parsed are left out.
func Read(ctx context.Context, path string, o Options, emit func(Line) error) error {
	r := &reader{path: path, since: o.Since, emit: emit}
	defer r.close()
	if o.Follow {
		r.watch()
	}
	if err := r.start(o.Tail); err != nil {
		return err
	}
	for {
		if err := r.drain(ctx); err != nil {
			return err
		}
		if !o.Follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-o.Ended:
			return r.drain(ctx)
		case <-r.changes():
		case <-time.After(r.patience()):
		}
	}
}

type reader struct {
	path  string
	since time.Time
	emit  func(Line) error

	watcher *fsnotify.Watcher // nil: polling
	files   []*os.File        // oldest first; the last is the one at path
	buf     *bufio.Reader     // over files[0]
	part    []byte            // a record that was read without its end yet
	over    bool              // part's record is too long and is skipped
	line    []byte
}

func (r *reader) close() {
	for _, f := range r.files {
		_ = f.Close() // was only read
	}
	if r.watcher != nil {
		_ = r.watcher.Close() // nothing depends on it
	}
}

// watch tries to be notified: there may be too few watches on this machine.
func (r *reader) watch() {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return
	}
	if err := w.Add(filepath.Dir(r.path)); err != nil {
		_ = w.Close() // nothing depends on it
		return
	}
	r.watcher = w
}

// changes returns the channel of notifications; nil, which blocks, if none.
func (r *reader) changes() <-chan fsnotify.Event {
	if r.watcher == nil {
		return nil
	}
	return r.watcher.Events
}

func (r *reader) patience() time.Duration {
	if r.watcher == nil {
		return pollInterval
	}
	return 5 * pollInterval // a safety net for lost notifications
}

// start opens the files there are and moves to where the tail begins.
func (r *reader) start(tail *int64) error {
	current, err := openIf(r.path)
	if err != nil {
		return err
	}
	old, err := openIf(r.path + RotatedSuffix)
	if err != nil {
		return err
	}
	if current != nil && old != nil && same(current, old) {
		// Rotated between the two: what was current is the old one now.
		_ = current.Close() // was only read
		if current, err = openIf(r.path); err != nil {
			return err
		}
	}
	for _, f := range [...]*os.File{old, current} {
		if f != nil {
			r.files = append(r.files, f)
		}
	}
	if tail != nil {
		if err := r.seekTail(min(max(*tail, 0), 1<<40)); err != nil {
			return err
		}
	}
	if len(r.files) > 0 {
		r.buf = bufio.NewReaderSize(r.files[0], 64<<10)
	}
	return nil
}

func openIf(path string) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil //nolint:nilnil // no file is an empty log
	}
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	return f, nil
}

func same(a, b *os.File) bool {
	ai, errA := a.Stat()
	bi, errB := b.Stat()
	return errA == nil && errB == nil && os.SameFile(ai, bi)
}

// seekTail leaves the files positioned before their last n lines together.
func (r *reader) seekTail(n int64) error {
	for i, f := range slices.Backward(r.files) {
		starts, err := lastLines(f, n)
		if err != nil {
			return fmt.Errorf("read log %s: %w", f.Name(), err)
		}
		if found := int64(len(starts)); found < n {
			n -= found
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return fmt.Errorf("read log %s: %w", f.Name(), err)
			}
			continue
		}
		at := starts[0]
		if _, err := f.Seek(at, io.SeekStart); err != nil {
			return fmt.Errorf("read log %s: %w", f.Name(), err)
		}
		for _, older := range r.files[:i] {
			_ = older.Close() // was only read
		}
		r.files = r.files[i:]
		return nil
	}
	return nil
}

// lastLines returns the offsets where the last n lines begin; for n = 0 the
// one where the file ends.
func lastLines(f *os.File, n int64) ([]int64, error) {
	var starts []int64
	var pos int64
	begin, fresh := int64(0), true
	buf := bufio.NewReaderSize(f, 64<<10)
	for {
		record, err := buf.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		if fresh {
			begin, fresh = pos, false
		}
		pos += int64(len(record))
		if err != nil || !whole(record) {
			continue
		}
		fresh = true
		starts = append(starts, begin)
		// Shift rarely, so that a large n costs no square.
		if int64(len(starts)) >= 2*n+1024 {
			starts = append(starts[:0], starts[int64(len(starts))-n:]...)
		}
	}
	if n == 0 {
		return []int64{pos}, nil
	}
	if extra := int64(len(starts)) - n; extra > 0 {
		starts = starts[extra:]
	}
	return starts, nil
}

// drain emits whatever can be read now.
func (r *reader) drain(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		record, err := r.record()
		if errors.Is(err, io.EOF) {
			if more, err := r.next(); err != nil || !more {
				return err
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("read log %s: %w", r.path, err)
		}
		l, err := Parse(record)
		if err != nil || l.Time.Before(r.since) {
			continue
		}
		if err := r.emit(l); err != nil {
			return err
		}
	}
}

// record returns the next whole record. At the end of the file it is io.EOF,
// and what was read of a record is kept.
func (r *reader) record() ([]byte, error) {
	if r.buf == nil {
		return nil, io.EOF // no file is open yet
	}
	for {
		b, err := r.buf.ReadSlice('\n')
		if r.over = r.over || len(r.part)+len(b) > MaxRecord; r.over {
			r.part = r.part[:0]
		} else {
			r.part = append(r.part, b...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return nil, err
		}
		r.line, r.part = r.part, r.line[:0]
		if r.over {
			r.over = false
			return nil, nil // is left out, as it does not parse
		}
		return bytes.TrimSuffix(r.line, []byte("\n")), nil
	}
}

// next moves to the next file if there is one.
func (r *reader) next() (bool, error) {
	if len(r.files) > 1 {
		_ = r.files[0].Close() // was only read
		r.files = r.files[1:]
		r.begin()
		return true, nil
	}
	f, err := openIf(r.path)
	if err != nil || f == nil {
		return false, err
	}
	if len(r.files) == 1 && same(f, r.files[0]) {
		_ = f.Close() // was only read
		return false, nil
	}
	if len(r.files) == 1 {
		// Lines may have been written after the last read and before the
		// rotation: read that file once more first.
		r.files = append(r.files, f)
		return true, nil
	}
	r.files = append(r.files, f)
	r.begin()
	return true, nil
}

func (r *reader) begin() {
	r.part, r.over = r.part[:0], false
	r.buf = bufio.NewReaderSize(r.files[0], 64<<10)
}
