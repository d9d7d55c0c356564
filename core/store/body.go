package store

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/weftrun/weft/core"
)

type itemKind uint8

const (
	itemObject  itemKind = 1
	itemDeleted itemKind = 2
	itemNewest  itemKind = 3 // the newest revision of a resource in a namespace
)

// item is one entry of a body.
type item struct {
	kind     itemKind
	revision int64
	key      core.Key
	data     []byte // of an object, as core.Marshal encodes it
}

// maxNameSize bounds each of a key's four strings, and is more than Kubernetes
// allows for any of them.
const maxNameSize = 1 << 10

func appendItem(b []byte, first int64, it item) []byte {
	b = append(b, byte(it.kind))
	b = binary.AppendUvarint(b, uint64(it.revision-first))
	for _, s := range [...]string{it.key.Group, it.key.Resource, it.key.Namespace, it.key.Name} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	if it.kind == itemObject {
		b = binary.AppendUvarint(b, uint64(len(it.data)))
		b = append(b, it.data...)
	}
	return b
}

// itemReader reads the items of a body. It allocates names only; data alias
// the body.
type itemReader struct {
	rest  []byte
	first int64
	last  core.Key // its strings are reused: neighbours share most of them
	err   error
}

func (r *itemReader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s, %d bytes before the end", ErrDamaged, what, len(r.rest))
	}
}

func (r *itemReader) number(what string) uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.fail("no " + what)
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *itemReader) bytes(what string, limit uint64) []byte {
	n := r.number("length of the " + what)
	if r.err != nil || n > limit || n > uint64(len(r.rest)) {
		r.fail("a " + what + " that is too long")
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *itemReader) name(what, previous string) string {
	b := r.bytes(what, maxNameSize)
	if string(b) == previous {
		return previous
	}
	return string(b)
}

// next returns false at the end and after an error.
func (r *itemReader) next() (item, bool) {
	if r.err != nil || len(r.rest) == 0 {
		return item{}, false
	}
	it := item{kind: itemKind(r.rest[0])}
	r.rest = r.rest[1:]
	if it.kind < itemObject || it.kind > itemNewest {
		r.fail(fmt.Sprintf("an entry of unknown type %d", it.kind))
		return item{}, false
	}
	delta := r.number("revision")
	if it.revision = r.first + int64(delta); int64(delta) < 0 || it.revision < r.first {
		r.fail("a revision that is too large")
	}
	it.key.Group = r.name("group", r.last.Group)
	it.key.Resource = r.name("resource", r.last.Resource)
	it.key.Namespace = r.name("namespace", r.last.Namespace)
	it.key.Name = r.name("name", r.last.Name)
	if strings.IndexByte(it.key.Namespace, 0) >= 0 || strings.IndexByte(it.key.Name, 0) >= 0 {
		r.fail("a name with a zero byte")
	}
	if it.kind == itemObject {
		it.data = r.bytes("object", maxPlain)
	}
	if r.err != nil {
		return item{}, false
	}
	r.last = it.key
	return it, true
}

// decodeItems calls each with the items of a record's body and checks their
// number and order.
func decodeItems(h header, body []byte, each func(item) error) error {
	r := itemReader{rest: body, first: h.first}
	n, last := uint32(0), int64(0)
	for it, ok := r.next(); ok; it, ok = r.next() {
		n++
		if it.revision > h.high {
			return fmt.Errorf("%w: revision %d of %s lies above the record's own %d", ErrDamaged, it.revision, it.key, h.high)
		}
		if h.kind == kindChanges && it.revision <= last {
			return fmt.Errorf("%w: revision %d of %s follows revision %d", ErrDamaged, it.revision, it.key, last)
		}
		last = it.revision
		if err := each(it); err != nil {
			return err
		}
	}
	if r.err != nil {
		return r.err
	}
	if n != h.count {
		return fmt.Errorf("%w: it has %d entries, should have %d", ErrDamaged, n, h.count)
	}
	return nil
}
