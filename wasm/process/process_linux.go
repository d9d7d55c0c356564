package process

import (
	"bytes"
	"os"
	"strconv"
)

// memory is what is resident, in bytes. The second number of statm is that in
// pages; getrusage only tells the most that there ever was.
func memory() int64 {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return portableMemory()
	}
	fields := bytes.Fields(data)
	if len(fields) < 2 {
		return portableMemory()
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return portableMemory()
	}
	return pages * int64(os.Getpagesize())
}
