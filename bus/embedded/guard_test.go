package embedded_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/bustest"
	"github.com/weftrun/weft/bus/embedded"
)

// TestServerThatCouldNotWrite: writes are refused with the reason at once, and
// pass again once the disk takes them, over the same connection.
func TestServerThatCouldNotWrite(t *testing.T) {
	s := start(t, embedded.Config{})
	url := s.ClientURL()
	log, err := connect(t, s, bustest.Core).OpenLog(t.Context(), "WAL")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := log.Append(t.Context(), 0, []byte("one")); err != nil {
		t.Fatal(err)
	}
	s.Hear("JetStream failed to store a msg on stream 'A > WAL': write 1.blk: no space left on device")
	if _, err := log.Append(t.Context(), 1, []byte("two")); !errors.Is(err, bus.ErrRefused) || !strings.Contains(err.Error(), "write 1.blk: no space left on device") {
		t.Errorf("got %v, want it refused", err)
	}
	for {
		last, err := log.Append(t.Context(), 1, []byte("two"))
		if err == nil && last == 2 {
			break
		}
		if !errors.Is(err, bus.ErrRefused) && !errors.Is(err, bus.ErrUnavailable) {
			t.Fatalf("record %d, %v", last, err)
		}
	}
	if s.ClientURL() != url {
		t.Errorf("it now listens at %s, not %s", s.ClientURL(), url)
	}
}

// written returns a folder with a log of n records, as a server left it.
func written(t testing.TB, n int) (dir, file string) {
	t.Helper()
	dir = t.TempDir()
	s := start(t, embedded.Config{Dir: dir, NoListen: true, Unsynced: true})
	b := connect(t, s, bustest.Core)
	log, err := b.OpenLog(t.Context(), "WAL")
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if _, err := log.Append(t.Context(), uint64(i), fmt.Appendf(nil, "record %d", i+1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Trim(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	s.Shutdown()
	files, err := filepath.Glob(filepath.Join(dir, "streams", "jetstream", "*", "streams", "WAL", "msgs", "*.blk"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	return dir, files[len(files)-1]
}

// checkRecord is what the records of these tests must be.
func checkRecord(data []byte) error {
	var n int
	if _, err := fmt.Sscanf(string(data), "record %d", &n); err != nil || fmt.Sprint("record ", n) != string(data) {
		return fmt.Errorf("%q is no record", data)
	}
	return nil
}

func TestInspect(t *testing.T) {
	dir, file := written(t, 20)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := func(text string) int {
		i := strings.LastIndex(string(whole), text)
		if i < 0 {
			t.Fatalf("%q is not in the file", text)
		}
		return i
	}
	for name, tc := range map[string]struct {
		change       func(b []byte) []byte
		last, behind uint64
		damaged      bool
	}{
		"whole":        {func(b []byte) []byte { return b }, 20, 0, false},
		"torn":         {func(b []byte) []byte { return append(b, b[:30]...) }, 20, 0, true},
		"cut":          {func(b []byte) []byte { return b[:at("record 20")+2] }, 19, 0, true},
		"damaged tail": {func(b []byte) []byte { b[at("record 20")] ^= 1; return b }, 19, 0, true},
		"damaged":      {func(b []byte) []byte { b[at("record 12")] ^= 1; return b }, 11, 13, true},
		"length": {func(b []byte) []byte {
			b[strings.LastIndex(string(b[:at("record 12")]), bus.RecordSubject("WAL"))-22] ^= 0xff
			return b
		}, 11, 13, true},
		"zeros":   {func(b []byte) []byte { clear(b[at("record 12"):]); return b }, 11, 0, true},
		"nothing": {func([]byte) []byte { return nil }, 0, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(file, tc.change([]byte(string(whole))), 0o600); err != nil {
				t.Fatal(err)
			}
			in, err := embedded.Inspect(dir, "WAL", checkRecord)
			if err != nil {
				t.Fatal(err)
			}
			behind := uint64(0)
			if in.Damage != nil {
				behind = in.Damage.Behind
			}
			if in.Last != tc.last || behind != tc.behind || (in.Damage != nil) != tc.damaged {
				t.Errorf("last %d, damage %v, behind it %d; want %d, %v, %d", in.Last, in.Damage, behind, tc.last, tc.damaged, tc.behind)
			}
		})
	}
}

// FuzzInspect: whatever a file holds, it is read to its end or to a damage.
func FuzzInspect(f *testing.F) {
	dir, file := written(f, 5)
	whole, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-5])
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		in, err := embedded.Inspect(dir, "WAL", checkRecord)
		if err != nil || in.Damage != nil && in.Damage.Offset > int64(len(data)) {
			t.Errorf("%+v, %v", in, err)
		}
	})
}
