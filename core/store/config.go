package store

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/core"
)

// Limits that are no settings: peers and older logs depend on them.
const (
	// MaxObjectSize is the largest encoding of one object in bytes, as in
	// Kubernetes.
	MaxObjectSize = 1536 << 10
	// MaxCommitSize is the largest sum of the encodings in one Commit, in bytes.
	MaxCommitSize = 6 << 20

	packSize    = 512 << 10 // a record takes no more commits beyond this size
	backlogSize = 256 << 10 // lazy changes of this size are logged at once
	chunkSize   = 1 << 20   // of a snapshot, before compression
	maxWaiting  = 64 << 20  // commits that wait for the log may weigh no more
)

// revisionJump is how far revisions may run ahead of the newest record.
const revisionJump = 1 << 16

// historyJump is how far revisions jump at least when a new history begins: more
// than any other history of the same log can have come further.
const historyJump = 1 << 32

// Config configures a Store. The zero value of an optional field means its
// default.
type Config struct {
	// Log holds the records ("WAL"); nobody else may write to it. Required.
	Log bus.Log
	// Snapshots holds the snapshots. Required.
	Snapshots bus.Log
	// Key encrypts both. Required.
	Key Key
	// Durability says how the objects of a resource survive; nil means that
	// all are durable. It must be a pure function.
	Durability func(core.GroupResource) core.Durability
	// Leading, if set, is asked before anything is acknowledged: false ends
	// the store with ErrNotLeading. WaitFor asks it after it took its snapshot
	// and returns ServiceUnavailable if it says no. It must be fast and safe
	// for concurrent use.
	Leading func() bool
	// MarkFile, optional, is where the newest acknowledged record is noted. It
	// must lie apart from the log's own files: it is what tells that a log has
	// lost records which its server knows nothing of any more.
	MarkFile string
	// AcceptLoss goes on with what can be read where Open would refuse a
	// damaged or incomplete log. What it cannot read is gone for good. It
	// begins a new history: see Restore.
	AcceptLoss bool
	// Committed, optional, hears how long each commit that went well took, from
	// when it was encoded until it could be acknowledged; of several ops it is
	// told the first. Appended hears how long each record took to be stored and
	// synced. They are called on the way of every write, concurrently: they must
	// be fast.
	Committed func(op core.Op, took time.Duration)
	Appended  func(took time.Duration)
	// Logger is required.
	Logger *slog.Logger

	// LazyFlush is how long lazy changes may stay out of the log; 1s.
	LazyFlush time.Duration
	// Decoders is how many records are decoded at once while the state is read, each of
	// which may take some megabytes; GOMAXPROCS when Open is called.
	Decoders int
	// DrainTimeout bounds how long Run finishes what was accepted; 5s.
	DrainTimeout time.Duration
	// SnapshotBytes and SnapshotRecords of log since the last snapshot cause
	// the next; 64 MiB (or the last snapshot's own size, if that is more) and
	// 100,000.
	SnapshotBytes   int64
	SnapshotRecords int64
	// RingEvents and RingBytes bound the recent changes that are kept for the
	// watches of each resource; 8,192 and 16 MiB of encoded objects.
	RingEvents int
	RingBytes  int

	// jump overrides revisionJump in tests.
	jump int64
	// mark is what MarkFile held when the store was opened.
	mark Mark
}

// Validate says everything that is wrong with the configuration.
func (c *Config) Validate() error {
	var errs []error
	if c.Log == nil {
		errs = append(errs, errors.New("store config: Log is required"))
	}
	if c.Snapshots == nil {
		errs = append(errs, errors.New("store config: Snapshots is required"))
	}
	if c.Key.aead == nil {
		errs = append(errs, errors.New("store config: Key is required"))
	}
	if c.Logger == nil {
		errs = append(errs, errors.New("store config: Logger is required"))
	}
	for _, n := range []struct {
		name  string
		value int64
	}{
		{"LazyFlush", int64(c.LazyFlush)},
		{"Decoders", int64(c.Decoders)},
		{"DrainTimeout", int64(c.DrainTimeout)},
		{"SnapshotBytes", c.SnapshotBytes},
		{"SnapshotRecords", c.SnapshotRecords},
		{"RingEvents", int64(c.RingEvents)},
		{"RingBytes", int64(c.RingBytes)},
	} {
		if n.value < 0 {
			errs = append(errs, fmt.Errorf("store config: %s must not be negative, it is %d", n.name, n.value))
		}
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.Durability == nil {
		c.Durability = func(core.GroupResource) core.Durability { return core.Durable }
	}
	if c.Leading == nil {
		c.Leading = func() bool { return true }
	}
	if c.Committed == nil {
		c.Committed = func(core.Op, time.Duration) {}
	}
	if c.Appended == nil {
		c.Appended = func(time.Duration) {}
	}
	setDefault(&c.LazyFlush, time.Second)
	setDefault(&c.Decoders, runtime.GOMAXPROCS(0))
	setDefault(&c.DrainTimeout, 5*time.Second)
	setDefault(&c.SnapshotBytes, 64<<20)
	setDefault(&c.SnapshotRecords, 100_000)
	setDefault(&c.RingEvents, 8192)
	setDefault(&c.RingBytes, 16<<20)
	setDefault(&c.jump, revisionJump)
	return c
}

func setDefault[T ~int | ~int64](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}
