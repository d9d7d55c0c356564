package store

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/weftrun/weft/core"
)

// A backup is a row of records, each behind its length as four bytes, after
// these eight: the pieces of files, chunks of objects as in a snapshot, and a
// manifest at last, without which it is no backup.
const backupMagic = "WEFTBAK1"

// maxFrame bounds a record of a backup in bytes.
const maxFrame = maxPlain + headerSize + 64

// BackupInfo is what a backup says of itself.
type BackupInfo struct {
	Revision int64     `json:"revision"` // all changes up to here are in it
	Term     int64     `json:"term"`
	Objects  int       `json:"objects"`
	Files    int       `json:"files"`
	Sums     []uint32  `json:"sums"` // the checksums of the records before
	Written  time.Time `json:"written"`
}

// BackupFile is a file that goes with a backup. Its content is read to its end.
type BackupFile struct {
	Name    string
	Content io.Reader
}

// Backup writes everything durable at one revision, and files beside it,
// encrypted with key. Commits go on meanwhile. What was written before an error
// is no backup.
func (s *Store) Backup(ctx context.Context, w io.Writer, key Key, files iter.Seq2[BackupFile, error]) error {
	if err := s.ended(); err != nil {
		return err
	}
	c := s.capture()
	b := &backupWriter{ctx: ctx, w: bufio.NewWriterSize(w, 1<<20), codec: newCodec(key), term: s.term, view: c.view}
	b.info = BackupInfo{Revision: c.view.revision, Term: s.term, Written: time.Now().UTC()}
	if err := b.write(s.config.Durability, files); err != nil {
		return fmt.Errorf("write backup of revision %d: %w", c.view.revision, err)
	}
	return nil
}

type backupWriter struct {
	ctx   context.Context
	w     *bufio.Writer
	codec *codec
	term  int64
	view  *view
	info  BackupInfo
	body  []byte
	count uint32
}

func (b *backupWriter) write(durability func(core.GroupResource) core.Durability, files iter.Seq2[BackupFile, error]) error {
	if _, err := b.w.WriteString(backupMagic); err != nil {
		return err
	}
	for file, err := range files {
		if err != nil {
			return err
		}
		if err := b.file(file); err != nil {
			return fmt.Errorf("file %s: %w", file.Name, err)
		}
	}
	var resources []core.GroupResource
	for _, resource := range b.view.resources() {
		if durability(resource) != core.Volatile {
			resources = append(resources, resource)
		}
	}
	var err error
	b.view.all(resources, func(e *entry) bool {
		err = b.object(e)
		return err == nil
	})
	if err == nil {
		err = b.flush(kindChunk)
	}
	if err != nil {
		return err
	}
	if b.body, err = json.Marshal(&b.info); err != nil {
		return err
	}
	b.count = 1
	return errors.Join(b.flush(kindManifest), b.w.Flush())
}

func (b *backupWriter) object(e *entry) error {
	data, err := core.Marshal(e.object)
	if err != nil {
		return err
	}
	b.body = appendItem(b.body, 0, item{kind: itemObject, revision: e.revision, key: e.key, data: data})
	b.count++
	b.info.Objects++
	if len(b.body) < chunkSize {
		return nil
	}
	return b.flush(kindChunk)
}

// file writes pieces; an empty one ends the file.
func (b *backupWriter) file(f BackupFile) error {
	if len(f.Name) == 0 || len(f.Name) > maxNameSize {
		return fmt.Errorf("a name of %d bytes", len(f.Name))
	}
	b.info.Files++
	buffer := make([]byte, chunkSize)
	for {
		n, err := io.ReadFull(f.Content, buffer)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		b.body = binary.AppendUvarint(b.body, uint64(len(f.Name)))
		b.body = append(append(b.body, f.Name...), buffer[:n]...)
		b.count = 1
		if err := b.flush(kindFile); err != nil || n == 0 {
			return err
		}
	}
}

func (b *backupWriter) flush(kind recordKind) error {
	if b.count == 0 {
		return nil
	}
	if err := b.ctx.Err(); err != nil {
		return context.Cause(b.ctx)
	}
	record := b.codec.seal(header{kind: kind, term: b.term, high: b.view.revision, count: b.count}, b.body)
	b.body, b.count = b.body[:0], 0
	b.info.Sums = append(b.info.Sums, recordSum(record))
	if err := binary.Write(b.w, binary.LittleEndian, uint32(len(record))); err != nil {
		return err
	}
	_, err := b.w.Write(record)
	return err
}

// BackupReader reads a backup and checks all of it: every checksum, every
// object decoded, everything counted. The zero value of a field is not called.
type BackupReader struct {
	// File is given each file as its pieces come; the last is empty. The bytes
	// are its own.
	File func(name string, piece []byte) error

	item  func(*decodedItem) error
	codec *codec
	sums  []uint32
	info  BackupInfo
	open  string // the file whose pieces come
}

// Read reads a whole backup. Nothing of it is to be relied on before it
// returns without an error. Errors name the record.
func (b *BackupReader) Read(r io.Reader, key Key) (BackupInfo, error) {
	b.codec, b.sums, b.info, b.open = newCodec(key), nil, BackupInfo{}, ""
	in := bufio.NewReaderSize(r, 1<<20)
	magic := make([]byte, len(backupMagic))
	if _, err := io.ReadFull(in, magic); err != nil || string(magic) != backupMagic {
		return BackupInfo{}, fmt.Errorf("read backup: %w: it does not begin as a backup of weft does", ErrDamaged)
	}
	for {
		done, err := b.frame(in)
		if err != nil {
			return BackupInfo{}, fmt.Errorf("read backup: record %d: %w", len(b.sums)+1, err)
		}
		if done {
			return b.info, nil
		}
	}
}

func (b *BackupReader) frame(in *bufio.Reader) (done bool, err error) {
	var size uint32
	if err := binary.Read(in, binary.LittleEndian, &size); err != nil {
		return false, fmt.Errorf("%w: it ends before its manifest", cut(err))
	}
	if size < headerSize || size > maxFrame {
		return false, fmt.Errorf("%w: a record of %d bytes", ErrDamaged, size)
	}
	record, err := io.ReadAll(io.LimitReader(in, int64(size))) // not what a damaged length says at once
	if err != nil {
		return false, err
	}
	if len(record) < int(size) {
		return false, fmt.Errorf("%w: it ends within a record", ErrDamaged)
	}
	h, body, err := b.codec.open(record)
	if err != nil {
		return false, err
	}
	switch h.kind {
	case kindFile:
		err = b.piece(body)
	case kindChunk:
		err = b.chunk(h, body)
	case kindManifest:
		return true, b.end(in, h, body)
	default:
		err = fmt.Errorf("%w: a %v in a backup", ErrDamaged, h.kind)
	}
	b.sums = append(b.sums, recordSum(record))
	return false, err
}

// cut makes an end an error that says so.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrDamaged
	}
	return err
}

func (b *BackupReader) piece(body []byte) error {
	n, size := binary.Uvarint(body)
	if size <= 0 || n == 0 || n > maxNameSize || n > uint64(len(body)-size) {
		return fmt.Errorf("%w: a piece of a file without a name", ErrDamaged)
	}
	name, piece := string(body[size:size+int(n)]), body[size+int(n):]
	if b.open != "" && b.open != name {
		return fmt.Errorf("%w: a piece of %q follows one of %q", ErrDamaged, name, b.open)
	}
	b.open = name
	if len(piece) == 0 {
		b.open = ""
		b.info.Files++
	}
	if b.File == nil {
		return nil
	}
	return b.File(name, piece)
}

func (b *BackupReader) chunk(h header, body []byte) error {
	return decodeItems(h, body, func(it item) error {
		if it.kind != itemObject {
			return fmt.Errorf("%w: an entry of type %d", ErrDamaged, it.kind)
		}
		object, err := it.decode()
		if err != nil {
			return err
		}
		b.info.Objects++
		if b.item == nil {
			return nil
		}
		return b.item(&decodedItem{kind: it.kind, revision: it.revision, key: it.key, object: object, size: len(it.data)})
	})
}

// end compares the manifest with what was read.
func (b *BackupReader) end(in *bufio.Reader, h header, body []byte) error {
	var m BackupInfo
	if err := json.Unmarshal(body, &m); err != nil {
		return fmt.Errorf("%w: decode manifest: %w", ErrDamaged, err)
	}
	if m.Objects != b.info.Objects || m.Files != b.info.Files || b.open != "" || len(m.Sums) != len(b.sums) {
		return fmt.Errorf("%w: %d objects and %d files in %d records, the manifest says %d, %d and %d",
			ErrDamaged, b.info.Objects, b.info.Files, len(b.sums), m.Objects, m.Files, len(m.Sums))
	}
	for i, sum := range m.Sums {
		if b.sums[i] != sum {
			return fmt.Errorf("%w: record %d is not the one that was written", ErrDamaged, i+1)
		}
	}
	if m.Revision != h.high || m.Term != h.term || m.Revision < 0 {
		return fmt.Errorf("%w: its manifest makes no sense", ErrDamaged)
	}
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something follows its manifest", ErrDamaged)
	}
	b.info = m
	return nil
}

// Restore replaces what the logs hold by the objects of a backup that key
// opens, in one step: before its last write everything is as it was, and after
// it the backup's state is. A new history begins: revisions jump by 2^32
// or more, and nobody may resume a watch from before. Whoever leads is deposed.
// The Config's own key encrypts the logs from then on; its MarkFile is not used.
func Restore(ctx context.Context, config Config, backup io.Reader, key Key) (BackupInfo, error) {
	config.AcceptLoss, config.MarkFile = true, ""
	s, err := newStandby(config)
	if err != nil {
		return BackupInfo{}, err
	}
	info, err := s.recovery.replace(ctx, backup, key)
	if err != nil {
		return BackupInfo{}, fmt.Errorf("restore: %w", err)
	}
	return info, nil
}

// replace loads a backup in place of the logs, and writes it there.
func (r *recovery) replace(ctx context.Context, backup io.Reader, key Key) (BackupInfo, error) {
	r.reset()
	s := r.store
	reader := BackupReader{item: func(it *decodedItem) error {
		if !s.state.load(newEntry(it.key, it.object, it.revision, it.size, nil)) {
			return fmt.Errorf("%w: %s is in it twice", ErrDamaged, it.key)
		}
		ring := s.ring(it.key.GroupResource())
		ring.setNewest(it.key.Namespace, it.revision)
		return nil
	}}
	info, err := reader.Read(backup, key)
	if err != nil {
		return BackupInfo{}, err
	}
	r.base, r.high, s.term = info.Revision, info.Revision, info.Term
	if err := r.overtake(ctx); err != nil {
		return BackupInfo{}, err
	}
	if err := r.begin(ctx, r.overtake); err != nil {
		return BackupInfo{}, err
	}
	return info, s.rebase(ctx)
}

// overtake makes the next record follow the log's last one, with a higher term
// and revision.
func (r *recovery) overtake(ctx context.Context) error {
	_, last, err := r.config.Log.Bounds(ctx)
	if err != nil {
		return fmt.Errorf("read bounds of log WAL: %w", err)
	}
	r.store.log.last = last
	record, err := r.store.log.read(ctx)
	if err != nil || len(record.Data) == 0 {
		return nil //nolint:nilerr // what cannot be read is replaced
	}
	if h, err := readHeader(record.Data); err == nil {
		r.store.term, r.high = max(r.store.term, h.term), max(r.high, h.high)
	}
	return nil
}
