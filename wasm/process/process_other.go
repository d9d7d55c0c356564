//go:build !linux

package process

import "time"

func cpu() time.Duration { return portableCPU() }
func memory() int64      { return portableMemory() }
