package store

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/core"
)

// generation describes a complete snapshot; its manifest's body is this as
// JSON.
type generation struct {
	Revision int64     `json:"revision"` // all changes up to here are in it
	High     int64     `json:"high"`     // the newest revision that the log knew of
	Term     int64     `json:"term"`
	Sequence uint64    `json:"sequence"` // the newest log record that is in it
	First    uint64    `json:"first"`    // its first chunk in the snapshot log
	Sums     []uint32  `json:"sums"`     // the chunks' checksums
	Objects  int       `json:"objects"`
	Bytes    int64     `json:"bytes"` // of its chunks
	Written  time.Time `json:"written"`
}

// manifest is the sequence of the generation's manifest.
func (g *generation) manifest() uint64 { return g.First + uint64(len(g.Sums)) }

// compactLoop writes a snapshot whenever one is due.
func (s *Store) compactLoop(ctx context.Context, finished <-chan struct{}) error {
	for {
		select {
		case <-s.compact:
		case <-ctx.Done():
			return nil
		case <-finished:
			return nil
		}
		start := time.Now()
		err := s.Compact(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			g := s.stats.generation.Load()
			s.config.Logger.Info("snapshot written", "revision", g.Revision, "objects", g.Objects, "took", time.Since(start))
			continue
		}
		// Nothing is lost: the log stays as it is. The next record asks again.
		s.config.Logger.Warn("snapshot not written", "err", err)
		if pause(ctx, retrySnapshot) != nil {
			return nil
		}
	}
}

// retrySnapshot is the least time between two attempts when one went wrong.
const retrySnapshot = 5 * time.Second

// Compact writes a snapshot now, reads it back, and trims both logs to what
// the newest two snapshots need. Commits go on meanwhile. An error leaves the
// older snapshots and the log as they were.
func (s *Store) Compact(ctx context.Context) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.ended(); err != nil {
		return err
	}
	return s.compactOver(ctx, s.stats.generation.Load())
}

// rebase writes a snapshot and forgets everything older, which must not be read
// again.
func (s *Store) rebase(ctx context.Context) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.compactOver(ctx, nil); err != nil {
		return err
	}
	return s.trim(ctx, s.stats.generation.Load())
}

// compactOver writes a snapshot, reads it back, and trims both logs to what it
// and the older one need.
func (s *Store) compactOver(ctx context.Context, older *generation) error {
	// Before the capture: what comes between the two counts once more, at worst.
	records, bytes := s.stats.logRecords.Load(), s.stats.logBytes.Load()
	w := snapshotWriter{store: s, capture: s.capture()}
	if err := w.write(ctx); err != nil {
		return fmt.Errorf("write snapshot of revision %d: %w", w.view.revision, err)
	}
	if err := w.verify(ctx); err != nil {
		return fmt.Errorf("verify snapshot of revision %d: %w", w.view.revision, err)
	}
	s.stats.generation.Store(&w.generation)
	s.stats.logRecords.Add(-records)
	s.stats.logBytes.Add(-bytes)
	if older == nil {
		return nil
	}
	return s.trim(ctx, older)
}

// trim drops what is older than a generation.
func (s *Store) trim(ctx context.Context, older *generation) error {
	// The older generation's last record stays, so that the log says itself
	// that nothing is missing between the two.
	if err := s.config.Log.Trim(ctx, older.Sequence); err != nil {
		return fmt.Errorf("trim log before record %d: %w", older.Sequence, err)
	}
	if err := s.config.Snapshots.Trim(ctx, older.First); err != nil {
		return fmt.Errorf("trim snapshots before record %d: %w", older.First, err)
	}
	return nil
}

// capture is what a snapshot is made of, taken at one moment.
type capture struct {
	view   *view
	logged int64
	newest map[core.GroupResource]map[string]int64
}

func (s *Store) capture() capture {
	s.ringsMu.RLock()
	rings := make(map[core.GroupResource]*ring, len(s.rings))
	maps.Copy(rings, s.rings)
	s.ringsMu.RUnlock()

	s.applying.Lock()
	defer s.applying.Unlock()
	c := capture{view: s.published.Load(), newest: make(map[core.GroupResource]map[string]int64, len(rings))}
	for resource, r := range rings {
		if s.config.Durability(resource) == core.Volatile {
			continue
		}
		t := c.view.tables[resource]
		c.newest[resource] = r.newestIn(func(namespace string, _ int64) bool {
			return t != nil && hasNamespace(t, namespace)
		})
	}
	s.mu.Lock()
	c.logged = s.logged
	s.mu.Unlock()
	return c
}

type snapshotWriter struct {
	capture
	store      *Store
	log        appender
	generation generation

	body  []byte
	count uint32
}

func (w *snapshotWriter) write(ctx context.Context) error {
	c := &w.store.config
	_, last, err := c.Snapshots.Bounds(ctx)
	if err != nil {
		return err
	}
	w.log = appender{log: c.Snapshots, name: "snapshots", last: last, logger: c.Logger}
	w.generation = generation{
		Revision: w.view.revision, High: max(w.logged, w.view.revision), Term: w.store.term,
		Sequence: w.view.sequence, First: last + 1, Written: time.Now().UTC(),
	}
	if err := w.writeNewest(ctx); err != nil {
		return err
	}
	if err := w.writeObjects(ctx); err != nil {
		return err
	}
	if err := w.flush(ctx); err != nil {
		return err
	}
	if err := w.checkTerm(ctx); err != nil {
		return err
	}
	body, err := json.Marshal(&w.generation)
	if err != nil {
		return err
	}
	return w.log.append(ctx, w.store.codec.seal(w.header(kindManifest, 1), body))
}

// checkTerm refuses to complete a snapshot when the log has a newer leader: it
// would stand behind a newer one of that leader, and the log that it needs be
// trimmed. A leader that comes after this check writes no snapshot that this
// one could still follow, because the appends conflict.
func (w *snapshotWriter) checkTerm(ctx context.Context) error {
	last, err := w.store.config.Log.Last(ctx)
	if err != nil {
		return fmt.Errorf("read last record of log WAL: %w", err)
	}
	h, err := readHeader(last.Data)
	if err != nil {
		return fmt.Errorf("log WAL: record %d: %w", last.Sequence, err)
	}
	if h.term != w.store.term {
		return fmt.Errorf("log WAL: %w: term %d has begun, this is term %d", ErrLost, h.term, w.store.term)
	}
	return nil
}

func (w *snapshotWriter) writeNewest(ctx context.Context) error {
	resources := make([]core.GroupResource, 0, len(w.newest))
	for resource := range w.newest {
		resources = append(resources, resource)
	}
	sortResources(resources)
	for _, resource := range resources {
		for namespace, revision := range w.newest[resource] {
			key := core.Key{Group: resource.Group, Resource: resource.Resource, Namespace: namespace}
			if err := w.add(ctx, item{kind: itemNewest, revision: revision, key: key}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *snapshotWriter) writeObjects(ctx context.Context) error {
	resources := w.view.resources()
	kept := resources[:0]
	for _, resource := range resources {
		if w.store.config.Durability(resource) != core.Volatile {
			kept = append(kept, resource)
		}
	}
	var err error
	w.view.all(kept, func(e *entry) bool {
		var data []byte
		if data, err = core.Marshal(e.object); err != nil {
			return false
		}
		w.generation.Objects++
		err = w.add(ctx, item{kind: itemObject, revision: e.revision, key: e.key, data: data})
		return err == nil
	})
	return err
}

func (w *snapshotWriter) add(ctx context.Context, it item) error {
	w.body = appendItem(w.body, 0, it)
	w.count++
	if len(w.body) < chunkSize {
		return nil
	}
	return w.flush(ctx)
}

func (w *snapshotWriter) flush(ctx context.Context) error {
	if w.count == 0 {
		return nil
	}
	record := w.store.codec.seal(w.header(kindChunk, w.count), w.body)
	w.body, w.count = w.body[:0], 0
	w.generation.Bytes += int64(len(record))
	w.generation.Sums = append(w.generation.Sums, recordSum(record))
	return w.log.append(ctx, record)
}

func (w *snapshotWriter) header(kind recordKind, count uint32) header {
	return header{kind: kind, term: w.store.term, high: w.view.revision, count: count}
}

// recordSum is the checksum that a record's header holds.
func recordSum(record []byte) uint32 { return binary.LittleEndian.Uint32(record[checksumAt:]) }

// verify reads the whole snapshot back.
func (w *snapshotWriter) verify(ctx context.Context) error {
	records := newCodec(w.store.config.Key) // its decompressor's memory is not kept
	g, objects, next := &w.generation, 0, w.generation.First
	for record, err := range w.store.config.Snapshots.Read(ctx, g.First) {
		if err != nil {
			return err
		}
		if record.Sequence != next {
			return fmt.Errorf("record %d is missing", next)
		}
		next++
		if record.Sequence > w.log.last {
			break
		}
		h, body, err := records.open(record.Data)
		if err != nil {
			return fmt.Errorf("record %d: %w", record.Sequence, err)
		}
		if record.Sequence == w.log.last {
			continue
		}
		if err := g.checkChunk(h, record); err != nil {
			return err
		}
		if err := decodeItems(h, body, func(it item) error {
			if it.kind == itemObject {
				objects++
			}
			return nil
		}); err != nil {
			return fmt.Errorf("record %d: %w", record.Sequence, err)
		}
	}
	if next <= w.log.last || objects != g.Objects {
		return fmt.Errorf("%w: read back %d objects up to record %d, wrote %d up to record %d",
			ErrDamaged, objects, next-1, g.Objects, w.log.last)
	}
	return nil
}

// checkChunk says whether record is the chunk that the manifest means.
func (g *generation) checkChunk(h header, record bus.Record) error {
	i := record.Sequence - g.First
	if h.kind != kindChunk || i >= uint64(len(g.Sums)) || recordSum(record.Data) != g.Sums[i] {
		return fmt.Errorf("record %d: %w: it is no chunk of the snapshot of revision %d", record.Sequence, ErrDamaged, g.Revision)
	}
	return nil
}

// openManifest decodes a manifest, whose record has that sequence.
func (c *codec) openManifest(record bus.Record) (*generation, error) {
	h, body, err := c.open(record.Data)
	if err != nil {
		return nil, err
	}
	if h.kind != kindManifest {
		return nil, errNoManifest
	}
	g := &generation{}
	if err := json.Unmarshal(body, g); err != nil {
		return nil, fmt.Errorf("%w: decode manifest: %w", ErrDamaged, err)
	}
	if g.First == 0 || g.manifest() != record.Sequence || g.Revision != h.high || g.High < g.Revision {
		return nil, fmt.Errorf("%w: its manifest makes no sense", ErrDamaged)
	}
	return g, nil
}

var errNoManifest = errors.New("no snapshot manifest")
