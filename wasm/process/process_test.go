package process

import (
	"runtime"
	"testing"
	"time"
)

func TestUsed(t *testing.T) {
	before := Used("me")
	if before.Name != "me" || before.MemoryBytes < 1<<20 || before.StartedAt.IsZero() {
		t.Fatalf("got %+v", before)
	}
	held := make([]byte, 64<<20)
	for begin := time.Now(); time.Since(begin) < 50*time.Millisecond; {
		for i := 0; i < len(held); i += 4096 {
			held[i]++
		}
	}
	after := Used("me")
	runtime.KeepAlive(held)
	if runtime.GOOS != "linux" {
		t.Skip("CPU time is renewed by the collector only")
	}
	if got := after.CPU - before.CPU; got < 10*time.Millisecond || got > 10*time.Second {
		t.Errorf("CPU %v for 50ms of work", got)
	}
	if got := after.MemoryBytes - before.MemoryBytes; got < 32<<20 {
		t.Errorf("%d bytes for 64 MiB", got)
	}
}

func TestPortable(t *testing.T) {
	runtime.GC()
	if portableMemory() <= 0 || portableCPU() < 0 {
		t.Errorf("memory %d, CPU %v", portableMemory(), portableCPU())
	}
}
