package main

import "unsafe"

// trapNow reads far beyond the end of the guest's memory: WebAssembly traps
// where an operating system would signal.
func trapNow() {
	var here byte
	sink = *(*byte)(unsafe.Add(unsafe.Pointer(&here), 3<<30))
}

var sink byte
