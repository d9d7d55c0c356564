package executor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftrun/weft/wasm"
)

func exitOf(sandbox, id string, code int32) state {
	at := time.Now().UTC().Truncate(time.Second)
	return state{Sandbox: sandbox, ID: id, StartedAt: at, Exit: &wasm.Exit{Reason: wasm.Exited, Code: code, StartedAt: at, FinishedAt: at}}
}

func openTestJournal(tb testing.TB, dir string) *journal {
	tb.Helper()
	j, err := openJournal(dir)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = j.close() }) // may be closed already
	return j
}

func codes(tb testing.TB, dir string) string {
	tb.Helper()
	exits, err := readExits(dir)
	if err != nil {
		tb.Fatal(err)
	}
	all := map[string]int32{}
	for k, s := range exits {
		all[k.Sandbox+"/"+k.ID] = s.Exit.Code
	}
	b, err := json.Marshal(all) // sorted by key
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

func TestJournal(t *testing.T) {
	dir := t.TempDir()
	j := openTestJournal(t, dir)
	for i, s := range []state{exitOf("a", "x", 1), exitOf("a", "y\n/", 2), exitOf("b", "x", 3)} {
		if err := j.write(s); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := j.forget(key{"a", "x"}); err != nil {
		t.Fatal(err)
	}
	// Nothing was closed: this is what a killed process leaves.
	if d := cmp.Diff(`{"a/x":1,"a/y\n/":2,"b/x":3}`, codes(t, dir)); d != "" {
		t.Error(d)
	}
	if err := j.write(exitOf("c", "x", 4)); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(`{"a/y\n/":2,"b/x":3,"c/x":4}`, codes(t, dir)); d != "" {
		t.Error(d)
	}
	if err := j.forget(key{"b", "x"}); err != nil {
		t.Fatal(err)
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	again := openTestJournal(t, dir)
	if d := cmp.Diff(`{"a/y\n/":2,"c/x":4}`, codes(t, dir)); d != "" {
		t.Error(d)
	}
	if _, ok := again.exit(key{"c", "x"}); !ok || len(again.all()) != 2 {
		t.Errorf("got %v", again.all())
	}
}

func TestJournalForgetsTheOld(t *testing.T) {
	dir := t.TempDir()
	j := openTestJournal(t, dir)
	old := exitOf("a", "x", 1)
	old.Exit.FinishedAt = time.Now().Add(-keepExits - time.Minute)
	if err := j.write(old); err != nil {
		t.Fatal(err)
	}
	if n := len(openTestJournal(t, dir).all()); n != 0 || codes(t, dir) != `{}` {
		t.Errorf("%d are left: %s", n, codes(t, dir))
	}
}

// Whatever byte of it is hit, a journal loses that one line alone.
func TestJournalDamage(t *testing.T) {
	dir := t.TempDir()
	j := openTestJournal(t, dir)
	for i := range 3 {
		if err := j.write(exitOf("s", strconv.Itoa(i), int32(i))); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(j.path)
	if err != nil {
		t.Fatal(err)
	}
	second := bytes.IndexByte(whole, '\n') + 1
	third := second + bytes.IndexByte(whole[second:], '\n') + 1
	for at := second; at < third-1; at++ {
		damaged := bytes.Clone(whole)
		damaged[at] ^= 1
		if err := os.WriteFile(j.path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := codes(t, dir); got != `{"s/0":0,"s/2":2}` {
			t.Fatalf("byte %d: %s", at, got)
		}
	}
	for end := third; end < len(whole); end++ {
		if err := os.WriteFile(j.path, whole[:end], 0o600); err != nil {
			t.Fatal(err)
		}
		if got := codes(t, dir); got != `{"s/0":0,"s/1":1}` {
			t.Fatalf("torn at %d: %s", end, got)
		}
	}
	// What opens a torn one goes on behind what is whole.
	again := openTestJournal(t, dir)
	if err := again.write(exitOf("s", "3", 3)); err != nil {
		t.Fatal(err)
	}
	if got := codes(t, dir); got != `{"s/0":0,"s/1":1,"s/3":3}` {
		t.Error(got)
	}
}

func TestJournalAfterFailedWrite(t *testing.T) {
	dir := t.TempDir()
	j := openTestJournal(t, dir)
	good := j.file
	var err error
	if j.file, err = os.Open(j.path); err != nil { // cannot be written to
		t.Fatal(err)
	}
	if err := j.write(exitOf("s", "0", 1)); err == nil {
		t.Fatal("it says that it wrote")
	}
	if exit, ok := j.exit(key{"s", "0"}); !ok || exit.Code != 1 {
		t.Errorf("got %+v, %v", exit, ok)
	}
	if _, err := good.WriteString("half a li"); err != nil {
		t.Fatal(err)
	}
	_ = j.file.Close()
	j.file = good
	if err := j.write(exitOf("s", "1", 2)); err != nil {
		t.Fatal(err)
	}
	if got := codes(t, dir); got != `{"s/1":2}` {
		t.Error(got)
	}
}

func TestJournalStaysSmall(t *testing.T) {
	dir := t.TempDir()
	j := openTestJournal(t, dir)
	if err := j.write(exitOf("kept", "x", 9)); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for i := range 1000 {
				k := key{fmt.Sprint("s", n), strconv.Itoa(i)}
				if err := j.write(exitOf(k.Sandbox, k.ID, 0)); err != nil {
					t.Error(err)
				}
				if err := j.forget(k); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	stat, err := os.Stat(j.path)
	if err != nil || stat.Size() > 2*spareJournal {
		t.Errorf("it has %d bytes, %v", stat.Size(), err)
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	if got := codes(t, dir); got != `{"kept/x":9}` {
		t.Error(got)
	}
}

// The version before kept a file for each exit; a torn one did not count.
func TestJournalTakesOverFiles(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, exitsFolder)
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(exitOf("uid", "main.0", 7))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"xuid main.0": b, "xuid main.1": b[:20]} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := codes(t, dir); got != `{"uid/main.0":7}` { // by an agent, beside an executor of that version
		t.Error(got)
	}
	openTestJournal(t, dir)
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("the folder: %v", err)
	}
	if got := codes(t, dir); got != `{"uid/main.0":7}` {
		t.Error(got)
	}
}

func FuzzReplay(f *testing.F) {
	line, err := encodeRecord(record{Exit: new(state)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	s := exitOf("s", "i", 1)
	if line, err = encodeRecord(record{Exit: &s}); err != nil {
		f.Fatal(err)
	}
	f.Add(append(line, line[:len(line)/2]...))
	f.Add([]byte(strings.Repeat("00000000 {}\n", 2)))
	f.Fuzz(func(t *testing.T, data []byte) {
		exits := map[key]state{}
		replay(data, exits)
		for k, s := range exits {
			if s.Exit == nil || k.Sandbox != s.Sandbox || k.ID != s.ID {
				t.Errorf("%v: %+v", k, s)
			}
		}
		// What follows damage on a line of its own is found.
		s := exitOf("after", "it", 3)
		line, err := encodeRecord(record{Exit: &s})
		if err != nil {
			t.Fatal(err)
		}
		replay(append(append(data, '\n'), line...), exits)
		if got, ok := exits[key{"after", "it"}]; !ok || got.Exit.Code != 3 {
			t.Errorf("got %+v", got)
		}
	})
}

// BenchmarkExit is what the record of one exit costs: written, and forgotten.
// "files" is the way of the version before, a file for each.
func BenchmarkExit(b *testing.B) {
	b.Run("journal", func(b *testing.B) {
		j := openTestJournal(b, b.TempDir())
		n := 0
		for b.Loop() {
			n++
			s := exitOf("6f1c1a52-7c1d-4d8e-9a47-1b2c3d4e5f60", strconv.Itoa(n), 0)
			if err := j.write(s); err != nil {
				b.Fatal(err)
			}
			if err := j.forget(key{s.Sandbox, s.ID}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("files", func(b *testing.B) {
		dir := b.TempDir()
		n := 0
		for b.Loop() {
			n++
			s := exitOf("6f1c1a52-7c1d-4d8e-9a47-1b2c3d4e5f60", strconv.Itoa(n), 0)
			data, err := json.Marshal(s)
			if err != nil {
				b.Fatal(err)
			}
			path := filepath.Join(dir, "x"+s.Sandbox+" "+s.ID)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				b.Fatal(err)
			}
			if err := os.Remove(path); err != nil {
				b.Fatal(err)
			}
		}
	})
}
