package embedded

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/weftrun/weft/bus"
)

// Inspection is what the files of a log hold, as no server has touched them.
type Inspection struct {
	// Last is the newest record before the first damage; 0 for none.
	Last uint64
	// Damage is the first place that does not read as it was written; nil if
	// all does.
	Damage *Damage
}

// Damage is a place in a file of a log.
type Damage struct {
	File   string
	Offset int64
	Reason string
	// Behind is the first whole record after it, in this file or a later one;
	// 0 for none. A record that was being written when the power went has
	// nothing behind it.
	Behind uint64
}

// String says where it is, and what.
func (d *Damage) String() string {
	if d == nil {
		return "none"
	}
	return fmt.Sprintf("file %s, byte %d: %s", d.File, d.Offset, d.Reason)
}

// The layout of a NATS server's message blocks: length (the highest bit says
// that there are headers), sequence (the two highest bits mark deletions),
// time, length of the subject, subject, length of the headers if there are any,
// headers, data, checksum.
const (
	blockHead    = 22
	blockSum     = 8
	blockHeaders = 1 << 31
	blockGone    = 3 << 62
	blockLargest = 32 << 20
)

// Inspect reads the files of a log of the server in dir before a server does: a
// server that starts cuts a damaged file at the damage, and says nothing of the
// records behind it. check says whether a record's data is as it was written.
// Of a log without files the result is empty.
func Inspect(dir, log string, check func(record []byte) error) (Inspection, error) {
	files, err := blocks(dir, log)
	if err != nil {
		return Inspection{}, fmt.Errorf("inspect log %s: %w", log, err)
	}
	var in Inspection
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return Inspection{}, fmt.Errorf("inspect log %s: %w", log, err)
		}
		if in.Damage == nil {
			in.read(file, data, bus.RecordSubject(log), check)
		} else if in.Damage.Behind == 0 {
			in.Damage.Behind = behind(data, bus.RecordSubject(log), in.Last, check)
		}
	}
	return in, nil
}

// Forget removes what the server has noted about a log's files, so that it
// reads them anew, and cuts them where they are damaged.
func Forget(dir, log string) error {
	files, err := filepath.Glob(filepath.Join(dir, "streams", "jetstream", "*", "streams", log, "msgs", "index.db"))
	for _, file := range files {
		err = errors.Join(err, os.Remove(file))
	}
	if err != nil {
		return fmt.Errorf("forget the index of log %s: %w", log, err)
	}
	return nil
}

// blocks lists a log's files in their order.
func blocks(dir, log string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "streams", "jetstream", "*", "streams", log, "msgs", "*.blk"))
	if err != nil {
		return nil, err
	}
	number := func(file string) int {
		n, _ := strconv.Atoi(strings.TrimSuffix(filepath.Base(file), ".blk")) // others come first
		return n
	}
	slices.SortFunc(files, func(a, b string) int { return cmp.Compare(number(a), number(b)) })
	return files, nil
}

// read goes through one file until its end or its first damage.
func (in *Inspection) read(file string, data []byte, subject string, check func([]byte) error) {
	for at := 0; at < len(data); {
		r, err := parseBlock(data[at:], subject)
		if err == nil && r.data != nil {
			err = check(r.data)
		}
		if err == nil && r.data != nil && in.Last != 0 && r.sequence > in.Last+1 {
			err = fmt.Errorf("record %d follows record %d", r.sequence, in.Last)
		}
		if err != nil {
			in.Damage = &Damage{File: file, Offset: int64(at), Reason: err.Error()}
			in.Damage.Behind = behind(data[at:], subject, in.Last, check)
			return
		}
		if r.data != nil {
			in.Last = max(in.Last, r.sequence)
		}
		at += r.size
	}
}

// blockRecord is one record of a block.
type blockRecord struct {
	sequence uint64
	size     int
	data     []byte // nil of a deletion
}

func parseBlock(b []byte, subject string) (blockRecord, error) {
	if len(b) < blockHead+blockSum {
		return blockRecord{}, fmt.Errorf("%d bytes are too few for a record", len(b))
	}
	le := binary.LittleEndian
	length := le.Uint32(b)
	r := blockRecord{sequence: le.Uint64(b[4:]), size: int(length &^ blockHeaders)}
	name := int(le.Uint16(b[20:]))
	if r.size < blockHead+blockSum+name || r.size > blockLargest || r.size > len(b) {
		return blockRecord{}, fmt.Errorf("a record of %d bytes, of which %d are there", r.size, len(b))
	}
	if r.sequence&blockGone != 0 {
		return r, nil
	}
	if got := b[blockHead : blockHead+name]; string(got) != subject {
		return blockRecord{}, fmt.Errorf("a record under %.40q, not %q", got, subject)
	}
	rest := b[blockHead+name : r.size-blockSum]
	if length&blockHeaders != 0 {
		if len(rest) < 4 || uint64(le.Uint32(rest)) > uint64(len(rest)-4) {
			return blockRecord{}, errors.New("a record whose headers are longer than itself")
		}
		rest = rest[4+le.Uint32(rest):]
	}
	r.data = slices.Clip(rest)
	if r.data == nil {
		r.data = []byte{}
	}
	return r, nil
}

// behind looks for the first whole record after last that stands anywhere in b.
func behind(b []byte, subject string, last uint64, check func([]byte) error) uint64 {
	for {
		at := bytes.Index(b, []byte(subject))
		if at < 0 {
			return 0
		}
		if at >= blockHead {
			r, err := parseBlock(b[at-blockHead:], subject)
			if err == nil && r.data != nil && r.sequence > last && check(r.data) == nil {
				return r.sequence
			}
		}
		b = b[at+len(subject):]
	}
}
