package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/weftrun/weft/bus"
)

// How much of a disk is kept free: a server that has met a full disk takes
// nothing more until it is started again, so it is not let come so far.
const (
	leastFree   = 8 << 20
	mostFree    = 64 << 20
	freeShare   = 50 // of the disk's size, between the two
	guardPeriod = 250 * time.Millisecond
)

// guard watches the disk on which the streams lie. It refuses writes before
// the disk is full, and has a server that could not write started again when
// it is possible to write.
type guard struct {
	dir  string
	base context.Context // never ends

	mu     sync.Mutex
	full   error // there is too little room; nil if there is enough
	failed error // the server could not write; nil if it could
	// taking ends when the server cannot take writes any more, for those who
	// wait for an answer that will not come.
	taking context.Context
	stop   context.CancelCauseFunc
}

func newGuard(ctx context.Context, dir string) *guard {
	g := &guard{dir: dir, base: context.WithoutCancel(ctx)}
	g.begin()
	return g
}

// begin lets writes pass again; g.mu is held, or nobody else knows g.
func (g *guard) begin() {
	g.failed = nil
	g.taking, g.stop = context.WithCancelCause(g.base)
}

// Taking returns why the server takes no writes, or a context that ends when
// it ceases to take them.
func (g *guard) Taking() (context.Context, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.taking, cmp.Or(g.failed, g.full)
}

// hear listens to what the server says about its streams.
func (g *guard) hear(text string) {
	if !strings.Contains(text, "failed to store a msg on stream") && !strings.Contains(text, "out of space") {
		return
	}
	why := text
	if at := strings.LastIndex(text, "': "); at >= 0 {
		why = text[at+3:]
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failed == nil {
		g.failed = fmt.Errorf("%w: the NATS server could not write: %s: it goes on when it can", bus.ErrRefused, why)
		g.stop(g.failed)
	}
}

// look measures the disk, and says whether the server must be started again
// and can be.
func (g *guard) look() (mend bool) {
	free, size, err := room(g.dir)
	if err != nil {
		return false // nothing is known
	}
	need := min(max(size/freeShare, leastFree), mostFree)
	var full error
	if free < need {
		full = fmt.Errorf("%w: the disk that holds %s has %d MB left, and %d MB are kept free: free some, and writes go on",
			bus.ErrRefused, g.dir, free>>20, need>>20)
	}
	g.mu.Lock()
	g.full = full
	failed := g.failed != nil
	g.mu.Unlock()
	return failed && full == nil && tryWrite(g.dir) == nil
}

// tryWrite writes a file and removes it.
func tryWrite(dir string) error {
	file, err := os.CreateTemp(dir, ".try-*")
	if err != nil {
		return err
	}
	_, err = file.Write(make([]byte, 4096))
	return errors.Join(err, file.Sync(), file.Close(), os.Remove(file.Name()))
}

// guard runs until ctx ends.
func (s *Server) guardDisk(ctx context.Context) {
	ticker := time.NewTicker(guardPeriod)
	defer ticker.Stop()
	var last string
	for {
		mend := s.guard.look()
		_, err := s.guard.Taking()
		if text := fmt.Sprint(err); err != nil && text != last && !strings.Contains(last, "MB left") {
			s.config.Logger.Error("no writes are taken", "err", err)
			last = text
		} else if err == nil && last != "" {
			s.config.Logger.Warn("writes are taken again")
			last = ""
		}
		if mend {
			if err := s.restart(ctx); err != nil {
				s.config.Logger.Error("NATS server cannot be started again, trying on", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// restart replaces the server by a new one on the same folder and port. The
// connections mend themselves.
func (s *Server) restart(ctx context.Context) error {
	old := s.current()
	old.Shutdown()
	old.WaitForShutdown()
	if err := s.boot(ctx); err != nil {
		return err
	}
	s.guard.mu.Lock()
	s.guard.begin()
	s.guard.mu.Unlock()
	return nil
}

func streamsDir(dir string) string { return filepath.Join(dir, "streams") }
