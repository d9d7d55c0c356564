package executor

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/weftrun/weft/wasm"
)

const (
	journalName = "exits.journal"
	// keepExits is for how long exits are kept that nobody asks for.
	keepExits = 24 * time.Hour
	// spareJournal is how many bytes the journal may have beyond twice what it
	// needs until it is written anew.
	spareJournal = 256 << 10
	// maxForgotten is how many bytes of records may wait that exits are to be
	// forgotten. Each costs no write of its own: if it is lost, an exit is kept
	// for longer than it had to be.
	maxForgotten = 4 << 10
	// checksumSize is what stands before a record: 8 hexadecimal digits and a
	// space.
	checksumSize = 9
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is a line of the journal, behind its checksum.
type record struct {
	Exit   *state `json:"exit,omitempty"`   // an instance ended
	Forget *key   `json:"forget,omitempty"` // and nobody will ask for that any more
}

// journal is a file to which a line is appended for each instance that ends.
// One process at a time writes it. A process that is killed may leave its last
// line torn, which then does not count. Its methods may be called concurrently.
type journal struct {
	path string

	mu        sync.Mutex
	file      *os.File
	size      int64 // of the file
	torn      bool  // the file may not end with a whole line
	live      map[key]state
	lengths   map[key]int // of the lines of live
	needed    int64       // their sum
	forgotten []byte      // lines that wait to be written
}

// openJournal reads what is recorded in dir, and begins a new file with what of
// that is not too old.
func openJournal(dir string) (*journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open exits: %w", err)
	}
	found, err := readExits(dir)
	if err != nil {
		return nil, err
	}
	j := &journal{path: filepath.Join(dir, journalName), live: map[key]state{}, lengths: map[key]int{}}
	for k, s := range found {
		if time.Since(s.Exit.FinishedAt) <= keepExits {
			if _, err := j.keep(k, s); err != nil {
				return nil, err
			}
		}
	}
	if err := j.rewrite(); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(filepath.Join(dir, exitsFolder)); err != nil {
		return nil, errors.Join(fmt.Errorf("remove exits of the version before: %w", err), j.file.Close())
	}
	return j, nil
}

// keep takes an exit in and returns its line. The caller holds the lock.
func (j *journal) keep(k key, s state) ([]byte, error) {
	line, err := encodeRecord(record{Exit: &s})
	if err != nil {
		return nil, err
	}
	j.needed += int64(len(line) - j.lengths[k])
	j.live[k], j.lengths[k] = s, len(line)
	return line, nil
}

// write records an exit. It is in the file when write returns, so that it
// outlives this process; an error means that it does not.
func (j *journal) write(s state) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	line, err := j.keep(key{s.Sandbox, s.ID}, s)
	if err != nil {
		return fmt.Errorf("record exit: %w", err)
	}
	if err := j.append(line); err != nil {
		return fmt.Errorf("record exit: %w", err)
	}
	return nil
}

// append writes what waits, and then line. The caller holds the lock.
func (j *journal) append(line []byte) error {
	if j.size > 2*j.needed+spareJournal {
		return j.rewrite() // line's exit is in live
	}
	out := append(j.forgotten, line...)
	if j.torn {
		out = append([]byte{'\n'}, out...)
	}
	n, err := j.file.Write(out)
	j.size += int64(n)
	j.torn = err != nil
	if err == nil {
		j.forgotten = out[:0:cap(out)]
		if cap(out) > 4*maxForgotten {
			j.forgotten = nil
		}
	}
	return err
}

// exit returns how an instance ended, as it was given to write, even if the
// disk did not take it.
func (j *journal) exit(k key) (wasm.Exit, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s, ok := j.live[k]
	if !ok {
		return wasm.Exit{}, false
	}
	return *s.Exit, true
}

// all returns what is recorded.
func (j *journal) all() []state {
	j.mu.Lock()
	defer j.mu.Unlock()
	states := make([]state, 0, len(j.live))
	for _, s := range j.live {
		states = append(states, s)
	}
	return states
}

// forget drops an exit that nobody will ask for again; that of one that is not
// there does nothing.
func (j *journal) forget(k key) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, ok := j.live[k]; !ok {
		return nil
	}
	j.needed -= int64(j.lengths[k])
	delete(j.live, k)
	delete(j.lengths, k)
	line, err := encodeRecord(record{Forget: &k})
	if err != nil {
		return fmt.Errorf("forget exit: %w", err)
	}
	if j.forgotten = append(j.forgotten, line...); len(j.forgotten) < maxForgotten {
		return nil
	}
	if err := j.append(nil); err != nil {
		j.forgotten = nil // they are only forgotten later
		return fmt.Errorf("forget exit: %w", err)
	}
	return nil
}

// rewrite replaces the file by one of what is live alone. The caller holds the
// lock.
func (j *journal) rewrite() error {
	var out []byte
	for _, s := range j.live {
		line, err := encodeRecord(record{Exit: &s})
		if err != nil {
			return err
		}
		out = append(out, line...)
	}
	file, err := os.OpenFile(j.path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write exits anew: %w", err)
	}
	if _, err = file.Write(out); err == nil {
		err = os.Rename(j.path+".new", j.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write exits anew: %w", err), file.Close())
	}
	if j.file != nil {
		_ = j.file.Close() // is replaced
	}
	j.file, j.size, j.torn, j.forgotten = file, int64(len(out)), false, nil
	return nil
}

// close writes what waits.
func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var err error
	if len(j.forgotten) > 0 {
		err = j.append(nil)
	}
	return errors.Join(err, j.file.Close())
}

func encodeRecord(r record) ([]byte, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	line := fmt.Appendf(make([]byte, 0, checksumSize+len(body)+1), "%08x ", crc32.Checksum(body, castagnoli))
	return append(append(line, body...), '\n'), nil
}

// readExits returns the exits that are recorded in dir, by this version or the
// one before. Nobody may write meanwhile.
func readExits(dir string) (map[key]state, error) {
	found, err := readExitFiles(filepath.Join(dir, exitsFolder))
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(dir, journalName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read exits: %w", err)
	}
	replay(data, found)
	return found, nil
}

// replay applies the lines of a journal to exits. Those that are damaged or of
// an unknown sort are passed over.
func replay(data []byte, exits map[key]state) {
	for line := range bytes.Lines(data) {
		r, ok := decodeRecord(line)
		switch {
		case !ok:
		case r.Exit != nil:
			exits[key{r.Exit.Sandbox, r.Exit.ID}] = *r.Exit
		case r.Forget != nil:
			delete(exits, *r.Forget)
		}
	}
}

func decodeRecord(line []byte) (r record, ok bool) {
	body, whole := bytes.CutSuffix(line, []byte{'\n'})
	if !whole || len(body) < checksumSize || body[checksumSize-1] != ' ' {
		return r, false
	}
	var sum [4]byte
	if _, err := hex.Decode(sum[:], body[:checksumSize-1]); err != nil {
		return r, false
	}
	body = body[checksumSize:]
	want := uint32(sum[0])<<24 | uint32(sum[1])<<16 | uint32(sum[2])<<8 | uint32(sum[3])
	if crc32.Checksum(body, castagnoli) != want || json.Unmarshal(body, &r) != nil {
		return r, false
	}
	return r, r.Exit == nil || r.Exit.Exit != nil
}

// exitsFolder is where the version before kept a file for each exit.
const exitsFolder = "exits"

// readExitFiles reads that folder, which need not be there.
func readExitFiles(dir string) (map[key]state, error) {
	found := map[key]state{}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read exits: %w", err)
	}
	for _, e := range entries {
		var s state
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err == nil && json.Unmarshal(data, &s) == nil && s.Exit != nil {
			found[key{s.Sandbox, s.ID}] = s
		}
	}
	return found, nil
}
