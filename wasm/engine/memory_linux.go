package engine

import (
	"runtime"
	"sync"
	"syscall"
	"time"
)

// releasing lets one memory at a time be given back: what many that end at once
// leave is no reason to take all processors.
var releasing sync.Mutex

// releasePiece is how much memory is given back at a time, in bytes: less than
// a millisecond's work. While that lasts, none can be reserved.
const releasePiece = 4 << 20

// reserve returns n zero bytes that take memory only once they are touched.
func reserve(n uint64) ([]byte, error) {
	return syscall.Mmap(-1, 0, int(n), syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
}

// release gives memory back, which takes some 10 ms for 100 MB that were touched.
// It works half of that time only, and lets others go first: who was told of a
// guest's end waits for this goroutine's processor, which a system call keeps
// until Go's monitor looks, for up to 10 ms.
func release(b []byte) {
	releasing.Lock()
	defer releasing.Unlock()
	runtime.Gosched() // those who wait may begin
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	yield(true)
	defer yield(false)
	for rest := b; len(rest) > releasePiece; rest = rest[releasePiece:] {
		begin := time.Now()
		if syscall.Madvise(rest[:releasePiece], syscall.MADV_DONTNEED) != nil {
			break // to unmap does the same at once
		}
		time.Sleep(time.Since(begin))
	}
	if err := syscall.Munmap(b); err != nil {
		panic("engine: unmap guest memory: " + err.Error())
	}
}
