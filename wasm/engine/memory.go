package engine

import (
	"sync/atomic"

	"github.com/tetratelabs/wazero/experimental"
)

// memory allocates the linear memory of one instance and bounds it. All but
// used and refused belong to the instance's goroutine.
type memory struct {
	limit uint64

	buf     []byte // the address space reserved, nil before and after
	used    atomic.Int64
	refused atomic.Bool // the last growth was refused
}

var _ experimental.MemoryAllocator = (*memory)(nil)

// Allocate implements experimental.MemoryAllocator: it reserves address space,
// which costs memory only where the guest touches it.
func (m *memory) Allocate(_, most uint64) experimental.LinearMemory {
	if n := min(most, m.limit); n > 0 {
		buf, err := reserve(n)
		if err == nil {
			m.buf = buf
		}
	}
	return m
}

// Reallocate implements experimental.LinearMemory.
func (m *memory) Reallocate(size uint64) []byte {
	if size > uint64(len(m.buf)) {
		m.refused.Store(true)
		return nil
	}
	m.refused.Store(false)
	m.used.Store(int64(size))
	if size == 0 {
		return []byte{}
	}
	return m.buf[:size:size]
}

// Free implements experimental.LinearMemory. It is called while the guest still
// has its slot, and may be called again: it leaves the work to release.
func (m *memory) Free() { m.used.Store(0) }

// release gives the memory back, which takes some 10 ms for 100 MB that were
// touched. Nobody may use it any more.
func (m *memory) release() {
	m.used.Store(0)
	if m.buf != nil {
		release(m.buf)
		m.buf = nil
	}
}
