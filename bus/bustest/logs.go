package bustest

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/weftrun/weft/bus"
)

func openLog(t *testing.T, b bus.Bus, name string) bus.Log {
	t.Helper()
	return must(b.OpenLog(within(t), name))(t)
}

// fill appends records with the texts 1 to n.
func fill(t *testing.T, l bus.Log, n uint64) {
	t.Helper()
	for i := range n {
		if got := must(l.Append(within(t), i, fmt.Append(nil, i+1)))(t); got != i+1 {
			t.Fatalf("append: got sequence %d, want %d", got, i+1)
		}
	}
}

func wantBounds(t *testing.T, l bus.Log, first, last uint64) {
	t.Helper()
	f, n, err := l.Bounds(within(t))
	check(t, err)
	if f != first || n != last {
		t.Fatalf("bounds: got %d..%d, want %d..%d", f, n, first, last)
	}
}

// wantRecords reads from..last and checks the texts.
func wantRecords(t *testing.T, l bus.Log, from, last uint64) {
	t.Helper()
	next := from
	for r, err := range l.Read(within(t), from) {
		check(t, err)
		if r.Sequence != next || string(r.Data) != fmt.Sprint(next) {
			t.Fatalf("read: got %d %q, want %d", r.Sequence, r.Data, next)
		}
		next++
	}
	if next != last+1 {
		t.Fatalf("read from %d: ended before %d, want up to %d", from, next, last)
	}
}

func logCases() []Case {
	return []Case{
		{"log/new is empty", func(t *testing.T, connect func(bus.Identity) bus.Bus) {
			l := openLog(t, connect(Core), "WAL")
			wantBounds(t, l, 1, 0)
			_, err := l.Last(within(t))
			wantError(t, err, bus.ErrNotFound)
			wantRecords(t, l, 1, 0)
			wantRecords(t, l, 5, 4) // beyond the end: nothing
		}},
		{"log/append, read, last", func(t *testing.T, connect func(bus.Identity) bus.Bus) {
			c := connect(Core)
			l := openLog(t, c, "WAL")
			fill(t, l, 25)
			wantBounds(t, l, 1, 25)
			wantRecords(t, l, 1, 25)
			wantRecords(t, l, 20, 25)
			r := must(l.Last(within(t)))(t)
			if r.Sequence != 25 || string(r.Data) != "25" {
				t.Fatalf("last: got %d %q", r.Sequence, r.Data)
			}
			for range l.Read(within(t), 1) {
				break // a reader may stop early
			}
			wantRecords(t, openLog(t, c, "WAL"), 1, 25)
			wantBounds(t, openLog(t, c, "other.log/x"), 1, 0)
		}},
		{"log/append is fenced", logFenced},
		{"log/read ends at what was newest", func(t *testing.T, connect func(bus.Identity) bus.Bus) {
			l := openLog(t, connect(Core), "WAL")
			fill(t, l, 3)
			records := l.Read(within(t), 1)
			must(l.Append(within(t), 3, []byte("4")))(t)
			var n uint64
			for r, err := range records {
				check(t, err)
				n = r.Sequence
			}
			if n != 3 {
				t.Fatalf("read ended with %d, want 3", n)
			}
		}},
		{"log/trim", logTrim},
		{"log/owns its bytes", func(t *testing.T, connect func(bus.Identity) bus.Bus) {
			l := openLog(t, connect(Core), "WAL")
			data := []byte("1")
			must(l.Append(within(t), 0, data))(t)
			data[0] = 'x'
			must(l.Last(within(t)))(t).Data[0] = 'y'
			wantRecords(t, l, 1, 1)
		}},
		{"log/large records", logLarge},
		{"log/ended context is unavailable", func(t *testing.T, connect func(bus.Identity) bus.Bus) {
			l := openLog(t, connect(Core), "WAL")
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_, err := l.Append(ctx, 0, []byte("1"))
			wantError(t, err, bus.ErrUnavailable)
			for _, err := range l.Read(ctx, 1) {
				wantError(t, err, bus.ErrUnavailable)
			}
		}},
		{"log/only for the core", func(t *testing.T, connect func(bus.Identity) bus.Bus) {
			for _, who := range []bus.Identity{Node, Observer} {
				_, err := connect(who).OpenLog(within(t), "WAL")
				wantError(t, err, bus.ErrRefused)
			}
		}},
		{"log/needs a name", func(t *testing.T, connect func(bus.Identity) bus.Bus) {
			_, err := connect(Core).OpenLog(within(t), "")
			wantError(t, err, bus.ErrRefused)
		}},
	}
}

func logFenced(t *testing.T, connect func(bus.Identity) bus.Bus) {
	a, b := openLog(t, connect(Core), "WAL"), openLog(t, connect(Core2), "WAL")
	_, err := a.Append(within(t), 7, []byte("x"))
	wantError(t, err, bus.ErrConflict)
	fill(t, a, 2)
	for _, last := range []uint64{0, 1, 3} {
		_, err := b.Append(within(t), last, []byte("x"))
		wantError(t, err, bus.ErrConflict)
	}
	wantBounds(t, a, 1, 2)
	must(b.Append(within(t), 2, []byte("3")))(t)
	_, err = a.Append(within(t), 2, []byte("x"))
	wantError(t, err, bus.ErrConflict)
	// Of many at once with the same expectation one wins.
	results := make(chan error)
	for range 8 {
		go func() {
			_, err := a.Append(t.Context(), 3, []byte("4"))
			results <- err
		}()
	}
	won := 0
	for range 8 {
		if err := <-results; err == nil {
			won++
		} else {
			wantError(t, err, bus.ErrConflict)
		}
	}
	if won != 1 {
		t.Fatalf("%d appends won, want 1", won)
	}
	wantRecords(t, a, 1, 4)
}

func logTrim(t *testing.T, connect func(bus.Identity) bus.Bus) {
	l := openLog(t, connect(Core), "WAL")
	fill(t, l, 10)
	check(t, l.Trim(within(t), 4))
	wantBounds(t, l, 4, 10)
	wantRecords(t, l, 4, 10)
	n := 0
	for _, err := range l.Read(within(t), 3) {
		wantError(t, err, bus.ErrNotFound)
		n++
	}
	if n != 1 {
		t.Fatalf("a read of what was trimmed yielded %d times, want one error", n)
	}
	check(t, l.Trim(within(t), 2)) // already gone
	wantBounds(t, l, 4, 10)
	check(t, l.Trim(within(t), 1000)) // all, and no more
	wantBounds(t, l, 11, 10)
	_, err := l.Last(within(t))
	wantError(t, err, bus.ErrNotFound)
	_, err = l.Append(within(t), 0, []byte("x"))
	wantError(t, err, bus.ErrConflict)
	must(l.Append(within(t), 10, []byte("11")))(t)
	wantRecords(t, l, 11, 11)
}

func logLarge(t *testing.T, connect func(bus.Identity) bus.Bus) {
	l := openLog(t, connect(Core), "WAL")
	_, err := l.Append(within(t), 0, make([]byte, bus.MaxPayload+1))
	wantError(t, err, bus.ErrRefused)
	large := bytes.Repeat([]byte("weft"), (bus.MaxPayload-bus.HeaderRoom)/4)
	for i := range uint64(3) {
		must(l.Append(within(t), i, large))(t)
	}
	n := 0
	for r, err := range l.Read(within(t), 1) {
		check(t, err)
		if !bytes.Equal(r.Data, large) {
			t.Fatalf("record %d differs", r.Sequence)
		}
		n++
	}
	if n != 3 {
		t.Fatalf("read %d records, want 3", n)
	}
}
