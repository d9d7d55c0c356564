package store_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/weftrun/weft/core/store"
)

func TestLoadOrCreateKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	ids := make([]string, 8)
	var group sync.WaitGroup
	for i := range ids {
		group.Go(func() {
			key, err := store.LoadOrCreateKey(path)
			if err != nil {
				t.Error(err)
			}
			ids[i] = key.ID()
		})
	}
	group.Wait()
	for _, id := range ids {
		if id != ids[0] || len(id) != 16 {
			t.Errorf("creators got keys %q", ids)
			break
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != store.KeySize {
		t.Errorf("key file %v, %v", info, err)
	}
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 1 {
		t.Errorf("left behind: %v, %v", files, err)
	}
	secret, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := store.LoadOrCreateKey(path)
	for _, text := range []string{fmt.Sprint(key), fmt.Sprintf("%+v", key), fmt.Sprintf("%#v", key)} {
		if bytes.Contains([]byte(text), secret) || text != "key "+ids[0] {
			t.Errorf("a key prints as %q", text)
		}
	}
}

func TestLoadKeyRefuses(t *testing.T) {
	tests := map[string]struct {
		size int
		mode os.FileMode
		text string
	}{
		"group reads": {store.KeySize, 0o640, "its mode is 0640, others must have no rights: chmod 600"},
		"all read":    {store.KeySize, 0o604, "its mode is 0604"},
		"short":       {31, 0o600, "it has 31 bytes, must have 32"},
		"empty":       {0, 0o600, "it has 0 bytes"},
		"folder":      {-1, 0o700, "it must be a regular file"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			var err error
			if tc.size < 0 {
				err = os.Mkdir(path, tc.mode)
			} else if err = os.WriteFile(path, make([]byte, tc.size), tc.mode); err == nil {
				err = os.Chmod(path, tc.mode) // whatever the umask is
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := store.LoadOrCreateKey(path); err == nil || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v, want %q", err, tc.text)
			}
		})
	}
}
