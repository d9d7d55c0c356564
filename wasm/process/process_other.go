//go:build !linux

package process

func memory() int64 { return portableMemory() }
