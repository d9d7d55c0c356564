package store

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/weftrun/weft/bus"
)

// The versions of the record format: what is written, the oldest reader that
// understands what is written, and the newest that is read.
const (
	formatVersion = 1
	readerVersion = 1
)

const (
	headerSize   = 76
	checksumAt   = 72
	nonceAt      = 48
	nonceSize    = 24
	maxPlain     = bus.MaxPayload // of a body, so that decoding is bounded
	compressFrom = 4 << 10        // smaller bodies are not worth the CPU
)

type recordKind uint8

const (
	kindChanges  recordKind = 1
	kindTerm     recordKind = 2
	kindChunk    recordKind = 3
	kindManifest recordKind = 4
	kindFile     recordKind = 5
)

func (k recordKind) String() string {
	switch k {
	case kindChanges:
		return "changes"
	case kindTerm:
		return "term"
	case kindChunk:
		return "snapshot chunk"
	case kindManifest:
		return "snapshot manifest"
	case kindFile:
		return "piece of a file"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

const (
	codecNone uint8 = 0
	codecZstd uint8 = 1
)

// header is what a record says of itself in the clear.
type header struct {
	kind  recordKind
	term  int64
	first int64
	high  int64
	count uint32
}

// Errors of decoding, wrapped with the sequence number by the caller.
var (
	// ErrDamaged: a record, or one of a row, is not as it was written.
	ErrDamaged = errors.New("damaged")
	// ErrTooNew: a later version of Weft wrote it in a format unknown to this.
	ErrTooNew = errors.New("written by a newer version of weft")
	// ErrWrongKey: it was encrypted with another key.
	ErrWrongKey = errors.New("encrypted with another key")
)

var castagnoli = sync.OnceValue(func() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) })

// codec makes and opens records. Each store has its own: the compressor's
// parts wait on channels, which must not be shared between test bubbles. It is
// safe for concurrent use.
type codec struct {
	key     Key
	encoder func() *zstd.Encoder
	decoder func() *zstd.Decoder
	shared  *sharer // by the objects that the records hold
}

func newCodec(key Key) *codec {
	return &codec{key: key, encoder: sync.OnceValue(newEncoder), decoder: sync.OnceValue(newDecoder), shared: newSharer()}
}

func newEncoder() *zstd.Encoder {
	// Two use it: the committer and the snapshot's writer.
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false),
		zstd.WithEncoderConcurrency(2), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) // the options are constant
	}
	return e
}

func newDecoder() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxPlain))
	if err != nil {
		panic(err) // the options are constant
	}
	return d
}

func checksum(record []byte) uint32 {
	sum := crc32.Update(0, castagnoli(), record[:checksumAt])
	return crc32.Update(sum, castagnoli(), record[headerSize:])
}

// seal makes a record of a body. The body is not kept.
func (c *codec) seal(h header, body []byte) []byte {
	plain, method := body, codecNone
	if len(body) >= compressFrom {
		if packed := c.encoder().EncodeAll(body, nil); len(packed) < len(body) {
			plain, method = packed, codecZstd
		}
	}
	out := make([]byte, headerSize, headerSize+len(plain)+c.key.aead.Overhead())
	copy(out, "WEFT")
	out[4], out[5], out[6], out[7] = formatVersion, readerVersion, uint8(h.kind), method
	copy(out[8:16], c.key.id[:])
	le := binary.LittleEndian
	le.PutUint64(out[16:], uint64(h.term))
	le.PutUint64(out[24:], uint64(h.first))
	le.PutUint64(out[32:], uint64(h.high))
	le.PutUint32(out[40:], h.count)
	le.PutUint32(out[44:], uint32(len(body)))
	_, _ = rand.Read(out[nonceAt : nonceAt+nonceSize]) // never fails
	out = c.key.aead.Seal(out, out[nonceAt:nonceAt+nonceSize], plain, out[:checksumAt])
	le.PutUint32(out[checksumAt:], checksum(out))
	return out
}

// readHeader checks the parts that need no key.
func readHeader(record []byte) (header, error) {
	if len(record) < headerSize || string(record[:4]) != "WEFT" {
		return header{}, fmt.Errorf("%w: no record of weft (%d bytes)", ErrDamaged, len(record))
	}
	if reader := record[5]; reader > readerVersion {
		return header{}, fmt.Errorf("%w: format %d needs a reader of version %d, this one has %d",
			ErrTooNew, record[4], reader, readerVersion)
	}
	le := binary.LittleEndian
	if got, want := checksum(record), le.Uint32(record[checksumAt:]); got != want {
		return header{}, fmt.Errorf("%w: its checksum is %08x, should be %08x", ErrDamaged, got, want)
	}
	h := header{
		kind:  recordKind(record[6]),
		term:  int64(le.Uint64(record[16:])),
		first: int64(le.Uint64(record[24:])),
		high:  int64(le.Uint64(record[32:])),
		count: le.Uint32(record[40:]),
	}
	if h.kind < kindChanges || h.kind > kindFile || h.term < 0 || h.first < 0 || h.high < h.first {
		return header{}, fmt.Errorf("%w: its header makes no sense (%v, term %d, revisions %d to %d)",
			ErrDamaged, h.kind, h.term, h.first, h.high)
	}
	return h, nil
}

// open is seal's inverse. The body may alias record's memory.
func (c *codec) open(record []byte) (header, []byte, error) {
	h, err := readHeader(record)
	if err != nil {
		return header{}, nil, err
	}
	if id := [8]byte(record[8:16]); id != c.key.id {
		return header{}, nil, fmt.Errorf("%w: it names key %s, this is %s", ErrWrongKey, hex.EncodeToString(id[:]), c.key)
	}
	size := binary.LittleEndian.Uint32(record[44:])
	if size > maxPlain {
		return header{}, nil, fmt.Errorf("%w: a body of %d bytes, at most %d are allowed", ErrDamaged, size, maxPlain)
	}
	nonce := record[nonceAt : nonceAt+nonceSize]
	sealed := record[headerSize:]
	body, err := c.key.aead.Open(nil, nonce, sealed, record[:checksumAt])
	if err != nil {
		return header{}, nil, fmt.Errorf("%w: decrypt with %s: %w", ErrDamaged, c.key, err)
	}
	if body, err = c.unpack(record[7], body, int(size)); err != nil {
		return header{}, nil, err
	}
	return h, body, nil
}

func (c *codec) unpack(method uint8, body []byte, size int) ([]byte, error) {
	switch method {
	case codecNone:
	case codecZstd:
		plain, err := c.decoder().DecodeAll(body, make([]byte, 0, size))
		if err != nil {
			return nil, fmt.Errorf("%w: decompress: %w", ErrDamaged, err)
		}
		body = plain
	default:
		return nil, fmt.Errorf("%w: unknown codec %d", ErrDamaged, method)
	}
	if len(body) != size {
		return nil, fmt.Errorf("%w: a body of %d bytes, should have %d", ErrDamaged, len(body), size)
	}
	return body, nil
}
