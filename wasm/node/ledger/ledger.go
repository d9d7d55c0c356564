package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
)

// Config configures a Ledger. The zero value of an optional field means its
// default.
type Config struct {
	// Dir holds the key and the file, and what was set aside. It is made with
	// mode 0700. Required.
	Dir    string
	Logger *slog.Logger // required
	// Unsynced has nothing forced to the disk: for tests and simulations, where
	// no machine loses its power.
	Unsynced bool
}

// Names in Dir.
const (
	keyName     = "key"
	fileName    = "ledger"
	damagedName = "ledger.damaged"
)

// State is what a ledger holds. Its objects are shared and immutable.
type State struct {
	// Known says that Objects is a whole set; otherwise nothing is known of
	// what is desired.
	Known bool
	// Term is the highest of those whose cores were believed.
	Term    uint64
	Objects map[core.Key]core.Object
	// Observed holds the newest observation of each pod in Objects.
	Observed map[types.UID]core.Observed
}

func newState() State {
	return State{Objects: map[core.Key]core.Object{}, Observed: map[types.UID]core.Observed{}}
}

// Ledger is a node's durable memory. Its methods may be called concurrently.
type Ledger struct {
	config Config
	secret []byte

	// syncing is held while the file is forced to the disk or replaced, and
	// taken before mu.
	syncing sync.Mutex
	synced  uint64 // of what was handed over; guarded by syncing

	// mu guards what follows.
	mu     sync.Mutex
	state  State
	file   *os.File // nil: there is none, and broken says why
	seal   *sealer
	size   int64
	whole  int64  // the size when the file was begun
	given  uint64 // how much was handed over
	broken error
	stale  error // the file is not true any more, and could not be removed
	closed bool
}

// Open reads the ledger of a folder, which only one process may use. What is
// damaged is set aside and said; an error means that the folder cannot be used
// at all. The caller closes it.
func Open(c Config) (*Ledger, error) {
	if c.Dir == "" || c.Logger == nil {
		return nil, errors.New("ledger: dir and logger are required")
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	path := filepath.Join(c.Dir, fileName)
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	secret, err := loadKey(filepath.Join(c.Dir, keyName))
	if err != nil {
		return nil, fmt.Errorf("open ledger: key: %w", err)
	}
	l := &Ledger{config: c, secret: secret, state: newState()}
	if data != nil {
		if err := l.load(path, data); err != nil {
			return nil, err
		}
	}
	// A file is never continued: after a torn end a number would seal twice.
	if err := l.rewrite(); err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	return l, nil
}

// load takes in a file, or sets it aside.
func (l *Ledger) load(path string, data []byte) error {
	torn, err := read(l.secret, data, l.state.apply)
	if err == nil {
		if torn > 0 {
			l.config.Logger.Warn("the end of the node's ledger was never written whole and counts for nothing", "file", path, "bytes", torn)
		}
		return nil
	}
	l.state = newState()
	aside := filepath.Join(l.config.Dir, damagedName)
	l.config.Logger.Error("the node's ledger cannot be read and is set aside: nothing is started until a core says what is desired",
		"file", path, "aside", aside, "err", err)
	if err := os.Rename(path, aside); err != nil {
		return fmt.Errorf("set damaged ledger aside: %w", err)
	}
	return nil
}

// State returns what the ledger holds.
func (l *Ledger) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.state
	s.Objects, s.Observed = maps.Clone(s.Objects), maps.Clone(s.Observed)
	return s
}

// Reset replaces everything by a whole set, of a term; what was observed of
// pods in it stays. It returns when the disk has it.
func (l *Ledger) Reset(term uint64, objects map[core.Key]core.Object) {
	l.mu.Lock()
	before := l.state.Observed
	l.state = newState()
	l.state.Known, l.state.Term = true, term
	maps.Copy(l.state.Objects, objects)
	for _, o := range before {
		l.state.observe(o)
	}
	l.given++
	l.mu.Unlock()
	l.mend()
}

// Set adds or replaces one object, which must not change afterwards.
func (l *Ledger) Set(key core.Key, object core.Object) {
	data, err := core.Marshal(object)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.set(key, object)
	l.append(&record{kind: kindSet, key: key, uid: object.GetUID(), data: data}, err)
}

// Unset removes an object.
func (l *Ledger) Unset(key core.Key, uid types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.unset(key, uid)
	l.append(&record{kind: kindUnset, key: key, uid: uid}, nil)
}

// Observe keeps the newest observation of a pod. One of a pod that is not
// desired is forgotten.
func (l *Ledger) Observe(o core.Observed) {
	r, err := observedRecord(o)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.observe(o) {
		l.append(r, err)
	}
}

func observedRecord(o core.Observed) (*record, error) {
	data, err := json.Marshal(&o.Status)
	kind := byte(kindObserved)
	if o.Gone {
		kind = kindGone
	}
	return &record{kind: kind, key: o.Key, uid: o.UID, data: data}, err
}

// append writes one record. The caller holds mu; err is why it could not be
// encoded.
func (l *Ledger) append(r *record, err error) {
	l.given++
	if l.file == nil {
		return // the next whole file has it
	}
	plain := r.appendTo(nil)
	if err == nil && len(plain) > maxRecord-64 {
		err = fmt.Errorf("%s has %d bytes, which are too many", r.key, len(plain))
	}
	if err == nil {
		var n int
		n, err = l.file.Write(l.seal.seal(nil, plain))
		l.size += int64(n)
	}
	if err != nil {
		l.give(fmt.Errorf("write: %w", err))
	}
}

// give gives up the file: it says less than is true. The caller holds mu.
func (l *Ledger) give(err error) {
	path := filepath.Join(l.config.Dir, fileName)
	if l.broken == nil {
		l.config.Logger.Error("the node's ledger cannot be written: until it can, an agent that is restarted waits for a core", "file", path, "err", err)
	}
	l.broken = err
	if l.file != nil {
		_ = l.file.Close() // is not true any more
		l.file = nil
	}
	l.stale = nil
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.stale = fmt.Errorf("remove %s, which is not true any more: %w", path, err)
	}
}

// Err returns why the ledger cannot be written, nil while it can.
func (l *Ledger) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken
}

// Sync returns when what was handed over survives a loss of power, or nothing
// does: then the ledger will be found empty. An error means neither: what the
// disk holds is not true any more, and it cannot be changed.
func (l *Ledger) Sync() error {
	l.mu.Lock()
	want := l.given
	l.mu.Unlock()
	l.syncing.Lock()
	defer l.syncing.Unlock()
	if l.synced >= want {
		return nil // with what someone else asked for
	}
	return l.force()
}

// force forces the file to the disk. The caller holds syncing.
func (l *Ledger) force() error {
	l.mu.Lock()
	file, upto, stale := l.file, l.given, l.stale
	l.mu.Unlock()
	var err error
	switch {
	case l.config.Unsynced:
	case file == nil:
		err = syncFolder(l.config.Dir)
	default:
		err = file.Sync()
	}
	if stale != nil {
		return stale
	}
	if err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.give(fmt.Errorf("sync: %w", err))
		return l.stale
	}
	l.synced = upto
	return nil
}

// mend writes a whole new file, and says so if there was none.
func (l *Ledger) mend() {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	err := l.rewrite()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.give(err)
		return
	}
	if l.broken != nil {
		l.config.Logger.Info("the node's ledger can be written again")
	}
	l.broken, l.stale = nil, nil
}

// rewrite begins a new file with all that is known. The caller holds syncing,
// if anyone else may.
func (l *Ledger) rewrite() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	header, salt := newHeader()
	seal, err := newSealer(l.secret, salt)
	if err != nil {
		return err
	}
	data, err := l.content(header, seal)
	if err != nil {
		return err
	}
	path := filepath.Join(l.config.Dir, fileName)
	if err := replace(path, data, !l.config.Unsynced); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if l.file != nil {
		_ = l.file.Close() // has been replaced
	}
	l.file, l.seal, l.size, l.whole = file, seal, int64(len(data)), int64(len(data))
	l.synced = l.given
	return nil
}

// content is a file of the whole state.
func (l *Ledger) content(b []byte, seal *sealer) ([]byte, error) {
	add := func(r *record) { b = seal.seal(b, r.appendTo(nil)) }
	add(&record{kind: kindTerm, term: l.state.Term})
	for key, object := range l.state.Objects {
		data, err := core.Marshal(object)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		add(&record{kind: kindSet, key: key, uid: object.GetUID(), data: data})
	}
	for _, o := range l.state.Observed {
		r, err := observedRecord(o)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.Key, err)
		}
		add(r)
	}
	if l.state.Known {
		add(&record{kind: kindWhole})
	}
	return b, nil
}

// Times and sizes of the work beside.
const (
	syncEvery = time.Second
	mendEvery = 5 * time.Second
	slack     = 4 << 20 // a file grows by this, and three times what it began with
)

// Run forces to the disk each second what was handed over, begins a new file
// when the old one has grown, and tries a disk again that took no more. It
// works until ctx ends.
func (l *Ledger) Run(ctx context.Context) error {
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for tried := time.Now(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		l.mu.Lock()
		broken, grown := l.file == nil, l.size > slack+4*l.whole
		l.mu.Unlock()
		switch {
		case broken && time.Since(tried) < mendEvery:
		case broken, grown:
			tried = time.Now()
			l.mend()
		default:
			_ = l.Sync() // give has said it
		}
	}
}

// Forget empties the ledger for good: this process is not the node any more.
func (l *Ledger) Forget() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	term := l.state.Term
	l.state = newState()
	l.state.Term = term
	l.given++
	l.mu.Unlock()
	err := l.rewrite()
	if err == nil {
		return nil
	}
	// What the file says is not true any more, and removing it needs no room.
	l.mu.Lock()
	l.give(err)
	l.mu.Unlock()
	if err := l.force(); err != nil {
		return fmt.Errorf("empty the ledger: %w", err)
	}
	return nil
}

// Close forces everything to the disk and closes the file. What is handed over
// later is lost.
func (l *Ledger) Close() error {
	err := l.Sync()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.file != nil {
		err = errors.Join(err, l.file.Close())
		l.file = nil
	}
	return err
}
