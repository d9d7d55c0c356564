package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tetratelabs/wazero"
)

// storeVersion names the folder of compiled code. It changes with the format of
// its files, and with what wasm/meter makes of a module, though code that was made
// of something else is not used either way; wazero's version is a part of the name
// below it.
const storeVersion = "v8"

// store keeps compiled code on disk, for several processes at once.
//
// wazero itself writes what it compiled, and checks little of what it reads: a
// flipped bit outside of the machine code is run, and a damaged length takes
// gigabytes. So it never sees the files of the store. It is given a folder of
// this process alone, the stage, in which it finds a file of the store once that
// was checked from its first byte to its last, and finds nothing otherwise.
//
// A file of the store is what wazero wrote, with a trailer that wazero does not
// read. It appears whole, by a rename, and is never changed; nobody waits until
// it is on the disk, as what a power cut leaves of it does not pass the check.
type store struct {
	root  string // of all versions
	dir   string // of the files, each named by its module's digest
	stage string
	lock  *os.File // held while the stage is in use
	limit int64    // of all files, in bytes
	log   *slog.Logger
	cache wazero.CompilationCache

	// compiling is held to write while wazero may add files to the stage that
	// nobody knows, and to read while it may use those that are known.
	compiling sync.RWMutex

	mu     sync.Mutex
	staged map[string]int // uses of each file on the stage, by name
}

const (
	// maxEntry bounds a file of the store, far above what a module of the
	// largest size allowed is compiled to.
	maxEntry = 4 << 30
	// deadStage is how old the stage of a process that died must be: a new one
	// is not locked at once.
	deadStage  = time.Minute
	stagePath  = "stage-*"
	trailerLen = 8 + 32 + 32 + 8 + 32
)

var trailerMagic = [8]byte{'w', 'e', 'f', 't', 'c', 'o', 'd', '1'}

// trailer ends a file of the store.
type trailer struct {
	name   [32]byte // of the file, as wazero calls it
	source [32]byte // digest of what was compiled: the metered module
	length uint64   // of what wazero wrote
}

var errNoEntry = errors.New("no compiled code")

// openStore returns a store in root, which it makes. Close it after use.
func openStore(ctx context.Context, root string, limit int64, log *slog.Logger) (s *store, err error) {
	s = &store{root: root, limit: limit, log: log, staged: map[string]int{}}
	base := filepath.Join(root, storeVersion)
	if err := os.MkdirAll(base, 0o700); err != nil {
		return nil, err
	}
	sweep(base)
	private, err := os.MkdirTemp(base, stagePath)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close(ctx))
		}
	}()
	s.stage = private
	if s.lock, err = os.Create(filepath.Join(private, "lock")); err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(s.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("lock %s: %w", private, err)
	}
	if s.cache, err = wazero.NewCompilationCacheWithDir(private); err != nil {
		return nil, err
	}
	// wazero made a folder that is named by its version and this machine's kind.
	found, err := filepath.Glob(filepath.Join(private, "wazero-*"))
	if err != nil || len(found) != 1 {
		return nil, fmt.Errorf("find wazero's folder in %s: %v, %w", private, found, err)
	}
	s.stage = found[0]
	s.dir = filepath.Join(base, filepath.Base(s.stage))
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *store) close(ctx context.Context) error {
	var err error
	if s.cache != nil {
		err = s.cache.Close(ctx)
	}
	if s.lock != nil {
		err = errors.Join(err, os.RemoveAll(filepath.Dir(s.lock.Name())), s.lock.Close())
	}
	return err
}

// sweep removes the stages of processes that died.
func sweep(base string) {
	old, _ := filepath.Glob(filepath.Join(base, stagePath)) // the pattern is good
	for _, path := range old {
		info, err := os.Stat(path)
		if err != nil || time.Since(info.ModTime()) < deadStage {
			continue
		}
		lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			continue
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(path) // is tried again
		}
		_ = lock.Close() // nothing was written
	}
}

func (s *store) path(digest string) string {
	return filepath.Join(s.dir, strings.TrimPrefix(digest, "sha256:"))
}

// find checks a module's file from end to end. The error is errNoEntry if there
// is none; one that is damaged is removed.
func (s *store) find(digest string) (trailer, error) {
	path := s.path(digest)
	t, err := check(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return t, errNoEntry
	case err != nil:
		s.log.Warn("compiled code is damaged, and compiled anew", "file", path, "err", err)
		s.drop(digest)
		return t, errNoEntry
	}
	now := time.Now()
	_ = os.Chtimes(path, now, now) // only tells that it was used
	return t, nil
}

// has reports whether there is a file for a module, without checking it.
func (s *store) has(digest string) bool {
	_, err := os.Stat(s.path(digest))
	return err == nil
}

func (s *store) drop(digest string) {
	if err := os.Remove(s.path(digest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("compiled code was not removed", "file", s.path(digest), "err", err)
	}
}

// check returns the trailer of a file that is as it was written.
func check(path string) (t trailer, err error) {
	f, err := os.Open(path)
	if err != nil {
		return t, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return t, err
	}
	size := info.Size()
	if !info.Mode().IsRegular() || size < trailerLen || size > maxEntry {
		return t, fmt.Errorf("%d bytes cannot be right", size)
	}
	sum := sha256.New()
	if _, err := io.CopyN(sum, f, size-trailerLen); err != nil {
		return t, err
	}
	end := make([]byte, trailerLen)
	if _, err := io.ReadFull(f, end); err != nil {
		return t, err
	}
	return decodeTrailer(end, uint64(size)-trailerLen, sum)
}

func (t *trailer) encode(sum hash.Hash) []byte {
	out := append([]byte{}, trailerMagic[:]...)
	out = append(append(out, t.name[:]...), t.source[:]...)
	out = binary.LittleEndian.AppendUint64(out, t.length)
	_, _ = sum.Write(out) // a hash's never fails
	return sum.Sum(out)
}

// decodeTrailer takes the hash of the length bytes before it.
func decodeTrailer(end []byte, length uint64, sum hash.Hash) (t trailer, err error) {
	copy(t.name[:], end[8:])
	copy(t.source[:], end[40:])
	t.length = length
	if want := t.encode(sum); !bytes.Equal(want, end) {
		return t, errors.New("its checksum does not fit its content")
	}
	return t, nil
}

// load lets wazero find a file that was checked, and calls compile. It reports
// whether wazero took what it found.
func (s *store) load(digest string, t trailer, compile func() error) (hit bool, err error) {
	s.compiling.RLock()
	defer s.compiling.RUnlock()
	name := hex.EncodeToString(t.name[:])
	if err := s.show(digest, name); err != nil {
		return false, err
	}
	defer s.hide(name)
	if err := compile(); err != nil {
		return false, err
	}
	added, err := s.added()
	for _, name := range added {
		err = errors.Join(err, os.Remove(filepath.Join(s.stage, name)))
	}
	return len(added) == 0, err
}

// show puts a file on the stage.
func (s *store) show(digest, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.staged[name] == 0 {
		at := filepath.Join(s.stage, name)
		if err := os.Link(s.path(digest), at); err != nil {
			data, err := os.ReadFile(s.path(digest)) // a file system without links
			if err == nil {
				err = os.WriteFile(at, data, 0o600)
			}
			if err != nil {
				return fmt.Errorf("stage compiled code: %w", err)
			}
		}
	}
	s.staged[name]++
	return nil
}

func (s *store) hide(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.staged[name]--; s.staged[name] == 0 {
		delete(s.staged, name)
		if err := os.Remove(filepath.Join(s.stage, name)); err != nil {
			s.log.Warn("stage of compiled code was not cleared", "err", err)
		}
	}
}

// added lists what wazero wrote to the stage.
func (s *store) added() (names []string, err error) {
	entries, err := os.ReadDir(s.stage)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range entries {
		if s.staged[e.Name()] == 0 {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// save calls compile, and keeps what wazero wrote meanwhile. The first error is
// compile's; the second says that nothing was kept, although it compiled.
func (s *store) save(digest string, source []byte, compile func() error) (err, unkept error) {
	s.compiling.Lock()
	defer s.compiling.Unlock()
	defer func() {
		names, _ := s.added() // what is left is no use
		for _, name := range names {
			_ = os.Remove(filepath.Join(s.stage, name)) // and goes with the stage at the latest
		}
	}()
	if err := compile(); err != nil {
		return err, nil
	}
	names, err := s.added()
	if err == nil && len(names) != 1 {
		err = fmt.Errorf("wazero wrote %d files", len(names))
	}
	if err == nil {
		err = s.keep(digest, filepath.Join(s.stage, names[0]), source)
	}
	if err != nil {
		return nil, fmt.Errorf("keep compiled code: %w", err)
	}
	s.prune(s.path(digest))
	return nil, nil
}

// keep makes a file of the store of one that wazero wrote.
func (s *store) keep(digest, from string, source []byte) error {
	t := trailer{source: sha256.Sum256(source)}
	name, err := hex.DecodeString(filepath.Base(from))
	if err != nil || copy(t.name[:], name) != len(t.name) {
		return fmt.Errorf("wazero wrote %s", filepath.Base(from))
	}
	f, err := os.OpenFile(from, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	if err != nil {
		return err
	}
	t.length = uint64(n)
	if _, err := f.Write(t.encode(sum)); err != nil {
		return err
	}
	return os.Rename(from, s.path(digest))
}

// prune removes the files that were not used for longest, of all versions,
// until no more than limit bytes are left. It spares keep.
func (s *store) prune(keep string) {
	type file struct {
		path string
		size int64
		used time.Time
	}
	var files []file
	var total int64
	_ = filepath.WalkDir(s.root, func(path string, d fs.DirEntry, err error) error { // errors are none of ours
		if err != nil {
			return nil //nolint:nilerr // it is gone, or somebody else's
		}
		if staged, _ := filepath.Match(stagePath, d.Name()); staged && d.IsDir() {
			return fs.SkipDir
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			files = append(files, file{path, info.Size(), info.ModTime()})
			total += info.Size()
		}
		return nil
	})
	slices.SortFunc(files, func(a, b file) int { return a.used.Compare(b.used) })
	for _, f := range files {
		if total <= s.limit {
			return
		}
		if f.path == keep {
			continue
		}
		if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("compiled code was not removed", "file", f.path, "err", err)
			continue
		}
		total -= f.size
	}
}
