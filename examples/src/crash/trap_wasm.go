package main

import "unsafe"

// trapNow reads beyond the end of the guest's memory. There is no page that
// could be missing, so WebAssembly traps where an operating system would signal.
func trapNow() {
	address := ^uintptr(0) - 7
	_ = *(*byte)(unsafe.Pointer(address)) //nolint:govet // is meant to be wrong
}
