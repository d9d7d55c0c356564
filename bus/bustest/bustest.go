// Package bustest holds the contract suite that every implementation of
// bus.Bus passes. It must not know any of them.
package bustest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/weftrun/weft/bus"
)

// Open makes an empty carrier and returns what connects to it. The suite
// closes the connections; open registers the end of the carrier with t.
type Open func(t *testing.T) func(bus.Identity) bus.Bus

// Identities that the suite connects as.
var (
	Core     = bus.Identity{Role: bus.RoleCore, Name: "core-1"}
	Core2    = bus.Identity{Role: bus.RoleCore, Name: "core-2"}
	Node     = bus.Identity{Role: bus.RoleNode, Name: "n1"}
	OddNode  = bus.Identity{Role: bus.RoleNode, Name: "rack.7 *>%2E"}
	Observer = bus.Identity{Role: bus.RoleObserver, Name: "tool"}
)

// A Case is one sentence or so of the contract.
type Case struct {
	Name string
	Run  func(t *testing.T, connect func(bus.Identity) bus.Bus)
}

// Cases returns the whole contract.
func Cases() []Case {
	var all []Case
	for _, group := range [][]Case{logCases(), pubSubCases(), callCases(), streamCases(), leaseCases(), blobCases(), closeCases(), forbiddenCases()} {
		all = append(all, group...)
	}
	return all
}

// Run runs every case on a carrier of its own, and several at once: they wait
// for their carriers more than they compute.
func Run(t *testing.T, open Open) {
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			RunCase(t, c, open(t))
		})
	}
}

// RunCase runs one case and closes its connections.
func RunCase(t *testing.T, c Case, connect func(bus.Identity) bus.Bus) {
	c.Run(t, func(who bus.Identity) bus.Bus {
		b := connect(who)
		t.Cleanup(func() {
			if err := b.Close(); err != nil {
				t.Errorf("close %s: %v", who, err)
			}
		})
		return b
	})
}

// within returns a context for what must happen soon.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// briefly returns a context for what is expected not to happen.
func briefly(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantError checks that err wraps exactly one of the sentinels: want.
func wantError(t *testing.T, err, want error) {
	t.Helper()
	for _, sentinel := range []error{bus.ErrConflict, bus.ErrNotFound, bus.ErrUnavailable, bus.ErrRefused} {
		if errors.Is(err, sentinel) != errors.Is(sentinel, want) {
			t.Fatalf("got error %v, want one that is %v and no other", err, want)
		}
	}
}

// receive waits for one value.
func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-within(t).Done():
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// silence checks that nothing comes.
func silence[T any](t *testing.T, from <-chan T) {
	t.Helper()
	select {
	case v := <-from:
		t.Fatalf("got %+v, want nothing", v)
	case <-briefly(t).Done():
	}
}
