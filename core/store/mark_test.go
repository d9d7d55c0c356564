package store_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/store"
)

// marked returns a disk with five config maps, and the file of its mark.
func marked(t *testing.T) (disk, string) {
	t.Helper()
	d, file := newDisk(), filepath.Join(t.TempDir(), "core", "mark")
	s, stop := d.open(t, func(c *store.Config) { c.MarkFile = file })
	for i := range 5 {
		put(t, s, configMap("ns", string(rune('a'+i)), "1"), 0)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	d = d.crash()
	for i := range d.wal.records {
		d.wal.records[i] = bytes.Clone(d.wal.records[i])
	}
	return d, file
}

// TestMark: what the log has lost without a trace is noticed by the mark.
func TestMark(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(d disk, file string)
		text   string // of the error; empty for none
	}{
		"nothing":   {func(disk, string) {}, ""},
		"tail":      {func(d disk, _ string) { d.wal.records = d.wal.records[:4] }, "log WAL: incomplete: records 5 to 6 were acknowledged"},
		"all":       {func(d disk, _ string) { d.wal.records = nil }, "log WAL: incomplete: records 1 to 6 were acknowledged"},
		"no mark":   {func(_ disk, file string) { _ = os.Remove(file) }, ""},
		"half":      {func(_ disk, file string) { _ = os.Truncate(file, 10) }, ""},
		"unwritten": {func(_ disk, file string) { _ = os.WriteFile(file, make([]byte, 32), 0o600) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d, file := marked(t)
			tc.change(d, file)
			c := d.config(t)
			c.MarkFile = file
			s, err := store.Open(t.Context(), c)
			if tc.text == "" {
				if err != nil {
					t.Fatal(err)
				}
				if mark, err := store.ReadMark(file); err != nil || mark.Sequence != s.Stats().Sequence {
					t.Errorf("the mark is %+v, %v; want record %d", mark, err, s.Stats().Sequence)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.text) || !store.Damaged(err) {
				t.Errorf("got %v, want %q", err, tc.text)
			}
		})
	}
}

// TestMarkOfAnotherHistory: a log that went on from an older copy has a record
// of the same number, but not the same.
func TestMarkOfAnotherHistory(t *testing.T) {
	d, file := marked(t)
	d.wal.records = d.wal.records[:3]
	s, stop := d.open(t)
	for _, name := range []string{"x", "y", "z"} {
		put(t, s, configMap("ns", name, "1"), 0)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	c := d.config(t)
	c.MarkFile = file
	if _, err := store.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "the log of another history") {
		t.Errorf("got %v", err)
	}
}

// TestAcceptLoss opens what is left of a damaged log: nothing of it is read
// again, and nobody may resume a watch from before.
func TestAcceptLoss(t *testing.T) {
	for name, tc := range map[string]struct {
		make   func(t *testing.T) disk
		change func(d disk)
		want   int
	}{
		"tail":   {change: func(d disk) { d.wal.records = d.wal.records[:4] }, want: 3},
		"middle": {change: func(d disk) { d.wal.records[3][90] ^= 1 }, want: 2},
		"hole":   {change: func(d disk) { d.wal.records[3] = nil }, want: 2},
		"empty":  {change: func(d disk) { d.wal.records = nil }, want: 0},
		"log behind its snapshot": {
			make: generations, change: func(d disk) { d.wal.first, d.wal.records = 1, nil }, want: 40,
		},
		"log ahead of its snapshot": {
			make: generations, change: func(d disk) { _ = d.wal.Trim(t.Context(), 48) }, want: 40,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var d disk
			file := filepath.Join(t.TempDir(), "mark")
			if tc.make == nil {
				d, file = marked(t)
			} else {
				d = tc.make(t)
			}
			tc.change(d)
			c := d.config(t)
			c.MarkFile = file
			if _, err := store.Open(t.Context(), c); !store.Damaged(err) {
				t.Fatalf("it opened: %v", err)
			}
			c.AcceptLoss = true
			s, err := store.Open(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if n := s.Snapshot().Count(core.ConfigMaps); n != tc.want {
				t.Errorf("%d config maps, want %d", n, tc.want)
			}
			start := s.Snapshot().Revision()
			if start < 1<<32 {
				t.Errorf("it begins at revision %d", start)
			}
			d = d.crash() // before anything else is written
			c = d.config(t)
			c.MarkFile = file
			again, err := store.Open(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if n := again.Snapshot().Count(core.ConfigMaps); n != tc.want {
				t.Errorf("opened again: %d config maps, want %d", n, tc.want)
			}
			if _, err := again.Watch(core.ConfigMaps, "", start-1); !apierrors.IsResourceExpired(err) {
				t.Errorf("a watch of the old history: %v, want expired", err)
			}
			if _, err := again.Watch(core.ConfigMaps, "", start); err != nil {
				t.Errorf("a watch of the new history: %v", err)
			}
		})
	}
}

func FuzzDecodeMark(f *testing.F) {
	f.Add(store.EncodeMark(store.Mark{Sequence: 7, Sum: 1, Snapshot: 3}))
	f.Add(make([]byte, 32))
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := store.DecodeMark(data); err == nil && !bytes.Equal(store.EncodeMark(m), data) {
			t.Errorf("%x reads as %+v, which is written as %x", data, m, store.EncodeMark(m))
		}
	})
}
