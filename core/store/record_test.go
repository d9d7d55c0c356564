package store

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weftrun/weft/core"
)

func zeroCodec(t testing.TB) *codec {
	t.Helper()
	key, err := NewKey(make([]byte, KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return newCodec(key)
}

func sampleBody() (header, []byte, []item) {
	items := []item{
		{kind: itemObject, revision: 100, key: core.Key{Resource: "pods", Namespace: "ns", Name: "a"}, data: []byte("one")},
		{kind: itemDeleted, revision: 103, key: core.Key{Resource: "pods", Namespace: "ns", Name: "b"}},
		{kind: itemObject, revision: 1 << 40, key: core.Key{Group: "apps", Resource: "deployments", Name: "c"}, data: bytes.Repeat([]byte("x"), 10_000)},
	}
	h := header{kind: kindChanges, term: 3, first: 100, high: 1 << 41, count: uint32(len(items))}
	var body []byte
	for _, it := range items {
		body = appendItem(body, h.first, it)
	}
	return h, body, items
}

func TestRecordRoundTrip(t *testing.T) {
	key := zeroCodec(t)
	h, body, items := sampleBody()
	record := key.seal(h, body)
	if bytes.Contains(record, []byte("pods")) {
		t.Error("the record shows its content")
	}
	if len(record) > len(body)/2 {
		t.Errorf("%d bytes for a body of %d that compresses well", len(record), len(body))
	}
	got, opened, err := key.open(record)
	if err != nil || got != h || !bytes.Equal(opened, body) {
		t.Fatalf("opened %+v, %v", got, err)
	}
	var read []item
	if err := decodeItems(got, opened, func(it item) error {
		read = append(read, it)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(items, read, cmp.AllowUnexported(item{})); diff != "" {
		t.Error(diff)
	}
}

// TestRecordTampering: a header that was changed and given a new checksum is
// refused by the encryption.
func TestRecordTampering(t *testing.T) {
	key := zeroCodec(t)
	h, body, _ := sampleBody()
	for _, at := range []int{4, 6, 7, 16, 24, 40, 44, 48, headerSize + 1} {
		record := key.seal(h, body)
		record[at] ^= 1
		binary.LittleEndian.PutUint32(record[checksumAt:], checksum(record))
		if _, _, err := key.open(record); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("byte %d: got %v, want damaged", at, err)
		}
	}
}

// FuzzRecord opens arbitrary records whose checksum is right.
func FuzzRecord(f *testing.F) {
	key := zeroCodec(f)
	h, body, _ := sampleBody()
	f.Add(key.seal(h, body))
	f.Add(key.seal(header{kind: kindTerm, term: 1}, nil))
	f.Add([]byte("WEFT"))
	f.Fuzz(func(t *testing.T, record []byte) {
		if len(record) >= headerSize {
			binary.LittleEndian.PutUint32(record[checksumAt:], checksum(record))
		}
		h, body, err := key.open(record)
		if err != nil {
			return
		}
		_ = decodeItems(h, body, func(item) error { return nil }) // an error is fine, a panic is not
	})
}

// FuzzBody decodes arbitrary bodies: no panic, memory bounded by the input, and
// what is accepted is written the same way again.
func FuzzBody(f *testing.F) {
	h, body, _ := sampleBody()
	f.Add(body, h.count)
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x7f}, uint32(1<<31))
	f.Fuzz(func(t *testing.T, body []byte, count uint32) {
		h := header{kind: kindChanges, first: 100, high: 1 << 60, count: count}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var again []byte
		err := decodeItems(h, body, func(it item) error {
			again = appendItem(again, h.first, it)
			return nil
		})
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > uint64(64*len(body)+1<<20) {
			t.Errorf("%d bytes allocated for %d", grown, len(body))
		}
		if err == nil && len(again) > len(body) {
			t.Errorf("decoded %d bytes to what needs %d", len(body), len(again))
		}
	})
}

// FuzzUnpack decompresses arbitrary bytes to a bounded size.
func FuzzUnpack(f *testing.F) {
	f.Add(zeroCodec(f).encoder().EncodeAll(make([]byte, 1<<14), nil), 1<<14)
	f.Add([]byte{}, 0)
	codec := zeroCodec(f)
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		if size < 0 || size > 1<<16 {
			return
		}
		if body, err := codec.unpack(codecZstd, data, size); err == nil && len(body) != size {
			t.Errorf("%d bytes, want %d", len(body), size)
		}
	})
}
