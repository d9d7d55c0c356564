package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/weftrun/weft/bus"
)

// Mark says what a log is known to hold: it was acknowledged, so whatever the
// log's server says later, it was there. The zero Mark knows nothing.
type Mark struct {
	Sequence uint64 // the newest record that was acknowledged
	Sum      uint32 // its checksum
	Snapshot uint64 // the manifest of the newest snapshot; 0 for none
}

// markSize is that of the file: magic, the three fields, and a CRC-32C.
const markSize = 32

const markMagic = "WEFTMARK"

// ReadMark reads the mark in a file. Of a file that is not there, or holds
// none, the mark is zero; of the latter with an error that wraps ErrDamaged.
func ReadMark(path string) (Mark, error) {
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Mark{}, nil
	case err != nil:
		return Mark{}, fmt.Errorf("read the mark of the log: %w", err)
	}
	m, err := decodeMark(data)
	if err != nil {
		return Mark{}, fmt.Errorf("read the mark of the log in %s: %w", path, err)
	}
	return m, nil
}

func decodeMark(data []byte) (Mark, error) {
	le := binary.LittleEndian
	if len(data) != markSize || string(data[:8]) != markMagic || crc32.Checksum(data[:28], castagnoli()) != le.Uint32(data[28:]) {
		return Mark{}, fmt.Errorf("%w: it is no mark (%d bytes)", ErrDamaged, len(data))
	}
	return Mark{Sequence: le.Uint64(data[8:]), Snapshot: le.Uint64(data[16:]), Sum: le.Uint32(data[24:])}, nil
}

func (m Mark) encode() (data [markSize]byte) {
	le := binary.LittleEndian
	copy(data[:], markMagic)
	le.PutUint64(data[8:], m.Sequence)
	le.PutUint64(data[16:], m.Snapshot)
	le.PutUint32(data[24:], m.Sum)
	le.PutUint32(data[28:], crc32.Checksum(data[:28], castagnoli()))
	return data
}

// marker keeps the mark in its file. It is never synced: a power loss may set
// it back, which only makes it say less than is true. The file lies within one
// sector and keeps its size, so that a full disk does not matter, and half a
// mark is noticed by its checksum. The zero marker keeps nothing.
type marker struct {
	file *os.File
	mark Mark
	said bool // that it cannot be written
}

// openMarker returns a marker for the file at path; none if path is empty.
func openMarker(path string) (marker, error) {
	if path == "" {
		return marker{}, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return marker{}, fmt.Errorf("open the mark of the log: %w", err)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return marker{}, fmt.Errorf("open the mark of the log: %w", err)
	}
	return marker{file: file}, nil
}

// openMark opens the store's mark and notes the term's record.
func (s *Store) openMark() error {
	var err error
	if s.mark, err = openMarker(s.config.MarkFile); err != nil {
		return err
	}
	s.setMark(s.termSum)
	return nil
}

// set writes what has changed.
func (m *marker) set(mark Mark) error {
	if m.file == nil || mark == m.mark {
		return nil
	}
	data := mark.encode()
	if _, err := m.file.WriteAt(data[:], 0); err != nil {
		return fmt.Errorf("write the mark of the log: %w", err)
	}
	m.mark = mark
	return nil
}

func (m *marker) close() error {
	if m.file == nil {
		return nil
	}
	return m.file.Close()
}

// CheckRecord says whether data is a record of a log as it was written: it
// checks the header and the checksum, which needs no key.
func CheckRecord(data []byte) error {
	_, err := readHeader(data)
	return err
}

// checkMark refuses a log that lacks what it acknowledged.
func (r *recovery) checkMark(last uint64) error {
	m := r.config.mark
	if m.Sequence <= last {
		return nil
	}
	return fmt.Errorf("log WAL: %w: records %d to %d were acknowledged", ErrLogCut, last+1, m.Sequence)
}

// checkMarked refuses a record that is another than was acknowledged.
func (r *recovery) checkMarked(sequence uint64, sum uint32) error {
	m := r.config.mark
	if m.Sequence != sequence || m.Sum == sum {
		return nil
	}
	return fmt.Errorf("%w: its checksum is %08x, that of the record acknowledged here was %08x: this is the log of another history",
		ErrDamaged, sum, m.Sum)
}

// checkSnapshotMark says in the log that the newest snapshot is gone.
func (r *recovery) checkSnapshotMark(newest bus.Record) {
	if m := r.config.mark; m.Snapshot > newest.Sequence {
		r.config.Logger.Warn("the newest snapshot is gone, recovering from what is older",
			"log", "snapshots", "record", m.Snapshot, "last", newest.Sequence)
	}
}
