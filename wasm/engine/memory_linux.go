package engine

import "syscall"

// reserve returns n zero bytes that take memory only once they are touched.
func reserve(n uint64) ([]byte, error) {
	return syscall.Mmap(-1, 0, int(n), syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
}

func release(b []byte) {
	if err := syscall.Munmap(b); err != nil {
		panic("engine: unmap guest memory: " + err.Error())
	}
}
