package host

import (
	"errors"
	"io"
	"sync"

	"github.com/tetratelabs/wazero/api"
)

const (
	// chunk is how much is read or written at once.
	chunk = 64 << 10
	// maxVectors is how many buffers one call may fill or write, as POSIX has
	// it: with more, a part is done, and the guest is told how much.
	maxVectors = 1024
)

// chunks are buffers between the guest's memory and the operating system, which
// may still use them after the guest and its memory are gone. Those are lost to
// the pool.
var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

// vectors are the buffers of a guest, one after the other.
type vectors struct {
	mem  api.Memory
	list []byte // pairs of address and length that are left
	buf  []byte // what is left of the present one
	left uint64 // bytes in all that are left
}

// gather checks the buffers of a call.
func gather(mem api.Memory, at, count uint64) (vectors, errno) {
	n := min(uint32(count), maxVectors)
	list, ok := mem.Read(uint32(at), n*8)
	if !ok {
		return vectors{}, eFAULT
	}
	v := vectors{mem: mem, list: list}
	for i := 0; i < len(list); i += 8 {
		length := le.Uint32(list[i+4:])
		if _, ok := mem.Read(le.Uint32(list[i:]), length); !ok {
			return vectors{}, eFAULT
		}
		v.left += uint64(length)
	}
	// The count of bytes has 32 bits, and a part is allowed.
	v.left = min(v.left, 1<<32-chunk)
	return v, success
}

// next returns the next buffer of the guest, of at most n bytes; none at the end.
func (v *vectors) next(n int) []byte {
	for len(v.buf) == 0 {
		if len(v.list) == 0 || v.left == 0 {
			return nil
		}
		v.buf, _ = v.mem.Read(le.Uint32(v.list), le.Uint32(v.list[4:]))
		v.list = v.list[8:]
	}
	n = min(n, len(v.buf))
	if uint64(n) > v.left {
		n = int(v.left)
	}
	b := v.buf[:n]
	v.buf = v.buf[n:]
	v.left -= uint64(n)
	return b
}

// take copies out of the guest's buffers.
func (v *vectors) take(p []byte) []byte {
	n := 0
	for n < len(p) {
		b := v.next(len(p) - n)
		if b == nil {
			break
		}
		n += copy(p[n:], b)
	}
	return p[:n]
}

// give copies into the guest's buffers, which have room.
func (v *vectors) give(p []byte) {
	for len(p) > 0 {
		b := v.next(len(p))
		if b == nil {
			return
		}
		p = p[copy(b, p):]
	}
}

func fdRead(g *Guest, mem api.Memory, p []uint64) errno {
	d, e := g.table.get(p[0], rightFdRead)
	if e != success {
		return e
	}
	v, e := gather(mem, p[1], p[2])
	if e != success {
		return e
	}
	g.alive()
	var n int
	switch f := d.file.(type) {
	case *regular:
		n, e = g.readFile(&v, f.Read)
	case *stopFile:
		if v.left > 0 {
			var text string
			text, e = f.read(g, d.flags, int(min(v.left, chunk)))
			v.give([]byte(text))
			n = len(text)
		}
	case stdin: // always at its end
	default:
		return eBADF
	}
	if e != success {
		return e
	}
	return put32(mem, p[3], uint32(n))
}

func fdPread(g *Guest, mem api.Memory, p []uint64) errno {
	d, e := g.table.get(p[0], rightFdRead|rightFdSeek)
	if e != success {
		return e
	}
	f, ok := d.file.(*regular)
	if !ok {
		return eSPIPE
	}
	v, e := gather(mem, p[1], p[2])
	if e != success {
		return e
	}
	g.alive()
	at := int64(p[3])
	if at < 0 {
		return eINVAL
	}
	n, e := g.readFile(&v, func(b []byte) (int, error) {
		n, err := f.ReadAt(b, at)
		at += int64(n)
		return n, err
	})
	if e != success {
		return e
	}
	return put32(mem, p[4], uint32(n))
}

// transfer is what became of one chunk.
type transfer struct {
	n   int
	err error
}

// readFile fills the guest's buffers, or less at the end of the file.
func (g *Guest) readFile(v *vectors, read func([]byte) (int, error)) (int, errno) {
	begin, total := now(), 0
	for v.left > 0 {
		buf := chunks.Get().(*[chunk]byte)
		want := int(min(v.left, chunk))
		got := offload(g, func() transfer {
			n, err := read(buf[:want])
			return transfer{n, err}
		}, nil)
		v.give(buf[:got.n])
		chunks.Put(buf)
		total += got.n
		if got.err != nil && !errors.Is(got.err, io.EOF) {
			if total > 0 {
				return total, success // the next call tells
			}
			return 0, errnoOf(got.err)
		}
		if got.n < want {
			break
		}
		g.breathe(&begin)
	}
	return total, success
}

func fdWrite(g *Guest, mem api.Memory, p []uint64) errno {
	d, e := g.table.get(p[0], rightFdWrite)
	if e != success {
		return e
	}
	v, e := gather(mem, p[1], p[2])
	if e != success {
		return e
	}
	g.alive()
	var n int
	switch f := d.file.(type) {
	case *regular:
		n, e = g.write(&v, nil, f.Write)
	case stream:
		try, _ := f.Writer.(trier)
		n, e = g.write(&v, try, f.Write)
	default:
		return eBADF
	}
	if e != success {
		return e
	}
	return put32(mem, p[3], uint32(n))
}

func fdPwrite(g *Guest, mem api.Memory, p []uint64) errno {
	d, e := g.table.get(p[0], rightFdWrite|rightFdSeek)
	if e != success {
		return e
	}
	f, ok := d.file.(*regular)
	if !ok {
		return eSPIPE
	}
	v, e := gather(mem, p[1], p[2])
	if e != success {
		return e
	}
	g.alive()
	at := int64(p[3])
	if at < 0 {
		return eINVAL
	}
	n, e := g.write(&v, nil, func(b []byte) (int, error) {
		n, err := f.WriteAt(b, at)
		at += int64(n)
		return n, err
	})
	if e != success {
		return e
	}
	return put32(mem, p[4], uint32(n))
}

// trier is a stream that can tell if a write would wait. Most lines of a log
// only go to a buffer, which is not worth another goroutine.
type trier interface{ TryWrite(p []byte) bool }

// write writes the guest's buffers. try is optional.
func (g *Guest) write(v *vectors, try trier, write func([]byte) (int, error)) (int, errno) {
	begin, total := now(), 0
	for v.left > 0 {
		buf := chunks.Get().(*[chunk]byte)
		part := v.take(buf[:])
		put := transfer{n: len(part)}
		if try == nil || !try.TryWrite(part) {
			put = offload(g, func() transfer {
				n, err := write(part)
				return transfer{n, err}
			}, nil)
		}
		chunks.Put(buf)
		total += put.n
		if put.err != nil {
			if total > 0 {
				return total, success
			}
			return 0, errnoOf(put.err)
		}
		if len(part) == 0 {
			break
		}
		g.breathe(&begin)
	}
	return total, success
}
