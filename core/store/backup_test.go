package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/store"
)

var backupKey = func() store.Key {
	key, err := store.NewKey(bytes.Repeat([]byte{7}, store.KeySize))
	if err != nil {
		panic(err)
	}
	return key
}()

func files(contents map[string]string) iter.Seq2[store.BackupFile, error] {
	return func(yield func(store.BackupFile, error) bool) {
		for name, content := range contents {
			if !yield(store.BackupFile{Name: name, Content: strings.NewReader(content)}, nil) {
				return
			}
		}
	}
}

// backupOf returns a backup of n config maps and two files.
func backupOf(t testing.TB, n int) []byte {
	t.Helper()
	s, _ := newDisk().open(t)
	for i := range n {
		put(t, s, configMap("ns", fmt.Sprint("m", i), strings.Repeat("v", 100)), 0)
	}
	var out bytes.Buffer
	if err := s.Backup(t.Context(), &out, backupKey, files(map[string]string{"a": "one", "empty": ""})); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestBackupIsOfOneRevision backs up while pairs of objects change together.
func TestBackupIsOfOneRevision(t *testing.T) {
	s, _ := newDisk().open(t)
	var group sync.WaitGroup
	stop := make(chan struct{})
	for w := range 3 {
		group.Go(func() {
			var a, b int64
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				left, right := configMap("ns", fmt.Sprint("l", w), fmt.Sprint(i)), configMap("ns", fmt.Sprint("r", w), fmt.Sprint(i))
				kept, err := s.Commit(t.Context(), s.Epoch(), []core.Op{
					{Key: core.KeyFor(core.ConfigMaps, left), Object: left, Expect: a}, {Key: core.KeyFor(core.ConfigMaps, right), Object: right, Expect: b}})
				if err != nil {
					t.Error(err)
					return
				}
				a, b = core.Revision(kept[0]), core.Revision(kept[1])
			}
		})
	}
	for range 20 {
		var out bytes.Buffer
		if err := s.Backup(t.Context(), &out, backupKey, files(nil)); err != nil {
			t.Fatal(err)
		}
		d := newDisk()
		if _, err := store.Restore(t.Context(), d.config(t), &out, backupKey); err != nil {
			t.Fatal(err)
		}
		got, done := d.open(t)
		for w := range 3 {
			left, ok := got.Snapshot().Get(mapKey("ns", fmt.Sprint("l", w)))
			if ok {
				wantValue(t, got.Snapshot(), "ns", fmt.Sprint("r", w), left.(*corev1.ConfigMap).Data["value"])
			}
		}
		_ = done()
	}
	close(stop)
	group.Wait()
}

// TestRestore replaces a state by a backup's, on a new log and on one that a
// leader writes: a new history begins.
func TestRestore(t *testing.T) {
	backup := backupOf(t, 30)
	for _, used := range []bool{false, true} {
		t.Run(fmt.Sprint("used=", used), func(t *testing.T) {
			d := newDisk()
			if used {
				d = generations(t)
				leader, _ := d.open(t)
				put(t, leader, configMap("ns", "late", "1"), 0)
			}
			info, err := store.Restore(t.Context(), d.config(t), bytes.NewReader(backup), backupKey)
			if err != nil {
				t.Fatal(err)
			}
			if info.Objects != 30 || info.Files != 2 {
				t.Errorf("%+v", info)
			}
			s, _ := d.crash().open(t)
			if n := s.Snapshot().Count(core.ConfigMaps); n != 30 {
				t.Errorf("%d config maps, want 30", n)
			}
			o, ok := s.Snapshot().Get(mapKey("ns", "m7"))
			if !ok || core.Revision(o) > info.Revision {
				t.Errorf("an object has revision %d of %d", core.Revision(o), info.Revision)
			}
			if start := s.Snapshot().Revision(); start < 1<<32 {
				t.Errorf("it begins at revision %d", start)
			}
			for _, from := range []int64{core.Revision(o), info.Revision, info.Revision + 1000} {
				if _, err := s.Watch(core.ConfigMaps, "", from); !apierrors.IsResourceExpired(err) {
					t.Errorf("a watch from %d: %v, want expired", from, err)
				}
			}
		})
	}
}

// TestRestoreTwice restores a backup into two new logs: whoever has followed the
// first must notice that the second is another history.
func TestRestoreTwice(t *testing.T) {
	for name, backup := range map[string]func(*testing.T) []byte{
		"of a first history": func(t *testing.T) []byte { return backupOf(t, 5) },
		"of a restored one": func(t *testing.T) []byte {
			s := restored(t, backupOf(t, 5))
			var out bytes.Buffer
			if err := s.Backup(t.Context(), &out, backupKey, files(nil)); err != nil {
				t.Fatal(err)
			}
			return out.Bytes()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				data := backup(t)
				time.Sleep(2 * time.Hour)
				first := restored(t, data)
				at := core.Revision(put(t, first, configMap("ns", "of the first", "1"), 0))
				time.Sleep(time.Minute)
				second := restored(t, data)
				if first.Term() >= second.Term() {
					t.Errorf("term %d follows %d", second.Term(), first.Term())
				}
				for i := range 3 {
					put(t, second, configMap("ns", fmt.Sprint("of the second", i), "1"), 0)
				}
				if _, err := second.Watch(core.ConfigMaps, "", at); !apierrors.IsResourceExpired(err) {
					t.Errorf("a watch of the first: %v, want expired", err)
				}
			})
		})
	}
}

// restored opens a new log into which data is restored.
func restored(t *testing.T, data []byte) *store.Store {
	t.Helper()
	d := newDisk()
	if _, err := store.Restore(t.Context(), d.config(t), bytes.NewReader(data), backupKey); err != nil {
		t.Fatal(err)
	}
	s, _ := d.open(t)
	return s
}

// TestRestoreOverWrites: what a leader writes during a restore is no part of it.
func TestRestoreOverWrites(t *testing.T) {
	backup := backupOf(t, 30)
	d := generations(t)
	leader, _ := d.open(t)
	writes := 0
	config := d.config(t)
	config.Log = &hookedLog{d.wal, func([]byte) {
		if writes++; writes <= 3 {
			put(t, leader, configMap("ns", fmt.Sprint("late", writes), "1"), 0)
		}
	}}
	if _, err := store.Restore(t.Context(), config, bytes.NewReader(backup), backupKey); err != nil {
		t.Fatal(err)
	}
	s, _ := d.crash().open(t)
	if n := s.Snapshot().Count(core.ConfigMaps); n != 30 {
		t.Errorf("%d config maps, want 30", n)
	}
}

// TestRestoreIsOneStep ends a restore at each of its writes: what was there is
// there, or the backup's state is.
func TestRestoreIsOneStep(t *testing.T) {
	backup := backupOf(t, 30)
	full := errors.New("ended")
	for n := 0; ; n++ {
		d := generations(t)
		left := n
		fault := func([]byte) (bool, error) {
			if left--; left < 0 {
				return false, full
			}
			return true, nil
		}
		d.wal.fault, d.snapshots.fault = fault, fault
		_, err := store.Restore(t.Context(), d.config(t), bytes.NewReader(backup), backupKey)
		d = d.crash()
		d.wal.fault, d.snapshots.fault = nil, nil
		s, _ := d.open(t)
		want := 50
		if err == nil {
			want = 30
		}
		if got := s.Snapshot().Count(core.ConfigMaps); got != want {
			t.Errorf("after %d writes, %v: %d config maps, want %d", n, err, got, want)
		}
		if err == nil {
			return
		}
	}
}

func TestDamagedBackup(t *testing.T) {
	backup := backupOf(t, 30)
	other, err := store.NewKey(bytes.Repeat([]byte{8}, store.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	check := func(data []byte, key store.Key) error {
		_, err := (&store.BackupReader{}).Read(bytes.NewReader(data), key)
		return err
	}
	if err := check(backup, backupKey); err != nil {
		t.Fatal(err)
	}
	if err := check(backup, other); !errors.Is(err, store.ErrWrongKey) {
		t.Errorf("another key: %v", err)
	}
	for i := range backup {
		damaged := bytes.Clone(backup)
		damaged[i] ^= 1 << (i % 8)
		if err := check(damaged, backupKey); err == nil {
			t.Fatalf("a bit of byte %d is wrong, and it passes", i)
		}
		if err := check(backup[:i], backupKey); !errors.Is(err, store.ErrDamaged) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	if err := check(append(bytes.Clone(backup), 0), backupKey); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("a byte more: %v", err)
	}
}

func FuzzReadBackup(f *testing.F) {
	f.Add(backupOf(f, 3))
	f.Add([]byte("WEFTBAK1\x60\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var got bytes.Buffer
		r := store.BackupReader{File: func(_ string, piece []byte) error { _, err := got.Write(piece); return err }}
		if _, err := r.Read(io.LimitReader(bytes.NewReader(data), 1<<20), backupKey); err == nil && len(data) < 100 {
			t.Errorf("%d bytes are a backup", len(data))
		}
	})
}
